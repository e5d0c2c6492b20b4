"""Corrections that run beside quantised layers: what each layer's inputs are like, and the chain that its pass makes of that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from modelkit.agreement import feeds_of
from modelkit.analysis.chains import reason_against
from modelkit.analysis.memory import first_batches, walk_batch
from modelkit.calibrate import input_moments
from modelkit.core.forms import Array, WeightForm
from modelkit.core.graph import Node
from modelkit.core.lowrank import LowRank, parts
from modelkit.core.model import Model, finite_weight
from modelkit.core.passes import CorrectingPass

if TYPE_CHECKING:
    from modelkit.data import Dataset


def corrections(
    model: Model, chosen: CorrectingPass, forms: Mapping[str, WeightForm], calibration: Dataset | None
) -> dict[str, LowRank]:
    """By layer of the dense `model`, of those in `forms` that a chain can stand beside. Without data: best for the weights."""
    graph = model.graph
    layers = [layer for layer in graph.layers() if layer.name in forms and layer.kind in ("linear", "conv")]
    layers = [layer for layer in layers if reason_against(graph, layer) is None]
    found: dict[str, LowRank] = {}

    def correct(layer: Node, moments: Array | None) -> None:
        made = chosen.correct(layer, finite_weight(model, layer.name), forms[layer.name], moments)
        if made is not None:
            found[layer.name] = made

    if calibration is None or chosen.needs == "nothing":
        for layer in layers:
            correct(layer, None)
        return found
    batches = first_batches(feeds_of(model, calibration, walk_batch(graph)), graph)
    for layer, moments in input_moments(model.copy(), batches, layers, full=True):
        correct(layer, None if moments.gram is None else moments.gram[0])
    return found


def add(model: Model, chosen: CorrectingPass, chains: Mapping[str, LowRank]) -> None:
    """Let the chains run beside the layers of a dense model, stored as the pass wants them."""
    if not chains:
        return
    model.bypass(chains)
    for part in [part for name in chains for part in parts(model.graph, name)]:
        form = chosen.store(finite_weight(model, part.name))
        if form is not None:
            model.set_parameter(part.name, "weight", form)
