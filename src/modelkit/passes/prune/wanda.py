"""prune.wanda: weights times the size of their inputs decide."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from modelkit.algorithms.prune.wanda import wanda
from modelkit.core.forms import Array, WeightForm
from modelkit.core.graph import Node
from modelkit.core.sparsity import Sparsity
from modelkit.core.statistics import InputMoments, Needs

from .layers import matrices, skip_reason, stored
from .options import CalibratedOptions


class Wanda:
    """Of each output, the weights that add least to it on the calibration data go."""

    summary: ClassVar[str] = "the weights that add least to their output become zero; the others stay as they are"
    Options: ClassVar[type] = CalibratedOptions
    needs: ClassVar[Needs] = "norms"

    def __init__(self, options: CalibratedOptions) -> None:
        self.options = options
        self.sparsity = Sparsity.parse(options.sparsity, options.pattern)

    def skip(self, layer: Node) -> str | None:
        return skip_reason(layer, self.sparsity)

    def compress(self, layer: Node, weight: Array, moments: InputMoments | None = None) -> WeightForm:
        assert moments is not None
        W = matrices(layer, weight)
        mask = np.stack([wanda(part, norms, self.sparsity) for part, norms in zip(W, moments.norms, strict=True)])
        return stored(layer, weight, W, mask, self.options.pattern)
