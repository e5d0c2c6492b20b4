"""prune.magnitude: the smallest weights become zero."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from modelkit.algorithms.prune.masks import largest
from modelkit.core.forms import Array, WeightForm
from modelkit.core.graph import Node
from modelkit.core.sparsity import Sparsity
from modelkit.core.statistics import InputMoments, Needs

from .layers import matrices, skip_reason, stored
from .options import SparsityOptions


class Magnitude:
    """The smallest weights of each layer go (of every M inputs, for N:M)."""

    summary: ClassVar[str] = "the smallest weights become zero; needs no data"
    Options: ClassVar[type] = SparsityOptions
    needs: ClassVar[Needs] = "nothing"

    def __init__(self, options: SparsityOptions) -> None:
        self.options = options
        self.sparsity = Sparsity.parse(options.sparsity, options.pattern)

    def skip(self, layer: Node) -> str | None:
        return skip_reason(layer, self.sparsity)

    def compress(self, layer: Node, weight: Array, moments: InputMoments | None = None) -> WeightForm:
        W = matrices(layer, weight)
        rows = W.reshape(-1, W.shape[-1])
        mask = largest(np.abs(rows), self.sparsity).reshape(W.shape)
        return stored(layer, weight, W, mask, self.options.pattern)
