"""Nodes that state sizes, rewritten for tensors whose axes got shorter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from modelkit.core.channels import Cut, new_places, padding
from modelkit.core.errors import ModelkitError
from modelkit.core.forms import Array
from modelkit.core.graph import Graph, Shape

from . import constants
from .program import Program, attributes
from .tensors import Tensor


class Resizer:
    """Collects the program's nodes, each as it must be now. New constants go to `tensors`."""

    def __init__(self, program: Program, graph: Graph, cut: Cut, tensors: dict[str, Tensor]) -> None:
        self.program, self.graph, self.cut, self.tensors = program, graph, cut, tensors
        self.nodes: list[onnx.NodeProto] = []
        self._taken = {*program.tensors, *tensors, *program.opaque, *program.inputs}
        self._taken.update(name for node in program.nodes for name in node.output)
        self._names = set(program.node)
        self._sizes: Program | None = None
        self._rules: dict[str, Callable[[onnx.NodeProto], None]] = {
            "Reshape": lambda node: self._target(node, 1),
            "Expand": lambda node: self._target(node, 1),
            "ConstantOfShape": lambda node: self._target(node, 0),
            "Split": self._split,
            "Slice": self._slice,
            "Gather": self._gather,
            "Pad": self._pad,
            "Resize": lambda node: self._target(node, 3) if len(node.input) > 3 else None,
        }

    def write(self, node: onnx.NodeProto) -> None:
        """Take a node over; `node` is a copy that may be changed."""
        touched = any(name in self.cut.edges for name in (*node.input, *node.output))
        if touched and node.op_type in self._rules:
            self._rules[node.op_type](node)
        self.nodes.append(node)

    def _old(self, edge: str) -> Shape:
        return self.graph.shape(edge) or ()

    def _new(self, edge: str) -> Shape:
        return self.cut.shape(edge, self._old(edge))

    def constant(self, name: str, array: Array) -> str:
        unique, number = name, 1
        while unique in self._taken:
            number += 1
            unique = f"{name}_{number}"
        self._taken.add(unique)
        self.tensors[unique] = Tensor.of(array)
        return unique

    def _insert(self, op: str, inputs: list[str], base: str, **given: Any) -> str:
        output = base
        while output in self._taken or output in self._names:
            output += "_"
        self._taken.add(output)
        self._names.add(output)
        self.nodes.append(onnx.helper.make_node(op, inputs, [output], name=output, **given))
        return output

    def _target(self, node: onnx.NodeProto, slot: int) -> None:
        """An input that is the shape of the output."""
        if node.op_type == "Reshape" and len(node.input) < 2:  # before opset 5
            raise _unsupported(node)
        out, name = self._new(node.output[0]), node.input[slot]
        after = self._new(node.input[0]) if slot else ()
        stated = self._stated(name)
        if stated is None or stated.size != len(out):
            raise _unsupported(node)
        whole = attributes(node).get("allowzero")
        wrong = []
        for axis, entry in enumerate(int(n) for n in stated):
            copies = entry == 0 and node.op_type == "Reshape" and not whole
            keeps = entry == 1 and node.op_type == "Expand"
            given = after[axis] if copies and axis < len(after) else out[axis] if entry == -1 or keeps else entry
            if given != out[axis]:
                wrong.append(axis)
        if wrong:
            node.input[slot] = self._corrected(node, name, stated, wrong, out)

    def _corrected(self, node: onnx.NodeProto, name: str, stated: Array, wrong: list[int], out: Shape) -> str:
        """The same shape with other numbers at `wrong`: where it is computed, those are scaled, as the batch may be in them."""
        new = stated.copy()
        for axis in wrong:
            new[axis] = out[axis]
        if name in self.program.constants:
            return self.constant(f"{node.output[0]}.shape", new)
        maker = self.program.producer[name]
        pieces = [self._old(piece) for piece in maker.input]
        if maker.op_type == "Concat" and len(maker.input) == len(stated) and all(piece in ((1,), ()) for piece in pieces):
            if all(maker.input[axis] in self.program.constants for axis in wrong):
                inputs = [
                    self.constant(f"{node.output[0]}.size", new[[axis]]) if axis in wrong else piece
                    for axis, piece in enumerate(maker.input)
                ]
                return self._insert("Concat", inputs, f"{node.output[0]}.shape", axis=0)
        up, down = np.ones_like(stated), np.ones_like(stated)
        for axis in wrong:
            common = np.gcd(new[axis], stated[axis])
            up[axis], down[axis] = new[axis] // common, stated[axis] // common
        base = f"{node.output[0]}.shape"
        scaled = self._insert("Mul", [name, self.constant(f"{base}.up", up)], f"{base}.scaled")
        return self._insert("Div", [scaled, self.constant(f"{base}.down", down)], base)

    def _stated(self, name: str) -> Array | None:
        """The integers that `name` will be in the shorter program, for one sample; None where they depend on data."""
        if name in self.program.constants:
            return constants.evaluate(self.program, name).reshape(-1)
        if self._sizes is None:
            from .shrinking import sizes_of

            known = {size: Tensor.of(array) for size, array in sizes_of(self.program, self.graph, self.cut).items()}
            nodes = tuple(node for node in self.program.nodes if node.op_type != "Shape")
            self._sizes = Program(self.program.structure, nodes, {**self.program.tensors, **known}, self.program.opaque)
        if name not in self._sizes.constants:
            return None
        return constants.evaluate(self._sizes, name).reshape(-1)

    def _split(self, node: onnx.NodeProto) -> None:
        axis = _integer(node, "axis", 0) % len(self._old(node.input[0]))
        sizes = [self._new(out)[axis] for out in node.output]
        for entry in [entry for entry in node.attribute if entry.name in ("split", "num_outputs")]:
            node.attribute.remove(entry)
        if self.program.opset < 13:
            node.attribute.append(onnx.helper.make_attribute("split", sizes))
        else:
            del node.input[1:]
            node.input.append(self.constant(f"{node.output[0]}.sizes", np.array(sizes, np.int64)))

    def _slice(self, node: onnx.NodeProto) -> None:
        """Bounds among the positions that are left; a look-up of positions where those lie no longer at even distances."""
        edge, old = node.input[0], self._old(node.input[0])
        bounds = [self._bounds(node, name, slot) for slot, name in ((1, "starts"), (2, "ends"), (3, "axes"), (4, "steps"))]
        cut = self.cut.edges.get(edge, {})
        starts, ends = bounds[0], bounds[1]
        if starts is None or ends is None:
            if any(self._old(edge)[axis] != self._old(node.output[0])[axis] for axis in cut):
                raise _unsupported(node)
            return
        axes = [int(axis) % len(old) for axis in (range(len(starts)) if bounds[2] is None else bounds[2])]
        steps = [1] * len(starts) if bounds[3] is None else list(bounds[3])
        if not cut.keys() & set(axes):
            return
        new_starts, new_ends, new_steps = list(starts), list(ends), list(steps)
        for index, axis in enumerate(axes):
            if axis not in cut:
                continue
            taken = np.arange(old[axis])[slice(*(_bound(n) for n in (starts[index], ends[index], steps[index])))]
            places = new_places(cut[axis], taken)
            if len(places) and (np.diff(places) == 1).all():
                new_starts[index], new_ends[index], new_steps[index] = int(places[0]), int(places[-1]) + 1, 1
            else:
                node.input[0] = self._look_up(node, node.input[0], places, axis)
                new_starts[index], new_ends[index], new_steps[index] = 0, len(places), 1
        arrays = {"starts": new_starts, "ends": new_ends, "axes": axes, "steps": new_steps}
        if self.program.opset < 10:
            del node.attribute[:]
            node.attribute.extend(onnx.helper.make_attribute(name, arrays[name]) for name in ("starts", "ends", "axes"))
        else:
            names = [self.constant(f"{node.output[0]}.{name}", np.array(array, np.int64)) for name, array in arrays.items()]
            del node.input[1:]
            node.input.extend(names)

    def _bounds(self, node: onnx.NodeProto, name: str, slot: int) -> list[int] | None:
        given = attributes(node).get(name)
        if isinstance(given, (list, tuple)):
            return [int(n) for n in given]
        if len(node.input) <= slot or not node.input[slot]:
            return None
        stated = self._stated(node.input[slot])
        return None if stated is None else [int(n) for n in stated]

    def _look_up(self, node: onnx.NodeProto, value: str, places: Array, axis: int) -> str:
        index = self.constant(f"{node.output[0]}.places", places.astype(np.int64))
        return self._insert("Gather", [value, index], f"{node.output[0]}.taken", axis=axis)

    def _gather(self, node: onnx.NodeProto) -> None:
        """Indices among the positions that are left."""
        old = self._old(node.input[0])
        axis = _integer(node, "axis", 0) % max(len(old), 1)
        cut = self.cut.edges.get(node.input[0], {}).get(axis)
        if cut is None:
            return
        if node.input[1] not in self.program.constants:
            raise _unsupported(node)
        index = constants.evaluate(self.program, node.input[1])
        taken = np.where(index < 0, index + old[axis], index)
        kept = np.isin(taken, cut)
        if index.ndim > 1 and not kept.all():
            raise _unsupported(node)
        places = np.searchsorted(cut, taken if index.ndim == 0 else taken[kept].reshape(taken.shape if kept.all() else -1))
        node.input[1] = self.constant(f"{node.output[0]}.places", np.asarray(places, index.dtype))

    def _pad(self, node: onnx.NodeProto) -> None:
        edge, out, rank = node.input[0], node.output[0], len(self._old(node.input[0]))
        stated = self._bounds(node, "pads", 1)
        chosen = self._bounds(node, "axes", 3)
        if stated is None:
            raise _unsupported(node)
        axes = [axis % rank for axis in (range(rank) if chosen is None else chosen)]
        pads = list(stated)
        for index, axis in enumerate(axes):
            before, after = pads[index], pads[index + len(axes)]
            pads[index], pads[index + len(axes)] = padding(
                before, after, self._old(edge)[axis], self.cut.edges.get(edge, {}).get(axis),
                self._old(out)[axis], self.cut.edges.get(out, {}).get(axis),
            )  # fmt: skip
        if self.program.opset < 11:
            next(entry for entry in node.attribute if entry.name == "pads").ints[:] = pads
        else:
            node.input[1] = self.constant(f"{out}.pads", np.array(pads, np.int64))


def _bound(value: int) -> int:
    """Bounds that mean the end are written as the largest (or smallest) integers."""
    return max(min(value, 1 << 62), -(1 << 62))


def _integer(node: onnx.NodeProto, name: str, default: int) -> int:
    value = attributes(node).get(name, default)
    return value if isinstance(value, int) else default


def _unsupported(node: onnx.NodeProto) -> ModelkitError:
    return ModelkitError(
        f"The sizes that {node.op_type} {node.name} states can't be restated for fewer channels.",
        f"Leave the layers around {node.name} out with --ignore.",
    )
