"""From one family to the other: the dense model is translated, then every weight form is given to the same layer again."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from ..analysis.synthetic import synthetic_inputs
from ..core.errors import ModelkitError, SkippedWarning
from ..core.forms import Dense, DynamicGrid, Grid, Sparse, WeightForm, sparse_pattern
from ..core.graph import Graph
from ..core.model import EdgeGrid, Model, Provenance
from .onnx.emission import Changes
from .onnx.model import OnnxModel
from .recovery import recovered

if TYPE_CHECKING:
    from .torch.model import TorchModel

Forms = Mapping[tuple[str, str], tuple[WeightForm, DynamicGrid | None]]


def to_onnx(model: Model) -> OnnxModel:
    """The model as an ONNX one, with its forms and grids. Raises ModelkitError for what ONNX can't express."""
    if isinstance(model, OnnxModel):
        return model
    from .torch.model import TorchModel

    assert isinstance(model, TorchModel)
    proto, weights = model.to_onnx()
    grids = _take_grids_out(proto)
    result = OnnxModel.from_proto(proto, model.path, model.path.parent)
    result.files = model.files  # type: ignore[method-assign]  # Its path is not an ONNX file that could be read for them.
    owner = {member: name for name, site in result._opened.sites.items() for member in site.members}
    placed = {}
    for edge, (grid, readers) in grids.items():
        if edge in result.graph.edges:
            named = None if readers is None else frozenset(owner[reader] for reader in readers if reader in owner)
            placed[edge] = EdgeGrid(grid, named)
        else:
            message = f"The activation {edge} is no value of its own in ONNX, and is not quantised there."
            warnings.warn(message, SkippedWarning, stacklevel=2)
    result.quantize_edges(placed)
    found = _by_weight(result.graph)
    # Layers that share a weight are met in the same order.
    layers = {name: found[initializer].pop(0) if found.get(initializer) else None for name, initializer in weights.items()}
    _apply(result, model.forms(), layers)
    _carry(model.provenance, result.provenance)
    return result


def to_torch(model: Model) -> TorchModel:
    """The model as a torch program, with its forms and grids. Raises ModelkitError for what has no counterpart in torch."""
    return to_torch_by_layer(model)[0]


def to_torch_by_layer(model: Model) -> tuple[TorchModel, Mapping[str, str | None]]:
    """As `to_torch`, and what each layer is called there; None for one that is no layer of its own."""
    from .onnx_to_torch import program_from_onnx
    from .torch.model import TorchModel

    if isinstance(model, TorchModel):
        return model, {node.name: node.name for node in model.graph.layers()}
    assert isinstance(model, OnnxModel)
    base = model.copy()
    changes = base._changes
    forms: dict[tuple[str, str], tuple[WeightForm, DynamicGrid | None]] = {
        (name, role): (form, changes.dynamic.get(name) if role == "weight" else None)
        for (name, role), form in changes.forms.items()
        if not isinstance(form, Dense)
    }
    base._changes = Changes({site: form for site, form in changes.forms.items() if site not in forms}, {}, dict(changes.grids))
    for (name, role), (form, activation) in _forms_of_file(model).items():
        try:
            base.set_parameter(name, role, Dense(form.decode()))
        except ModelkitError:
            continue  # The operator itself holds the weight in few bits, and is translated with it.
        forms[name, role] = form, activation
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "dense.onnx"
        base.save(file)
        sized = {name: x for name, x in synthetic_inputs(model.graph).items() if name in model._shapes.bound}
        opened = OnnxModel.open(file, example=sized)
        dense = [node for node in opened.graph.layers() if not node.skip and "weight" in node.parameters]
        weights = {node.name: node.parameters["weight"].stored for node in dense}
        try:  # with sizes that all differ, as torch takes equal ones to be the same for good
            exported = program_from_onnx(onnx.load(file, load_external_data=False), Path(folder))
        except ModelkitError:
            if not sized:
                raise
            exported = program_from_onnx(onnx.load(file, load_external_data=False), Path(folder), sized)
    result = TorchModel.of(exported, model.path)
    names = exported.graph_module.meta["onnx_names"]
    found = _by_weight(result.graph)
    layers: dict[str, str | None] = {}
    for name, stored in weights.items():
        candidates = next((found[names[key]] for key in stored if found.get(names.get(key, ""))), [])
        layers[name] = candidates.pop(0) if candidates else None
    _apply(result, forms, layers)
    _carry(model.provenance, result.provenance)
    return result, layers


def _forms_of_file(model: OnnxModel) -> dict[tuple[str, str], tuple[WeightForm, DynamicGrid | None]]:
    """The weights that the file holds in few bits or sparsely, where they can be told exactly."""
    found: dict[tuple[str, str], tuple[WeightForm, DynamicGrid | None]] = {}
    for node in model.graph.layers():
        weight = node.parameters.get("weight")
        dense = model.parameter(node.name, "weight") if weight and weight.form != "dense" and not node.skip else None
        if weight is None or dense is None or (node.name, "weight") in model._changes.forms:
            continue
        tensors = [model._program.tensors[name].array() for name in weight.stored if name in model._program.tensors]
        scales = [tensor for tensor in tensors if tensor.dtype.kind == "f"]
        axis = 1 if node.attributes.get("transposed") else 0
        pattern = sparse_pattern(weight.form)
        if pattern is not None:
            found[node.name, "weight"] = Sparse.of(dense, pattern), None
            continue
        form = recovered(dense, scales, weight.form, axis) or recovered(dense, scales, weight.form)
        if form is not None:
            found[node.name, "weight"] = form, None
    return found


def _apply(result: Model, forms: Forms, layers: Mapping[str, str | None]) -> None:
    for (name, role), (form, activation) in forms.items():
        layer = layers.get(name)
        if layer is None:
            message = f"{name} has no layer of its own in the other format, and is stored there as the values it decodes to."
            warnings.warn(message, SkippedWarning, stacklevel=3)
        else:
            result.set_parameter(layer, role, form, activation)


def _by_weight(graph: Graph) -> dict[str, list[str]]:
    """The layers by the names of the tensors that their weights are stored in."""
    found: dict[str, list[str]] = {}
    for node in graph.layers():
        weight = node.parameters.get("weight")
        for stored in weight.stored if weight and not node.skip else ():
            found.setdefault(stored, []).append(node.name)
    return found


def _carry(source: Provenance, target: Provenance) -> None:
    target.history[:] = copy.deepcopy(source.history)
    target.preprocessing, target.target = source.preprocessing, source.target


def _take_grids_out(proto: onnx.ModelProto) -> dict[str, tuple[Grid, frozenset[str] | None]]:
    """Remove pairs of QuantizeLinear and DequantizeLinear: the edges they are on, with the nodes that read them (None: all)."""
    graph = proto.graph
    for i, node in enumerate(graph.node):
        node.name = node.name or f"{node.op_type}_{i}"
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer if sum(tensor.dims) <= 1}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
    grids: dict[str, tuple[Grid, frozenset[str] | None]] = {}
    for first, second in _pairs(graph):
        edge, result = first.input[0], second.output[0]
        scale, zero = constants[first.input[1]], constants[first.input[2]]
        grid = Grid(float(scale), int(zero), zero.dtype.kind == "i")
        readers = frozenset(node.name for node in graph.node if result in node.input)
        others = [node for node in graph.node if edge in node.input and node is not first]
        is_output = {value.name for value in graph.output}
        everything = not others and (edge not in is_output)
        graph.node.remove(first)
        graph.node.remove(second)
        for node in graph.node:
            node.input[:] = [edge if name == result else name for name in node.input]
        if result in is_output:  # The value that is put on the grid takes the output's name.
            for node in graph.node:
                node.input[:] = [result if name == edge else name for name in node.input]
                node.output[:] = [result if name == edge else name for name in node.output]
            grids.update({result: grids.pop(edge)} if edge in grids else {})
            edge = result
        grids[edge] = grid, None if everything else readers
    return grids


def _pairs(graph: onnx.GraphProto) -> Iterator[tuple[onnx.NodeProto, onnx.NodeProto]]:
    dequantize = {node.input[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    firsts = [node for node in graph.node if node.op_type == "QuantizeLinear" and node.output[0] in dequantize]
    for first in firsts:
        yield first, dequantize[first.output[0]]
