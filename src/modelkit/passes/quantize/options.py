"""The options that the rounding passes share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypedDict

from modelkit.core.graph import Node

from .layers import adds_pairs, channel_axis

# Fewer levels need finer grids: values per scale when the user does not say.
_GROUPS = {4: 128, 3: 64, 2: 32}


class Grids(TypedDict):
    """What the rounding algorithms are told of a weight's grids."""

    bits: int
    symmetric: bool
    group_size: int | None
    axis: int
    reduce_range: bool


@dataclass(frozen=True)
class GridOptions:
    """How a weight's grids are laid."""

    bits: int = field(default=8, metadata={"bounds": (2, 8), "help": "bits per weight"})
    symmetric: bool | None = field(default=None, metadata={"help": "grids centred on 0; unset: yes at 8 bits, no below"})
    group_size: int | None = field(
        default=None,
        metadata={
            "bounds": (0, 1 << 20),
            "help": "weights per scale; 0: one per channel; unset: that at 8 bits, 128, 64, 32 at 4, 3, 2",
        },
    )
    reduce_range: bool = field(
        default=False,
        metadata={"help": "grids on which 8-bit products saturate on no CPU (without VNNI, two are added in 16 bits)"},
    )

    @property
    def is_symmetric(self) -> bool:
        return self.bits >= 8 if self.symmetric is None else self.symmetric

    @property
    def group(self) -> int | None:
        return (_GROUPS.get(self.bits) if self.group_size is None else self.group_size) or None

    def grids(self, layer: Node) -> Grids:
        return {
            "bits": self.bits,
            "symmetric": self.is_symmetric,
            "group_size": self.group,
            "axis": channel_axis(layer),
            "reduce_range": self.reduce_range and adds_pairs(layer),
        }
