"""What can be factorised, settled before any work on tensors."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from modelkit.analysis.chains import reason_against
from modelkit.analysis.macs import total_macs
from modelkit.analysis.norms import fold_norms
from modelkit.core.errors import ModelkitError
from modelkit.core.lowrank import LowRankPass, full_rank
from modelkit.core.model import Model
from modelkit.core.pruning import Budget
from modelkit.core.selection import Selection, nothing_left

from .choices import Unit, units

if TYPE_CHECKING:
    from modelkit.data import Dataset


@dataclass(frozen=True)
class Factorisation:
    """What was asked for. `name` is the pass's ("lowrank.refit"). always: also where factors are not faster than the layer.
    samples: of the calibration data, on which effects on the outputs are measured."""

    name: str
    chosen: LowRankPass
    budget: Budget
    always: bool = False
    round_to: int = 8
    selection: Selection = field(default_factory=Selection)
    seed: int = 0
    threads: int | None = None
    samples: int = 64

    def options(self) -> dict[str, Any]:
        """As the report and the file's history keep them."""
        own = asdict(self.chosen.options) if hasattr(self.chosen, "options") else {}
        return {**own, self.budget.measure: self.budget.value, "round_to": self.round_to, "always": self.always}


@dataclass(frozen=True)
class LowRankPlan:
    """base: the original with its batch norms folded. units: what may be factorised. skipped: why other layers are not."""

    base: Model
    units: list[Unit]
    skipped: dict[str, str]


def plan_lowrank(model: Model, wanted: Factorisation, calibration: Dataset | None) -> LowRankPlan:
    """Every check that needs no work on tensors. Raises ModelkitError when nothing can be factorised, or when the pass needs
    data and there is none."""
    if wanted.chosen.needs != "nothing" and calibration is None:
        raise ModelkitError(f"{wanted.name} needs calibration data.", "Give some with --calib DATA, or use --algorithm svd.")
    names = [layer.name for layer in model.graph.layers()]
    wanted.selection.check(names)
    base = model.copy()
    fold_norms(base)
    skipped, candidates = {}, []
    for layer in base.graph.layers():
        reason = wanted.selection.reason(layer.name) or reason_against(base.graph, layer)
        if reason is None and full_rank(layer) < 2:
            reason = "its rank is 1"
        if reason is None:
            candidates.append(layer)
        else:
            skipped[layer.name] = reason
    if not candidates:
        raise nothing_left("No layer can be factorised", skipped, "linear or convolution")
    budget = wanted.budget
    highest = max(full_rank(layer) for layer in candidates)
    if budget.measure == "rank" and budget.value >= highest:
        raise ModelkitError(
            f"--rank {budget.value:g} is not below the full rank of any layer, which is {highest} at most.",
            "Give a smaller rank.",
        )
    if budget.measure == "macs" and total_macs(base.graph) is None:
        raise ModelkitError(
            "The model's MACs can't be counted: some shapes are unknown.", "Give them with --input, or use --params."
        )
    return LowRankPlan(base, units(base.graph, {layer.name for layer in candidates}), skipped)
