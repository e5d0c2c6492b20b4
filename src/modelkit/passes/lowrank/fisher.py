"""lowrank.fisher: outputs of a layer weighed by how much the loss depends on them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from modelkit.core.forms import Array
from modelkit.core.graph import Node
from modelkit.core.lowrank import Metric
from modelkit.core.passes import NoOptions
from modelkit.core.pruning import Gradients

from .whitened import Refit

_LEAST = 0.01  # of the mean information: an output that no answer depended on counts so much


class Fisher(Refit):
    """An error of the output o counts E[Σᵢ (∂L/∂w_oi)²], the Fisher information of its weights (FWSVD, Hsu et al. 2022,
    https://arxiv.org/abs/2207.00112). L is the negative log-likelihood of answers drawn from the model itself; where the
    calibration data has class labels, the cross-entropy with those is added."""

    summary: ClassVar[str] = "lowrank.refit, an output's error weighed by how much the loss depends on it (Fisher); uses labels"
    learns: ClassVar[bool] = True

    def __init__(self, options: NoOptions) -> None:
        super().__init__(options)
        self._information: dict[str, Array] = {}

    def learn(self, layers: Sequence[Node], gradients: Gradients) -> None:
        axis = {layer.name: 1 if layer.kind == "embedding" else 0 for layer in layers}
        for found in gradients([(name, "weight") for name in axis]):
            for (name, _), gradient in found.items():
                others = tuple(i for i in range(gradient.ndim) if i != axis[name])
                squares = np.square(gradient, dtype=np.float64).sum(others)
                self._information[name] = self._information.get(name, 0.0) + squares

    def metric(self, layer: Node, weight: Array, moments: Array | None) -> Metric:
        information = self._information.get(layer.name)
        mean = 0.0 if information is None else float(information.mean())
        if information is None or not 0 < mean < np.inf:
            return Metric(moments)
        return Metric(moments, np.sqrt(information / mean + _LEAST))
