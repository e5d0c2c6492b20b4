"""quantize.mse: round to nearest on grids narrowed for the least squared error."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from modelkit.algorithms.quantize.clip_search import clip_search
from modelkit.core.forms import Array, WeightForm
from modelkit.core.graph import Node

from .layers import skip_reason
from .options import GridOptions


@dataclass(frozen=True)
class ClipSearchOptions(GridOptions):
    steps: int = field(default=20, metadata={"bounds": (1, 200), "help": "widths tried for each grid"})
    smallest: float = field(
        default=0.5, metadata={"bounds": (0.05, 1.0), "help": "narrowest grid tried, as a share of the full range"}
    )


class ClipSearch:
    """Large weights may be clipped where that lets the rest round better."""

    summary: ClassVar[str] = "round to nearest on grids clipped for the least squared error; needs no data"
    Options: ClassVar[type] = ClipSearchOptions

    def __init__(self, options: ClipSearchOptions) -> None:
        self.options = options

    def skip(self, layer: Node) -> str | None:
        return skip_reason(layer)

    def compress(self, layer: Node, weight: Array) -> WeightForm:
        o = self.options
        return clip_search(weight, **o.grids(layer), steps=o.steps, smallest=o.smallest)
