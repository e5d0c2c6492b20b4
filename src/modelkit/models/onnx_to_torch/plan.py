"""From an ONNX graph to the list of nodes to translate: constants named and folded, function bodies inlined."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from modelkit.core.errors import ModelkitError

from .evaluate import evaluate
from .node import Node
from .recurrent_gates import with_torch_gates
from .registry import translation_of
from .segment_loops import as_segment_reduction
from .values import Host, array_of, dtype_of, tensor_of, to_tensor

# Results of these on constants are not stored in place of their inputs: they only view a weight (whose name is to stay), or
# they decode one that is stored in fewer bits.
_VIEWS = {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Expand"}
_DECODERS = {"DequantizeLinear", "MatMulNBits"}
_RANDOM = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"}
_CONTROL = {"If", "Loop", "Scan"}
_SMALL = 64  # constants with no more entries than this are always folded


@dataclass
class Constant:
    """An array that becomes a parameter (floats of the file) or buffer under the name `fqn`."""

    array: np.ndarray
    fqn: str
    is_parameter: bool


@dataclass
class Plan:
    """What to translate, in order. `branches` holds the plans of the subgraphs of If nodes by node name and attribute."""

    nodes: list[Node]
    constants: dict[str, Constant]
    outputs: list[str]
    branches: dict[tuple[str, str], Plan] = field(default_factory=dict)

    def walk(self) -> Iterator[Plan]:
        """This plan and those of its branches."""
        yield self
        for branch in self.branches.values():
            yield from branch.walk()


class Names:
    """Parameter names that torch accepts: ONNX names with other characters replaced, made unique."""

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._folders: set[str] = set()

    def fqn(self, onnx_name: str) -> str:
        """Dots are kept as module nesting unless one name would be both a module and a parameter."""
        parts = [re.sub(r"\W", "_", part, flags=re.ASCII) for part in onnx_name.split(".")]
        name = ".".join(parts)
        prefixes = {".".join(parts[:i]) for i in range(1, len(parts))}
        if not all(parts) or prefixes & self._taken or name in self._folders or hasattr(_MODULE_ATTRIBUTES, parts[0]):
            name, prefixes = "p_" + re.sub(r"\W", "_", onnx_name, flags=re.ASCII), set()
        unique, count = name, 1
        while unique in self._taken or unique in self._folders:
            unique, count = f"{name}_{count}", count + 1
        self._taken.add(unique)
        self._folders |= prefixes
        return unique


def _module_attributes() -> object:
    import torch

    return torch.nn.Module()


_MODULE_ATTRIBUTES = _module_attributes()


def read_plan(graph: onnx.GraphProto, opset: int, base_dir: Path, names: Names, outer: dict[str, Constant] | None = None) -> Plan:
    """Read a graph; `outer` are the constants of the graphs around it."""
    known = dict(outer or {})
    constants: dict[str, Constant] = {}

    def keep(name: str, array: np.ndarray, is_parameter: bool) -> None:
        constants[name] = known[name] = Constant(array, names.fqn(name), is_parameter)

    for initializer in graph.initializer:
        array = _read(initializer, base_dir)
        keep(initializer.name, array, is_parameter=array.dtype.kind == "f" or array.dtype.name == "bfloat16")
    for sparse in graph.sparse_initializer:
        keep(sparse.values.name, _dense(sparse, base_dir), is_parameter=True)

    plan = Plan([], constants, [value.name for value in graph.output])
    for node in (part for proto in graph.node for part in with_torch_gates(Node.read(proto, opset))):
        node = as_segment_reduction(node) or node
        if node.operator == "Identity" and node.inputs[0] in known:
            constants[node.outputs[0]] = known[node.outputs[0]] = known[node.inputs[0]]
            continue
        if node.operator == "Constant":
            keep(node.outputs[0], _constant(node, base_dir), is_parameter=False)
            continue
        for attribute, subgraph in node.graphs.items():
            if node.operator == "If":
                plan.branches[node.name, attribute] = read_plan(subgraph, opset, base_dir, names, known)
        for output, array in _fold(node, known).items():
            keep(output, array, is_parameter=node.operator == "ReorderGates")
        if not all(output in known for output in node.outputs if output):
            plan.nodes.append(node)
    return plan


def refuse_unknown(plan: Plan) -> None:
    """Before any work: ModelkitError if an operator of the main graph has no translation."""
    for node in plan.nodes:
        if node.operator != "If" and translation_of(node.domain, node.operator) is None:
            domain = f"{node.domain}." if node.domain else ""
            fix = "Export the model without it" + (" (unrolled)." if node.operator in _CONTROL else ", or keep the ONNX format.")
            raise ModelkitError(f"The operator {domain}{node.operator} (node {node.name}) can't be translated to torch.", fix)


def _read(tensor: onnx.TensorProto, base_dir: Path) -> np.ndarray:
    if tensor.data_type == onnx.TensorProto.STRING:
        raise ModelkitError(
            f"The constant {tensor.name} holds strings, which torch has no tensors for.", "Remove the text processing."
        )
    return np.asarray(numpy_helper.to_array(tensor, str(base_dir)))


def _dense(sparse: onnx.SparseTensorProto, base_dir: Path) -> np.ndarray:
    values, places = _read(sparse.values, base_dir), _read(sparse.indices, base_dir)
    array = np.zeros(tuple(sparse.dims), values.dtype)
    if places.ndim == 1:
        array.reshape(-1)[places] = values
    else:
        array[tuple(places.T)] = values
    return array


def _constant(node: Node, base_dir: Path) -> np.ndarray:
    kind, value = next(iter(node.attributes.items()))
    if kind == "value":
        return _read(value, base_dir)
    if kind in ("value_int", "value_ints"):
        return np.asarray(value, np.int64)
    if kind in ("value_float", "value_floats"):
        return np.asarray(value, np.float32)
    raise node.refuse(f"a constant given as {kind}")


def _fold(node: Node, known: dict[str, Constant]) -> dict[str, np.ndarray]:
    """The outputs of a node all of whose inputs are constant, or nothing where it is to stay in the graph."""
    inputs = [known.get(name) for name in node.inputs if name]
    if node.operator in _RANDOM | _CONTROL or translation_of(node.domain, node.operator) is None:
        return {}
    if not all(inputs) or (not inputs and node.operator != "EyeLike"):
        return {}
    arrays = [constant.array for constant in inputs if constant]
    large = any(array.size > _SMALL for array in arrays)
    if node.operator in _DECODERS and any(array.size > 1 for array in arrays):
        return {}
    if node.operator in _VIEWS | {"Cast"} and large and arrays[0].dtype.kind in "fV":
        return {}
    values = [_value(known[name].array) if name else None for name in node.inputs]
    results = [array_of(to_tensor(result)) for result in evaluate(node, values)]
    if sum(array.nbytes for array in results) > 2 * sum(array.nbytes for array in arrays) + 65536:
        return {}  # it would only make the file larger
    return {name: array for name, array in zip(node.outputs, results, strict=False) if name}


def _value(array: np.ndarray) -> Host:
    return Host(array, dtype_of(array), tensor_of(array))
