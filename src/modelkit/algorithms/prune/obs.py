"""Structured optimal brain surgery: which inputs of a layer can go, when the others make up for them as well as they can.

For y = W x with second moments H = Σ x xᵀ, leaving out the inputs of a unit u and refitting all others by least squares adds
e(u) = tr(W_u [(H⁻¹)_uu]⁻¹ W_uᵀ) to Σ ‖y − ŷ‖², and then W ← W − W_u [(H⁻¹)_uu]⁻¹ (H⁻¹)_u·,
H⁻¹ ← H⁻¹ − (H⁻¹)_·u [(H⁻¹)_uu]⁻¹ (H⁻¹)_u·.
Hassibi, Stork 1992; by blocks: Kurtic et al. 2022 (https://arxiv.org/abs/2203.07259), eq. 4 to 6; ZipLM, Kurtic et al. 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from modelkit.core.forms import Array


@dataclass
class Reader:
    """A layer that reads the units. H: (inputs, inputs), the second moments of its inputs about their mean. W: (outputs, inputs).
    units: (inputs,), the unit that each input belongs to, −1 for none. weight: what its error counts beside other readers'."""

    H: Array
    W: Array
    units: NDArray[np.int64]
    weight: float = 1.0


@dataclass(frozen=True)
class Removal:
    """order: all units but the last, as they go. errors[k]: the weighted sum of squared errors once the first k have gone."""

    order: NDArray[np.int64]
    errors: Array


def removal_order(readers: Sequence[Reader], size: int, ridge: float = 1e-4, at_once: float = 1 / 64) -> Removal:
    """The greedy order in which units 0 … size − 1 go, and what that costs.

    ridge: added to H's diagonal, as a share of its mean. at_once: the share of the units left that may go in one step, at least
    one: among thousands, a step for each would take hours and change little.
    """
    states = [_State(reader, size, ridge) for reader in readers]
    alive = np.arange(size)
    order: list[int] = []
    errors = [0.0]
    while len(alive) > 1:
        costs = np.zeros(len(alive))
        for state in states:
            costs += state.costs(alive)
        count = min(max(1, int(len(alive) * at_once)), len(alive) - 1)
        chosen = np.argsort(costs, kind="stable")[:count]
        added = sum(state.remove(alive[chosen]) for state in states)
        share = costs[chosen] / max(costs[chosen].sum(), 1e-300)
        errors += list(errors[-1] + added * np.cumsum(share))
        order += alive[chosen].tolist()
        alive = np.delete(alive, chosen)
    rest = sum(state.energy(alive) for state in states)
    return Removal(np.array([*order, *alive], np.int64), np.array([*errors, errors[-1] + rest]))


class _State:
    """W and H⁻¹ as they are after the removals so far."""

    def __init__(self, reader: Reader, size: int, ridge: float) -> None:
        H = reader.H.astype(np.float64)
        n = len(H)
        H.flat[:: n + 1] += ridge * max(np.trace(H) / n, 1e-300)
        self.inverse = np.linalg.inv(H)
        self.W = reader.W.astype(np.float64)
        self.weight = reader.weight
        places = np.argsort(reader.units, kind="stable")
        places = places[reader.units[places] >= 0]
        counts = np.bincount(reader.units[places], minlength=size)
        self.places = np.split(places, np.cumsum(counts)[:-1])

    def costs(self, alive: NDArray[np.int64]) -> Array:
        """e(u) of each unit."""
        found = np.zeros(len(alive))
        lengths = np.array([len(self.places[u]) for u in alive])
        for length in np.unique(lengths[lengths > 0]):
            which = np.flatnonzero(lengths == length)
            at = np.stack([self.places[u] for u in alive[which]])
            blocks = np.linalg.inv(self.inverse[at[:, :, None], at[:, None, :]])
            W = self.W[:, at].transpose(1, 0, 2)
            found[which] = np.einsum("uoi,uoi->u", W @ blocks, W)
        return self.weight * found

    def remove(self, units: NDArray[np.int64]) -> float:
        """Takes the units out together; what that adds to the error."""
        at = np.concatenate([self.places[u] for u in units])
        if not len(at):
            return 0.0
        step = np.linalg.solve(self.inverse[np.ix_(at, at)], self.inverse[at])
        gone = self.W[:, at]
        self.W -= gone @ step
        error = float(np.sum((gone @ np.linalg.inv(self.inverse[np.ix_(at, at)])) * gone))
        self.inverse -= self.inverse[:, at] @ step
        self.W[:, at] = 0.0
        return self.weight * error

    def energy(self, units: NDArray[np.int64]) -> float:
        """What is lost with the last units."""
        return float(self.costs(units).sum())
