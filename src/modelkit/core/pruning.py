"""What a pass that removes channels is given, and what it must give back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from .channels import Channels
from .forms import Array
from .graph import Graph
from .model import Feeds, Model

Measure = Literal["sparsity", "macs", "params", "speedup", "rank", "energy"]
Site = tuple[str, str]  # a node and the role of a parameter of it
# Of a loss with respect to parameters of the model, a batch of the calibration data at a time; those that can't be had are
# left out.
Gradients = Callable[[Collection[Site]], Iterator[Mapping[Site, Array]]]
Cost = Callable[[Graph], float]  # of a graph that may be `Cut.resized`; in the same unit as the task's limit


@dataclass(frozen=True)
class Budget:
    """What was asked for. sparsity: the share of channels that goes. macs, params: the share of the original that is kept.
    speedup: original latency / new latency. rank: of every layer. energy: the share of every
    layer's output that its rank keeps."""

    measure: Measure
    value: float

    @property
    def kept(self) -> float:
        """The share of the original's cost that may remain."""
        if self.measure == "sparsity":
            return 1 - self.value
        return 1 / self.value if self.measure == "speedup" else self.value

    def __str__(self) -> str:
        return f"--{self.measure} {self.value:g}"


@dataclass(frozen=True)
class PruningTask:
    """One request for channel pruning.

    model: a copy that the pass may change; batch norms are folded where they can be. channels: its groups and branches, without
    those that the user excluded. cost and limit: the result's `cost(model.graph)` must be at most `limit`.
    round_to: groups keep a multiple of this many units where they are larger. batches: calibration data, anew at each call.
    fixed: layers whose weights must stay as they are. measure: for a budget of speed, how many times as fast as the original a
    candidate is (its weights don't matter); `cost` only predicts it. gradients: of the loss of the unpruned model; there
    when batches are. Raises ModelkitError where torch can't run the model.
    """

    model: Model
    channels: Channels
    cost: Cost
    limit: float
    budget: Budget
    round_to: int = 8
    batches: Callable[[], Iterable[Feeds]] | None = None
    seed: int = 0
    fixed: frozenset[str] = frozenset()
    measure: Callable[[Model], float] | None = None
    gradients: Gradients | None = None
    progress: Callable[[str], Any] = field(default=lambda name: None)


class ChannelPass(Protocol):
    """A plugin `prune.channel.NAME`. `needs_data`: it can't do without calibration data. `removes_branches`: it also meets
    budgets that take the removal of whole branches."""

    summary: ClassVar[str]
    Options: ClassVar[type]
    needs_data: ClassVar[bool]
    removes_branches: ClassVar[bool]

    def __init__(self, options: Any) -> None: ...

    def prune(self, task: PruningTask) -> Model:
        """The pruned model. Raises ModelkitError when the limit can't be reached, saying how far it can go."""
        ...
