"""A program with shorter axes: its constants are sliced, and what states a size states the new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx

from modelkit.core.channels import Cut, Positions
from modelkit.core.forms import Array
from modelkit.core.graph import Graph, Shape

from . import constants, resizing
from .graph import View
from .program import Program, attributes, leading_to
from .tensors import Tensor

_TURNING = ("Transpose", "Identity", "Cast")
_COUNTS = {  # the attributes that state a count, by the neutral graph's name for it
    "groups": ("group", "num_groups", "groups"),
    "heads": ("q_num_heads", "num_heads"),
    "kv_heads": ("kv_num_heads",),
    "hidden": ("hidden_size",),
}
Axes = Mapping[int, Positions]
Place = tuple[str, int]  # a node's name and the index of one of its inputs


def shrink(program: Program, view: View, cut: Cut) -> Program:
    """`cut` names nodes and edges of `view`, which is that of `program`. Raises ModelkitError where a size can't be restated."""
    slices = Slices(program)
    for (name, role), axes in cut.parameters.items():
        node, site = view.graph.by_name[name], view.sites[name]
        value = site.values[role]
        shape = constants.evaluate(program, value).shape
        if role == "weight" and site.transposed:
            axes = {len(shape) - 1 - axis: positions for axis, positions in axes.items()}
        elif len(shape) != len(node.parameters[role].shape):  # a bias with ones around it
            axes = {shape.index(max(shape)): positions for positions in axes.values()}
        for member in site.members:
            for index, read in enumerate(program.node[member].input):
                if read == value:
                    slices.ask((member, index), value, axes)
    _slice_masks(program, view.graph, view, cut, slices)
    replaced, tensors = slices.made()
    writer = resizing.Resizer(program, view.graph, cut, tensors)
    owner = {member: name for name, site in view.sites.items() for member in site.members}
    for node in program.nodes:
        changed = onnx.NodeProto()
        changed.CopyFrom(node)
        for index in range(len(changed.input)):
            changed.input[index] = replaced.get((node.name, index), changed.input[index])
        for name, count in cut.attributes.get(owner.get(node.name, ""), {}).items():
            stated = next((known for known in _COUNTS[name] if known in attributes(node)), None)
            if stated is not None:
                next(entry for entry in changed.attribute if entry.name == stated).i = count
        writer.write(changed)
    nodes, needed = leading_to(program.outputs, writer.nodes)
    structure = onnx.ModelProto()
    structure.CopyFrom(program.structure)
    structure.graph.ClearField("value_info")
    kept = {name: tensor for name, tensor in {**program.tensors, **tensors}.items() if name in needed}
    return Program(structure, tuple(nodes), kept, program.opaque, program.data_files)


def _slice_masks(program: Program, graph: Graph, view: View, cut: Cut, slices: Slices) -> None:
    """Constants that are no parameters (masks of booleans) but as long as an edge that gets shorter."""
    for node in graph.nodes:
        axes = cut.edges.get(node.outputs[0], {}) if node.outputs else {}
        shape = graph.shape(node.outputs[0]) if node.outputs else None
        if node.kind not in ("elementwise", "activation") or not axes or shape is None:
            continue
        raw, known = program.node[view.sites[node.name].members[0]], view.sites[node.name].values.values()
        for index, name in enumerate(raw.input):
            if name in program.constants and name not in known:
                slices.ask((raw.name, index), name, broadcast_axes(axes, shape, constants.evaluate(program, name).shape))


def broadcast_axes(axes: Axes, shape: Shape, own: Sequence[int]) -> dict[int, Positions]:
    """The axes of a constant of shape `own` that follow those of an edge of `shape`."""
    shift = len(shape) - len(own)
    return {axis - shift: kept for axis, kept in axes.items() if axis >= shift and own[axis - shift] == shape[axis] > 1}


class Slices:
    """Constants to be sliced, by the places where they are read. Tied ones stay tied where all places ask for the same."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._asked: dict[str, dict[Place, Axes]] = {}

    def ask(self, place: Place, value: str, axes: Axes) -> None:
        if axes:
            self._asked.setdefault(value, {})[place] = axes

    def made(self) -> tuple[dict[Place, str], dict[str, Tensor]]:
        """What each place reads instead, and the new tensors; those that take the name of an old one replace it."""
        program = self._program
        replaced: dict[Place, str] = {}
        tensors: dict[str, Tensor] = {}
        taken = {*program.tensors, *program.opaque, *program.inputs, *(name for node in program.nodes for name in node.output)}
        order = {node.name: index for index, node in enumerate(program.nodes)}
        while self._asked:
            # Values nearest to the outputs first: asking for what turns a tensor round is asking for that tensor.
            value = max(self._asked, key=lambda name: order[program.producer[name].name] if name in program.producer else -1)
            asked = self._asked.pop(value)
            wishes = {_key(axes): axes for axes in asked.values()}
            readers = {(n.name, i) for n in program.readers.get(value, ()) for i, name in enumerate(n.input) if name == value}
            agreed = len(wishes) == 1 and readers == set(asked) and value not in program.outputs
            maker = program.producer.get(value)
            if agreed and maker is not None and maker.op_type in _TURNING:
                self.ask((maker.name, 0), maker.input[0], _turned(maker, next(iter(wishes.values()))))
                continue
            root = value if maker is None else constants.storage(program, value).root or value
            names: dict[object, str] = {}
            for place, axes in asked.items():
                key = _key(axes)
                if key not in names:
                    array = constants.evaluate(program, value)
                    for axis, kept in axes.items():
                        array = np.take(array, kept, axis)
                    names[key] = root if agreed and maker is None else _fresh(root, taken)
                    tensors[names[key]] = Tensor.of(array)
                if names[key] != value:
                    replaced[place] = names[key]
        return replaced, tensors


def _key(axes: Axes) -> object:
    return tuple(sorted((axis, kept.tobytes()) for axis, kept in axes.items()))


def _turned(node: onnx.NodeProto, axes: Axes) -> Axes:
    if node.op_type != "Transpose":
        return axes
    perm = attributes(node).get("perm")
    order = list(perm) if isinstance(perm, (list, tuple)) else None
    return {(order[axis] if order else 1 - axis): kept for axis, kept in axes.items()}


def _fresh(name: str, taken: set[str]) -> str:
    unique, number = name, 1
    while unique in taken:
        number += 1
        unique = f"{name}_{number}"
    taken.add(unique)
    return unique


def sizes_of(program: Program, graph: Graph, cut: Cut) -> dict[str, Array]:
    """What every Shape node of the shorter program will give, for one sample."""
    found = {}
    for node in program.nodes:
        shape = graph.shape(node.input[0]) if node.op_type == "Shape" else None
        if shape is not None:
            given = attributes(node)
            start, end = given.get("start"), given.get("end")
            new = cut.shape(node.input[0], shape)[
                start if isinstance(start, int) else None : end if isinstance(end, int) else None
            ]
            found[node.output[0]] = np.array(new, np.int64)
    return found
