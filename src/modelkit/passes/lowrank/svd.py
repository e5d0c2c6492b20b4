"""lowrank.svd: plain singular value decomposition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from modelkit.core.forms import Array
from modelkit.core.graph import Node
from modelkit.core.lowrank import Metric
from modelkit.core.passes import NoOptions
from modelkit.core.pruning import Gradients
from modelkit.core.statistics import Needs


class SVD:
    """Every error of a weight counts the same (Eckart and Young 1936)."""

    summary: ClassVar[str] = "least error of the weights themselves (plain SVD); needs no data"
    Options: ClassVar[type] = NoOptions
    needs: ClassVar[Needs] = "nothing"
    learns: ClassVar[bool] = False
    refits: ClassVar[bool] = False

    def __init__(self, options: NoOptions) -> None:
        self.options = options

    def learn(self, layers: Sequence[Node], gradients: Gradients) -> None:
        pass

    def metric(self, layer: Node, weight: Array, moments: Array | None) -> Metric:
        return Metric()
