"""The values that a walk through a model has seen, held as long as they are needed."""

from __future__ import annotations

from collections.abc import Sequence

from modelkit.core.forms import Array
from modelkit.core.model import Feeds, Model


class Held:
    """`steps`: the edges that each step needs; steps are asked for in order, and values are dropped behind the last that needs
    them. Weights that are set between steps count from there on."""

    def __init__(self, model: Model, batches: Sequence[Feeds], steps: list[list[str]]) -> None:
        self._walk = model.walk(batches, dict.fromkeys(edge for step in steps for edge in step))
        self._steps = steps
        self._last = {edge: place for place, step in enumerate(steps) for edge in step}
        self._held: dict[str, list[Array]] = {}

    def at(self, step: int) -> dict[str, list[Array]]:
        """By edge, its values for each batch."""
        while any(edge not in self._held for edge in self._steps[step]):
            edge, values = next(self._walk)
            self._held[edge] = values
        found = {edge: self._held[edge] for edge in self._steps[step]}
        for edge in [edge for edge in self._held if self._last[edge] <= step]:
            del self._held[edge]
        return found
