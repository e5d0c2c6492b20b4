"""quantize.rtn: round to nearest."""

from __future__ import annotations

from typing import ClassVar

from modelkit.algorithms.quantize.round_to_nearest import round_to_nearest
from modelkit.core.forms import Array, WeightForm
from modelkit.core.graph import Node

from .layers import skip_reason
from .options import GridOptions


class RoundToNearest:
    """Each weight goes to the nearest point of its channel's (or group's) grid."""

    summary: ClassVar[str] = "round to nearest, one scale per channel or group; needs no data"
    Options: ClassVar[type] = GridOptions

    def __init__(self, options: GridOptions) -> None:
        self.options = options

    def skip(self, layer: Node) -> str | None:
        return skip_reason(layer)

    def compress(self, layer: Node, weight: Array) -> WeightForm:
        return round_to_nearest(weight, **self.options.grids(layer))
