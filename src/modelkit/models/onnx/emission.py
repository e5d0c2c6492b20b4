"""A changed model written out as a program: new weights, activation grids, dynamic quantisation."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnx

from modelkit.core.forms import Array, Dense, DynamicGrid, Grid, Quantized, Sparse, WeightForm
from modelkit.core.graph import Node
from modelkit.core.model import EdgeGrid

from . import blocked, lowering
from .emitter import Emitter
from .graph import View
from .layers import Site
from .program import Program
from .shapes import resizable


@dataclass
class Changes:
    """What was done to a model since it was opened. `forms` by node and role, `dynamic` the layers whose input is quantised as it
    comes, `grids` by edge."""

    forms: dict[tuple[str, str], WeightForm] = field(default_factory=dict)
    dynamic: dict[str, DynamicGrid] = field(default_factory=dict)
    grids: dict[str, EdgeGrid] = field(default_factory=dict)

    def copy(self) -> Changes:
        return Changes(dict(self.forms), dict(self.dynamic), dict(self.grids))

    def only(self, layers: Collection[str]) -> Changes:
        """The changes of these layers alone, and the grids."""
        forms = {site: form for site, form in self.forms.items() if site[0] in layers}
        return Changes(forms, {name: grid for name, grid in self.dynamic.items() if name in layers}, dict(self.grids))

    def layers(self) -> set[str]:
        return {name for name, _ in self.forms}


def write(program: Program, view: View, changes: Changes) -> Program:
    """`program` with `changes`, which name nodes and edges of `view`."""
    return _Writer(program, view, changes).written()


class _Writer:
    def __init__(self, program: Program, view: View, changes: Changes) -> None:
        self.program, self.graph, self.sites, self.changes = program, view.graph, view.sites, changes
        self.changed = {self.sites[name].members[0]: name for name in changes.layers()}
        self.owner = {member: name for name, site in self.sites.items() for member in site.members}
        self.skipped = {member for name in changes.layers() for member in self.sites[name].members[1:]}
        self.out = Emitter(program, [slot for name, role in changes.forms for slot in slots(self.sites[name], role)])
        # Edges that are model outputs and quantised for every reader: the output takes the dequantised value, the raw one moves.
        self.moved = {
            edge: self.out.fresh(f"{edge}.raw")
            for edge, grid in changes.grids.items()
            if grid.readers is None and edge in program.outputs and edge not in program.inputs
        }
        self.quantised: dict[str, str] = {}

    @cached_property
    def resizable(self) -> frozenset[str]:
        return resizable(self.program)

    def written(self) -> Program:
        for edge in self.program.inputs:
            self._quantise(edge)
        for node in self.program.nodes:
            if node.name in self.changed:
                name = self.changed[node.name]
                self._layer(node, self.graph.by_name[name], self.sites[name])
            elif node.name not in self.skipped:
                self.out.nodes.append(self._rewired(node))
            for edge in [self.sites[self.changed[node.name]].output] if node.name in self.changed else node.output:
                self._quantise(edge)
        return self.out.program_written()

    def _quantise(self, edge: str) -> None:
        """The quantise/dequantise pair behind an edge, where it has a grid."""
        if edge not in self.changes.grids or edge in self.quantised:
            return
        placed, dtype, out = self.changes.grids[edge], self.graph.edges[edge].dtype, self.out
        grid, raw = placed.grid, self.moved.get(edge, edge)
        target = edge if edge in self.moved else out.fresh(f"{edge}.dequantized")
        self.quantised[edge] = target
        if dtype != "float32":
            raw = out.node("Cast", [raw], out.fresh(f"{edge}.float32"), to=onnx.TensorProto.FLOAT)
        if placed.factor is not None:
            factor = out.tensor(f"{edge}.factor", placed.factor.astype(np.float32))
            raw = out.node("Mul", [raw, factor], out.fresh(f"{edge}.smoothed"))
        steps = [
            out.tensor(f"{edge}.scale", np.array(grid.scale, np.float32)),
            out.tensor(f"{edge}.zero_point", np.array(grid.zero_point, np.int8 if grid.signed else np.uint8)),
        ]
        codes = out.node("QuantizeLinear", [raw, *steps], out.fresh(f"{edge}.quantized"))
        if dtype == "float32":
            out.node("DequantizeLinear", [codes, *steps], target)
        else:
            value = out.node("DequantizeLinear", [codes, *steps], out.fresh(f"{edge}.dequantized.float32"))
            out.node("Cast", [value], target, to=lowering.type_code(dtype))

    def _read(self, edge: str, reader: str) -> str:
        """What the node `reader` reads instead of `edge`."""
        grid = self.changes.grids.get(edge)
        return edge if grid is None or not (grid.readers is None or reader in grid.readers) else self.quantised.get(edge, edge)

    def _rewired(self, node: onnx.NodeProto) -> onnx.NodeProto:
        """The node with its inputs and outputs where they now are; the same object if nothing changes."""
        reader = self.owner.get(node.name, "")
        inputs = [self._read(edge, reader) for edge in node.input]
        outputs = [self.moved.get(edge, edge) for edge in node.output]
        if inputs == list(node.input) and outputs == list(node.output):
            return node
        rewired = onnx.NodeProto()
        rewired.CopyFrom(node)
        rewired.input[:], rewired.output[:] = inputs, outputs
        return rewired

    def _grid_of_input(self, node: Node) -> Grid | None:
        found = self.changes.grids.get(node.inputs[0])
        return found.grid if found is not None and (found.readers is None or node.name in found.readers) else None

    def _layer(self, original: onnx.NodeProto, node: Node, site: Site) -> None:
        form, bias = self.changes.forms.get((node.name, "weight")), self.changes.forms.get((node.name, "bias"))
        if node.name in self.changes.dynamic and isinstance(form, Quantized):
            if form.group_size and form.scale.shape[1] > 1:
                self._blocked(node, site, form)
            else:
                self._dynamic(node, site, form)
        elif site.style == "gather":
            self._embedding(original, node, site, form)
        elif site.style == "norm":
            self._norm(original, node)
        elif site.style == "matmul":
            self._product(original, node, site, form)
        else:
            self._with_bias_input(original, node, site, form, bias)

    def _norm(self, original: onnx.NodeProto, node: Node) -> None:
        changed = onnx.NodeProto()
        changed.CopyFrom(self._rewired(original))
        for slot, role in enumerate(("weight", "bias"), 1):
            form = self.changes.forms.get((node.name, role))
            if form is not None:
                changed.input[slot] = self.out.tensor(f"{node.name}.{role}", form.decode())
        self.out.nodes.append(changed)

    def _operand(self, node: Node, site: Site, form: WeightForm) -> tuple[str, bool]:
        """The weight as the operator reads it, and whether that is on a grid with the input."""
        base = f"{node.name}.weight"
        if isinstance(form, Quantized) and not form.group_size and self._computes_in_integers(node):
            return lowering.grid_operand(self.out, base, form, site.transposed), True
        return lowering.float_operand(self.out, base, form, node.parameters["weight"].dtype, site.transposed), False

    def _computes_in_integers(self, node: Node) -> bool:
        """Whether the runtime can fuse the layer with its quantised input. A convolution needs a quantised output as well."""
        if self._grid_of_input(node) is None or self.graph.edges[node.inputs[0]].dtype != "float32":
            return False
        if node.kind == "conv":
            readers = self.graph.consumers(node.outputs[0])
            behind = [node.outputs[0], *(reader.outputs[0] for reader in readers if reader.kind == "activation")]
            return node.op == "Conv" and any(edge in self.changes.grids for edge in behind)
        return True

    def _bias(self, node: Node, site: Site) -> Array | None:
        form = self.changes.forms.get((node.name, "bias"))
        if form is not None:
            return form.decode().reshape(-1)
        return site.read["bias"]() if "bias" in site.read else None

    def _product(self, original: onnx.NodeProto, node: Node, site: Site, form: WeightForm | None) -> None:
        """MatMul, and an Add for the bias.

        ONNX Runtime joins both to a Gemm where it knows all sizes, and computes that in integers only if the bias is on a grid
        too (128 × 1536 × 384: 1.2 ms, else 8 ms). Where it doesn't, a float bias can be fused with what follows, say GELU."""
        out = self.out
        operand, integers = (original.input[1], False) if form is None else self._operand(node, site, form)
        bias, target = self._bias(node, site), self.moved.get(site.output, site.output)
        value = self._read(node.inputs[0], node.name)
        if bias is None:
            out.node("MatMul", [value, operand], target)
            return
        rank = len(self.graph.shape(site.output) or ())
        grid = self._grid_of_input(node)
        if integers and isinstance(form, Quantized) and grid is not None and (rank == 2 or node.inputs[0] not in self.resizable):
            given = self.changes.forms.get((node.name, "bias"))
            vector = self._integer_bias(f"{node.name}.bias", given, bias, np.float32(grid.scale) * form.scale.reshape(-1))
        else:
            vector = out.tensor(f"{node.name}.bias", bias)
        if integers and rank == 2:
            out.node("Gemm", [value, operand, vector], target)
        else:
            product = out.node("MatMul", [value, operand], out.fresh(f"{site.output}.product"))
            out.node("Add", [vector, product], target)

    def _with_bias_input(
        self, original: onnx.NodeProto, node: Node, site: Site, form: WeightForm | None, bias: WeightForm | None
    ) -> None:
        """Conv, ConvTranspose, Gemm: the bias is the operator's third input."""
        out = self.out
        changed = onnx.NodeProto()
        changed.CopyFrom(self._rewired(original))
        integers = False
        if form is not None:
            changed.input[1], integers = self._operand(node, site, form)
        vector = self._bias(node, site)
        changed.output[0] = self.moved.get(site.output, site.output)
        if vector is not None and (integers or bias is not None or site.members[1:]):
            name = f"{node.name}.bias"
            grid = self._grid_of_input(node)
            if integers and isinstance(form, Quantized) and grid is not None:
                vector_name = self._integer_bias(name, bias, vector, np.float32(grid.scale) * form.scale.reshape(-1))
            else:
                vector_name = out.tensor(name, vector.astype(lowering.numpy_dtype(node.parameters["weight"].dtype), copy=False))
            del changed.input[2:]
            changed.input.append(vector_name)
        out.nodes.append(changed)

    def _integer_bias(self, name: str, form: WeightForm | None, vector: Array, scale: Array) -> str:
        """The bias as int32 on the grid of input scale · weight scale, which integer kernels need."""
        if isinstance(form, Quantized) and form.bits == 32:
            codes, scale = form.codes, form.scale.reshape(-1)
        else:
            codes = np.clip(np.rint(vector.astype(np.float64) / scale), -(2**31), 2**31 - 1).astype(np.int32)
        scale = scale.reshape(()) if scale.size == 1 else scale
        axis: dict[str, int] = {} if scale.ndim == 0 else {"axis": 0}
        out = self.out
        names = [out.tensor(f"{name}.codes", codes), out.tensor(f"{name}.scale", scale.astype(np.float32))]
        return out.node("DequantizeLinear", names, out.fresh(f"{name}.dequantized"), "", **axis)

    def _dynamic(self, node: Node, site: Site, form: Quantized) -> None:
        """The arrangement that ONNX Runtime fuses to one DynamicQuantizeMatMul; layers that read one edge share its codes."""
        out, target = self.out, self.moved.get(site.output, site.output)
        codes, scale, zero = lowering.integer_operand(out, f"{node.name}.weight", form)
        edge = self._float32(node.inputs[0], node.name)
        if ("dynamic", edge) not in out.written:
            parts = [out.fresh(f"{edge}.dynamic_{part}") for part in ("codes", "scale", "zero_point")]
            out.written["dynamic", edge] = out.nodes_with("DynamicQuantizeLinear", [edge], parts)[0]
            out.written["dynamic scale", edge], out.written["dynamic zero", edge] = parts[1:]
        quantised, step, offset = (out.written[part, edge] for part in ("dynamic", "dynamic scale", "dynamic zero"))
        inputs = [quantised, codes, offset, *([zero] if zero else [])]
        name = f"{site.output}.integers"
        product = out.node("MatMulInteger", inputs, out.fresh(name))
        product = out.node("Cast", [product], out.fresh(f"{name}.float"), to=onnx.TensorProto.FLOAT)
        both = out.node("Mul", [step, scale], out.fresh(f"{name}.scale"))
        self._finish(node, site, target, "Mul", [product, both])

    def _blocked(self, node: Node, site: Site, form: Quantized) -> None:
        """MatMulNBits with activations rounded to int8 by block: the runtime's fast way for few-bit weights."""
        edge = self._float32(node.inputs[0], node.name)
        inputs = blocked.inputs(self.out, f"{node.name}.weight", form)
        self._finish(
            node, site, self.moved.get(site.output, site.output), "MatMulNBits", [edge, *inputs], blocked.attributes(form)
        )

    def _float32(self, edge: str, reader: str) -> str:
        value = self._read(edge, reader)
        if self.graph.edges[edge].dtype == "float32":
            return value
        key = ("float32", value)
        if key not in self.out.written:
            self.out.written[key] = self.out.node("Cast", [value], self.out.fresh(f"{value}.float32"), to=onnx.TensorProto.FLOAT)
        return self.out.written[key]

    def _finish(
        self, node: Node, site: Site, target: str, op: str, inputs: list[str], given: dict[str, int] | None = None
    ) -> None:
        """The last float32 product, then the bias, then the model's own type, whichever of them there are."""
        out, bias, dtype = self.out, self._bias(node, site), node.parameters["weight"].dtype
        steps = [(op, inputs)]
        if bias is not None:
            steps.append(("Add", [out.tensor(f"{node.name}.bias", bias.astype(np.float32))]))
        if dtype != "float32":
            steps.append(("Cast", []))
        value = ""
        for index, (name, operands) in enumerate(steps):
            result = target if index == len(steps) - 1 else out.fresh(f"{site.output}.{name.lower()}")
            attributes = {"to": lowering.type_code(dtype)} if name == "Cast" else given or {} if index == 0 else {}
            domain = "com.microsoft" if name == "MatMulNBits" else ""
            value = out.node(name, [value, *operands] if index else operands, result, domain, **attributes)

    def _embedding(self, original: onnx.NodeProto, node: Node, site: Site, form: WeightForm | None) -> None:
        base, dtype, out = f"{node.name}.weight", node.parameters["weight"].dtype, self.out
        shape = self.graph.shape(node.inputs[0])
        if isinstance(form, Quantized) and shape is not None and (form.axis == 0 or form.per_tensor):
            lowering.looked_up(out, base, form, node.inputs[0], len(shape), self.moved.get(site.output, site.output), dtype)
        elif form is not None:
            changed = onnx.NodeProto()
            changed.CopyFrom(self._rewired(original))
            changed.input[0] = lowering.float_operand(out, base, form, dtype, False)
            out.nodes.append(changed)


def slots(site: Site, role: str) -> list[tuple[str, int]]:
    """The nodes' inputs (node, index) at which a parameter comes in."""
    if role == "weight":
        return [(site.members[0], site.slot)]
    return [site.bias] if site.bias else []


def reason_against(node: Node, site: Site, form: WeightForm, dynamic: bool) -> str | None:
    """Why a weight can't be stored in this form at this place; None when it can."""
    if site.style == "norm" and isinstance(form, Dense):
        return None
    if not node.is_layer or site.style == "fixed" or node.skip:
        return node.skip or "it is not a layer whose weight can be replaced"
    if dynamic and node.kind != "linear":
        return "only linear layers can quantise their input at run time"
    if isinstance(form, Dense | Sparse):
        return (
            f"a {'dense' if isinstance(form, Dense) else 'sparse'} weight has no integers to multiply with" if dynamic else None
        )
    if not 1 <= form.bits <= 8:
        return f"weights of {form.bits} bits are not supported in ONNX files"
    if dynamic and form.group_size and form.scale.shape[1:] != (1,):
        return blocked.reason_against(form)
    if dynamic and not form.per_tensor and form.axis != 0:
        return "integer products need one grid per output"
    return None
