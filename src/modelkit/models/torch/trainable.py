"""A torch program whose weights can be trained in the forms that they are stored in.

The program's own graph is run, so what was exported in inference mode stays in it: batch norms use the statistics they have, and
dropout does nothing. Zeros of sparse weights stay zero; quantised weights and activations are rounded as they will be, with the
gradient passed straight through (Bengio et al. 2013; Jacob et al. 2018).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.export.graph_signature import ConstantArgument, InputKind

from ...core import saturation
from ...core.forms import Array, Dense, Quantized, Sparse, WeightForm
from ...core.graph import Graph
from ...core.model import EdgeGrid
from .forms import Site, StoredForms, to_array, to_tensor
from .lowering import lower
from .program import Program, arguments

aten = torch.ops.aten


class Trainable(nn.Module):
    """`program` reads each weight from one placeholder. forms: those of the weights by target (FQN). sites: the target of each
    place that has a form. trained: the targets that learn. masked: whether zeros of the others than sparse weights stay zero
    too. outputs: what to call the program's. edges: values to give besides them.

    Parameters are kept in float32 whatever the weight's type, and cast where they are read.
    """

    def __init__(
        self, program: Program, forms: Mapping[str, WeightForm], sites: Mapping[Site, str], trained: Collection[str],
        masked: bool, outputs: Sequence[str], edges: Collection[str], device: str,
    ) -> None:  # fmt: skip
        super().__init__()
        self.outputs = list(outputs)
        self.edges = [name for name in edges if name not in self.outputs]
        self.sites = dict(sites)
        self.targets = sorted(set(trained))
        self._specs = program.inputs
        self._dtypes = {target: program.tensors[target].dtype for target in self.targets}
        self._weights = nn.ModuleDict()
        for index, target in enumerate(self.targets):
            form = forms.get(target, Dense(to_array(program.tensors[target])))
            self._weights[str(index)] = _weight(form, masked)
        placeholders = [node for node in program.graph.nodes if node.op == "placeholder"]
        self._placeholders = [node.name for node in placeholders]
        for name in self._placeholders:
            value = program.value(program.nodes()[name]) if self._specs[name].target not in self._dtypes else None
            self.register_buffer(f"constant_{name}", None if value is None else value.detach())
        wanted = [*(node.name for node in program.user_outputs()), *self.edges]
        self._graph = fx.GraphModule(program.source.graph_module, _training_graph(program, wanted, device))
        self.to(device)

    @classmethod
    def of(
        cls, program: Program, forms: StoredForms, grids: Mapping[str, EdgeGrid], graph: Graph, masked: bool,
        edges: Collection[str], device: str,
    ) -> Trainable:  # fmt: skip
        """Of a program with dense weights, and the forms and grids kept beside it. graph: its layers."""
        dense: dict[int, Dense] = {}
        decoded = {
            site: dataclasses.replace(entry, form=dense.setdefault(id(entry.form), Dense(entry.form.decode())))
            for site, entry in forms.items()
        }
        lowered, _ = lower(program, decoded, grids)
        nodes = lowered.nodes()
        sites = {site: str(lowered.target(arguments(nodes[site[0]])[site[1]])) for site in forms}
        by_target = {target: forms[site].form for site, target in sites.items()}
        trained = {
            str(spec.target) for spec in lowered.inputs.values()
            if spec.target in lowered.tensors and lowered.tensors[spec.target].is_floating_point()
            and (spec.kind is InputKind.PARAMETER or spec.target in by_target)
        } | _owned_elsewhere(graph, lowered)  # fmt: skip
        outputs = [node.name for node in program.user_outputs()]  # where they are on grids, others give them in `lowered`
        return cls(lowered, by_target, sites, trained, masked, outputs, edges, device)

    def forward(self, feeds: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The outputs and the edges asked for, by name. Raises KeyError for an input that is missing."""
        known = {
            target: weight().to(self._dtypes[target]) for target, weight in zip(self.targets, self._weights.values(), strict=True)
        }
        values: list[Any] = []
        for name in self._placeholders:
            spec = self._specs[name]
            if spec.kind is not InputKind.USER_INPUT:
                values.append(known[spec.target] if spec.target in known else getattr(self, f"constant_{name}"))
            else:
                values.append(spec.arg.value if isinstance(spec.arg, ConstantArgument) else feeds[name])
        return dict(zip([*self.outputs, *self.edges], self._graph(*values), strict=True))

    def latent(self, target: str) -> nn.Parameter:
        """The values that a target's weight is made from."""
        found = self._weights[str(self.targets.index(target))].latent
        assert isinstance(found, nn.Parameter)
        return found

    def stored(self) -> dict[str, WeightForm]:
        """The weights as they are now, each in the form it came in, by target."""
        found = {}
        for target, weight in zip(self.targets, self._weights.values(), strict=True):
            assert isinstance(weight, _DenseWeight | _SparseWeight | _QuantizedWeight)
            found[target] = weight.form()
        return found


class _DenseWeight(nn.Module):
    """A weight whose zeros stay zero if `masked`."""

    mask: torch.Tensor | None

    def __init__(self, form: Dense, masked: bool) -> None:
        super().__init__()
        self.latent = nn.Parameter(to_tensor(form.array).float())
        self.dtype = form.array.dtype
        self.register_buffer("mask", self.latent.detach() != 0 if masked else None, persistent=False)

    def forward(self) -> torch.Tensor:
        return self.latent if self.mask is None else self.latent * self.mask

    def form(self) -> WeightForm:
        with torch.no_grad():
            return Dense(to_array(self()).astype(self.dtype))


class _SparseWeight(nn.Module):
    mask: torch.Tensor

    def __init__(self, form: Sparse) -> None:
        super().__init__()
        self.latent = nn.Parameter(to_tensor(form.decode()).float())
        self.source = form
        self.register_buffer("mask", to_tensor(form.mask), persistent=False)

    def forward(self) -> torch.Tensor:
        return self.latent * self.mask

    def form(self) -> WeightForm:
        weight = to_array(self.latent).astype(self.source.values.dtype)
        return dataclasses.replace(self.source, values=weight[self.source.mask])


class _QuantizedWeight(nn.Module):
    """The grid stays; the codes stay within those that are in use, as some targets allow fewer than the bits do, and never
    saturate if they did not."""

    scale: torch.Tensor
    zero: torch.Tensor | None
    mask: torch.Tensor | None

    def __init__(self, form: Quantized, masked: bool) -> None:
        super().__init__()
        decoded = form.decode().astype(np.float32)
        self.latent = nn.Parameter(to_tensor(decoded))
        self.source = form
        most = int(np.abs(form.codes.astype(np.int64)).max(initial=1))
        self.low, self.high = (-most, most) if form.zero_point is None else (int(form.codes.min()), int(form.codes.max()))
        if form.bits == 32:  # a bias: its grid is so fine that only its type bounds it
            self.low, self.high = -(2**31), 2**31 - 1
        self.register_buffer("scale", to_tensor(_spread(form, form.scale)), persistent=False)
        zero = None if form.zero_point is None else to_tensor(_spread(form, form.zero_point.astype(np.float32)))
        self.register_buffer("zero", zero, persistent=False)
        self.register_buffer("mask", self.latent.detach() != 0 if masked else None, persistent=False)

        self.paired = most > saturation.ALONE and form.bits == 8 and form.signed and saturation.fits(form.codes)

    def forward(self) -> torch.Tensor:
        return (self.codes() if self.zero is None else self.codes() - self.zero) * self.scale

    def codes(self) -> torch.Tensor:
        latent = self.latent if self.mask is None else self.latent * self.mask
        steps = round_through(latent / torch.where(self.scale > 0, self.scale, 1.0))  # of a product of tiny grids it may be 0
        codes = torch.clamp(steps if self.zero is None else steps + self.zero, self.low, self.high)
        return _limited(codes) if self.paired else codes

    def form(self) -> WeightForm:
        with torch.no_grad():
            codes = to_array(self.codes()).astype(np.float64)
        bounds = np.iinfo(self.source.codes.dtype)
        return dataclasses.replace(self.source, codes=np.clip(codes, bounds.min, bounds.max).astype(self.source.codes.dtype))


def _limited(codes: torch.Tensor) -> torch.Tensor:
    """As `saturation.limited`, but with gradients."""
    first, second = saturation.pairs(codes)
    joined = torch.stack([first, second.clip(*saturation.bounds(first))], 2).flatten(1, 2)
    return torch.cat([joined, codes[:, joined.shape[1] :]], 1)


def _weight(form: WeightForm, masked: bool) -> nn.Module:
    if isinstance(form, Sparse):
        return _SparseWeight(form)
    return _QuantizedWeight(form, masked) if isinstance(form, Quantized) else _DenseWeight(form, masked and form.array.ndim > 1)


def _spread(form: Quantized, per_group: Array) -> Array:
    """Scales or zero points, one for each weight."""
    rows = np.broadcast_to(form.expand(per_group.astype(np.float32)), form.rows().shape)
    if form.codes.ndim == 0:
        return rows.reshape(())
    moved = (form.shape[form.axis], *(n for i, n in enumerate(form.shape) if i != form.axis))
    return np.ascontiguousarray(np.moveaxis(rows.reshape(moved), 0, form.axis))


class _RoundThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0]


def round_through(x: torch.Tensor) -> torch.Tensor:
    """Rounded; its gradient is that of x."""
    rounded: torch.Tensor = _RoundThrough.apply(x)  # type: ignore[no-untyped-call]
    return rounded


def _training_graph(program: Program, wanted: list[str], device: str) -> fx.Graph:
    """The graph that gives `wanted`, with gradients where rounding has none, and without what only checks."""
    copied = program.copy()
    nodes, graph = copied.nodes(), copied.graph
    copied.output_node().args = (tuple(nodes[name] for name in wanted),)
    for node in reversed(list(graph.nodes)):
        checks = not node.users and node.op == "call_function"
        if checks or _name(node.target) == "_set_grad_enabled":
            graph.erase_node(node)
        elif node.target is aten.round.default:
            node.target = round_through
        elif "device" in node.kwargs:
            node.kwargs = {**node.kwargs, "device": torch.device(device)}
    return graph


def _name(target: Callable[..., Any] | str) -> str:
    return getattr(target, "__name__", "")


def _owned_elsewhere(graph: Graph, program: Program) -> set[str]:
    """Weights and biases that the file holds as buffers or constants."""
    owned = [
        source for node in graph.nodes for role in ("weight", "bias") if role in node.parameters
        for source in node.parameters[role].stored
    ]  # fmt: skip
    return {name for name in owned if name in program.tensors and program.tensors[name].is_floating_point()}
