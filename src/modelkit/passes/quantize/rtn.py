"""quantize.rtn: round to nearest."""

from __future__ import annotations

from typing import ClassVar

from modelkit.algorithms.quantize.round_to_nearest import round_to_nearest
from modelkit.core.forms import Array, WeightForm
from modelkit.core.graph import Node

from .layers import adds_pairs, channel_axis, skip_reason
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
        o = self.options
        return round_to_nearest(
            weight,
            o.bits,
            symmetric=o.is_symmetric,
            group_size=o.group,
            axis=channel_axis(layer),
            reduce_range=o.reduce_range and adds_pairs(layer),
        )
