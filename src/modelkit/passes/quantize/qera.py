"""quantize.qera: clipped grids, and a low-rank correction of what they lose."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from modelkit.algorithms.lowrank.correction import correction
from modelkit.algorithms.quantize.round_to_nearest import round_to_nearest
from modelkit.analysis.chains import two_factors
from modelkit.analysis.products import matrix
from modelkit.core.forms import Array, Quantized, WeightForm
from modelkit.core.graph import Node
from modelkit.core.lowrank import LowRank
from modelkit.core.statistics import Needs

from .mse import ClipSearch, ClipSearchOptions


@dataclass(frozen=True)
class QERAOptions(ClipSearchOptions):
    rank: int = field(default=16, metadata={"bounds": (1, 1 << 16), "help": "of the correction"})
    factor_bits: int = field(default=8, metadata={"bounds": (2, 32), "help": "bits per weight of the correction; 32: as it is"})


class QERA(ClipSearch):
    """W ≈ Q + U V, where the correction is the best of its rank for the layer's output on calibration data; without data, for the
    weight (QERA, Zhang et al. 2024, https://arxiv.org/abs/2410.06040, theorem 1; LQER, https://arxiv.org/abs/2402.02446)."""

    summary: ClassVar[str] = "quantize.mse, and what it loses put right by a low-rank layer beside (QERA, LQER); better with data"
    Options: ClassVar[type] = QERAOptions
    needs: ClassVar[Needs] = "gram"
    options: QERAOptions

    def correct(self, layer: Node, weight: Array, form: WeightForm, moments: Array | None) -> LowRank | None:
        """What runs beside the layer, whose weight is stored as `form`. moments: (in, in), the mean of x xᵀ of its inputs."""
        lost = matrix(layer, weight)[0] - matrix(layer, form.decode())[0]
        rank = min(self.options.rank, *lost.shape)
        right, left = (factor.astype(weight.dtype) for factor in correction(lost, rank, moments))
        return two_factors(layer, right, left)

    def store(self, factor: Array) -> Quantized | None:
        """A factor of the correction in its bits; None: as it is."""
        bits = self.options.factor_bits
        return None if bits > 8 else round_to_nearest(factor, bits, symmetric=True, group_size=None, axis=0)
