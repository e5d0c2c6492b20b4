"""prune.sparsegpt: the weights that stay make up for those that go."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from modelkit.algorithms.prune.sparsegpt import sparsegpt
from modelkit.core.forms import Array, WeightForm
from modelkit.core.graph import Node
from modelkit.core.sparsity import Sparsity
from modelkit.core.statistics import InputMoments, Needs

from .layers import matrices, skip_reason, stored
from .options import CalibratedOptions


@dataclass(frozen=True)
class SparseGPTOptions(CalibratedOptions):
    block: int = field(default=128, metadata={"bounds": (1, 1 << 16), "help": "columns that are masked together"})
    damp: float = field(
        default=0.01, metadata={"bounds": (0.0, 100.0), "help": "added to the Hessian's diagonal, times its mean"}
    )


class SparseGPT:
    """Second-order pruning of each layer on the calibration data."""

    summary: ClassVar[str] = "second-order pruning: the weights that stay make up for those that go (SparseGPT)"
    Options: ClassVar[type] = SparseGPTOptions
    needs: ClassVar[Needs] = "gram"

    def __init__(self, options: SparseGPTOptions) -> None:
        self.options = options
        self.sparsity = Sparsity.parse(options.sparsity, options.pattern)

    def skip(self, layer: Node) -> str | None:
        return skip_reason(layer, self.sparsity)

    def compress(self, layer: Node, weight: Array, moments: InputMoments | None = None) -> WeightForm:
        assert moments is not None and moments.gram is not None
        o, W = self.options, matrices(layer, weight)
        done = [
            sparsegpt(part, gram, self.sparsity, block=o.block, damp=o.damp) for part, gram in zip(W, moments.gram, strict=True)
        ]
        kept, mask = (np.stack(parts) for parts in zip(*done, strict=True))
        return stored(layer, weight, kept, mask, o.pattern)
