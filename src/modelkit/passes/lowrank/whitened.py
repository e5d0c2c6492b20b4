"""lowrank.whitened and lowrank.refit: least error of the layer's output on calibration data."""

from __future__ import annotations

from typing import ClassVar

from modelkit.core.forms import Array
from modelkit.core.graph import Node
from modelkit.core.lowrank import Metric
from modelkit.core.statistics import Needs

from .svd import SVD


class Whitened(SVD):
    """An error of a weight counts what it does to the layer's output (SVD-LLM, https://arxiv.org/abs/2403.07378)."""

    summary: ClassVar[str] = "least error of each layer's output on the original's inputs (activation-aware, SVD-LLM)"
    needs: ClassVar[Needs] = "gram"

    def metric(self, layer: Node, weight: Array, moments: Array | None) -> Metric:
        return Metric(moments)


class Refit(Whitened):
    """The same; factors are then fitted one after the other to the original's outputs, from the inputs that the changed layers
    before them give, with a pull to the original weight whose strength is chosen on held-out rows."""

    summary: ClassVar[str] = "lowrank.whitened, and each layer makes up for the errors of those before it"
    refits: ClassVar[bool] = True
