"""What a format adapter gives: the neutral graph of a model, and the few operations that change it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .channels import Cut
from .errors import ModelkitError
from .forms import Array, DynamicGrid, Grid, WeightForm
from .graph import Graph
from .lowrank import LowRank

Feeds = Mapping[str, Array]  # input name → array, the batch first


@dataclass(frozen=True)
class EdgeGrid:
    """An activation put on a grid: a quantise/dequantise pair behind `edge`, read by the nodes named in `readers` (the others,
    and the model's outputs, read the raw value); None: everything reads the quantised value, model outputs too.

    `factor` (features,): the activation is first multiplied by it along its last axis, for readers whose weights make up for
    that (see `analysis/smoothing.py`)."""

    grid: Grid
    readers: frozenset[str] | None = None
    factor: Array | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Preprocessing:
    """How raw uint8 images become the model's input: x = (raw · scale − mean) / std, mean and std per channel."""

    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)


@dataclass
class Provenance:
    """What travels inside the file: the passes that made it, the forms of its layers, its preprocessing, and the processor that
    its integer layers are laid out for (of `core.targets`)."""

    history: list[dict[str, Any]] = field(default_factory=list)
    forms: dict[str, str] = field(default_factory=dict)
    preprocessing: Preprocessing | None = None
    target: str | None = None


class Model(Protocol):
    """An opened model. Changing methods act at once, and `graph` then shows the changed model."""

    path: Path
    format: str  # "onnx", "pt2", "torchscript", "module", "state_dict"
    provenance: Provenance

    @property
    def family(self) -> str:
        """ "onnx" or "torch": which output format the model stays in when OUT is not given."""
        ...

    @property
    def graph(self) -> Graph: ...

    def files(self) -> list[Path]:
        """Every file that the model at `path` needs: external data and shards too."""
        ...

    def parameter(self, node: str, role: str) -> Array | None:
        """A parameter decoded to a dense array in the neutral layout; None if the node has none in that role."""
        ...

    def set_parameter(self, node: str, role: str, form: WeightForm, activation: DynamicGrid | None = None) -> None:
        """Store a parameter in this form (a new bias may be added this way). `activation` DynamicGrid (linear weights only)
        also puts the layer's input on a grid found at run time. A weight shared with another node is given its own copy
        unless that node is set to the same form object. Raises ModelkitError when the form can't be lowered."""
        ...

    def can_lower(self, node: str, form: WeightForm, activation: DynamicGrid | None = None) -> str | None:
        """None, or the reason why `set_parameter` would refuse. `form` may hold an empty array: only its description counts."""
        ...

    def remove(self, node: str) -> None:
        """Take out a node with one data input and one output (a folded batch norm): its readers read its input."""
        ...

    def shrink(self, cut: Cut) -> None:
        """Make every axis that `cut` names as short as it says: parameters, and whatever states a size (reshapes, splits,
        slices, counts of groups and heads). Forms set before are kept if they are dense. Cuts come from
        `Channels.cut`, made for this model's present graph. Raises ModelkitError when the model is quantised."""
        ...

    def settle(self, node: str, edge: str, value: Array) -> None:
        """Let `node` read the constant `value` (of a shape that broadcasts) instead of `edge`; what only led to `edge` is
        dropped."""
        ...

    def factorise(self, forms: Mapping[str, LowRank]) -> None:
        """Let chains of narrower layers take the place of layers that `analysis.chains.reason_against` has nothing against. The
        last of a chain keeps the layer's name, output and bias; the others are called `NAME.0`, `NAME.1`… Raises ModelkitError
        for a form of another shape, and when the model is quantised."""
        ...

    def bypass(self, forms: Mapping[str, LowRank]) -> None:
        """Let chains of narrower layers, called `NAME.0` and `NAME.1`, stand beside linear layers and convolutions: they read
        what the layer reads, and what they give is added to its output. The edge that the layer wrote is then the sum. Raises
        ModelkitError as `factorise`."""
        ...

    def move(self, node: str, labels: Mapping[str, Array]) -> dict[str, Array] | None:
        """What a node of kind "reshape" or "concat" does with numbers: its outputs by edge, where it is given float32 arrays by
        edge and by role (for those of its parameters that it moves), each of the edge's (the parameter's) shape. None when that
        can't be found out."""
        ...

    def quantize_edges(self, grids: Mapping[str, EdgeGrid]) -> None:
        """Put activations on grids. Raises ModelkitError for an edge that is not a float tensor."""
        ...

    def observe(self, batches: Iterable[Feeds], edges: Iterable[str]) -> Iterator[Mapping[str, Array]]:
        """Run the model batch by batch and give the values of these edges and of the outputs (by edge name) for each."""
        ...

    def segment(self, given: Iterable[str], wanted: Iterable[str]) -> Callable[[Feeds], Mapping[str, Array]]:
        """What computes the edges `wanted` of the model as it is now from values of the edges `given`, which cut it: nothing
        before them is run, except what gets from the model's inputs round the cut. Call it with the values of `given` and of the
        model's inputs, the batch first."""
        ...

    def walk(self, batches: Sequence[Feeds], edges: Iterable[str]) -> Iterator[tuple[str, list[Array]]]:
        """Compute the model once, step by step, and stop at each of these edges in the order in which they come, with its value
        for each batch. Weights that are set while it stops count from there on, so that layers see what the changed ones before
        them give. Only values that are still needed are held: `analysis.memory` says how many bytes that takes."""
        ...

    def copy(self) -> Model:
        """A model that can be changed without changing this one. Weights are shared, not copied."""
        ...

    def save(self, path: Path) -> None:
        """Write the model in its own family's format. The caller gives a fresh path; external data is written beside it."""
        ...


def finite_weight(model: Model, name: str) -> Array:
    """The weight of a layer, dense. Raises ModelkitError where it holds NaN, or values that are none in float32."""
    weight = model.parameter(name, "weight")
    if weight is None:
        raise ModelkitError(f"The weight of {name} can't be read.", "Report this with the model: its layer list said otherwise.")
    if not np.isfinite(weight.astype(np.float32, copy=False)).all():
        raise ModelkitError(
            f"The weight of {name} holds NaN or infinity.", "Repair the model, or leave the layer out with --ignore."
        )
    return weight
