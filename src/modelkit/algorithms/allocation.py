"""How wide each group stays: the least harm that a budget allows.

Minimises Σ effect over one level for each group while the cost is at most a limit, by a Lagrangian (Everett 1963; for pruning
by measured cost: Kurtic et al. 2023, https://arxiv.org/abs/2302.04089): each group alone minimises effect + μ · cost, and μ is
found by bisection. What a group's width saves depends on its neighbours', so costs are tabulated again around each solution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from modelkit.core.forms import Array

Levels = dict[str, int]  # group → index of its level, narrow to wide
_TABLES, _BISECTIONS = 3, 60
_TRIALS = 6  # candidates that are measured whole
_LEAST_POWER = 0.3  # of the limit that speed is taken to rise with
_NEAR = 1.06  # a candidate this much faster than asked for is near enough
_ALMOST = 0.98  # one of this share of it is taken rather than one that is much faster: that costs accuracy
T = TypeVar("T")


def allocate(effects: Mapping[str, Array], cost: Callable[[Levels], float], limit: float) -> Levels | None:
    """The level of each group. effects: by group, the harm done at each level, the last (nothing removed) 0. cost: of the whole,
    at some levels. None when even the narrowest levels cost more than `limit`."""
    if cost(dict.fromkeys(effects, 0)) > limit:
        return None
    current = {name: len(values) - 1 for name, values in effects.items()}
    found: Levels | None = None
    for _ in range(_TABLES):
        tables = {name: np.array([cost({**current, name: i}) for i in range(len(effects[name]))]) for name in effects}
        solution = _relaxed(effects, tables, cost, limit)
        solution = _filled(solution, effects, tables, cost, limit)
        if found is None or _total(effects, solution) < _total(effects, found):
            found = solution
        if solution == current:
            break
        current = solution
    return found


def _total(effects: Mapping[str, Array], levels: Levels) -> float:
    return float(sum(effects[name][level] for name, level in levels.items()))


def _relaxed(effects: Mapping[str, Array], tables: Mapping[str, Array], cost: Callable[[Levels], float], limit: float) -> Levels:
    """The smallest μ whose solution meets the limit."""

    def pick(weight: float) -> Levels:
        return {name: int(np.argmin(effects[name] + weight * tables[name])) for name in effects}

    low, high = 1e-12, 1e12
    scale = max(max((float(e.max()) for e in effects.values()), default=0.0), 1e-30) / max(limit, 1e-30)
    best = dict.fromkeys(effects, 0)
    for _ in range(_BISECTIONS):
        middle = float(np.sqrt(low * high))
        levels = pick(middle * scale)
        if cost(levels) > limit:
            low = middle
        else:
            high, best = middle, levels
    return best


def _filled(
    levels: Levels,
    effects: Mapping[str, Array],
    tables: Mapping[str, Array],
    cost: Callable[[Levels], float],
    limit: float,
) -> Levels:
    """Spends what the relaxation left of the budget, where a step up helps most for its price."""
    levels = dict(levels)
    while True:
        spare = limit - cost(levels)
        steps = []
        for name, level in levels.items():
            for wider in range(level + 1, len(effects[name])):
                gain = effects[name][level] - effects[name][wider]
                price = tables[name][wider] - tables[name][level]
                if gain > 0 and price <= spare:
                    steps.append((gain / max(price, 1e-30), name, wider))
        for _, name, wider in sorted(steps, reverse=True)[:8]:
            if cost({**levels, name: wider}) <= limit:
                levels[name] = wider
                break
        else:
            return levels


def meet(
    propose: Callable[[float], T | None], measure: Callable[[T], float], wanted: float, limit: float
) -> tuple[float, T] | None:
    """The speed-up and the candidate nearest above the `wanted` speed-up (just below it where that is much faster), else the
    fastest. Costs only predict: candidates are measured, and the limit of the cost that they are proposed for is moved until a
    measurement is near enough, or as far as something can be proposed. None when nothing can be for the first."""
    aim = wanted * (1 + _NEAR) / 2  # aimed at `wanted` itself, half of the trials would end just below
    tried: list[tuple[float, float, T]] = []  # speed-up, limit, candidate
    too_low = 0.0
    for _ in range(_TRIALS):
        if limit <= too_low:
            limit = math.sqrt(too_low * min(at for _, at, _ in tried))
        candidate = propose(limit)
        if candidate is None:
            if not tried:
                break
            too_low = limit
            continue
        known = [speedup for speedup, _, other in tried if other == candidate]
        tried.append((known[0] if known else measure(candidate), limit, candidate))
        if wanted <= tried[-1][0] <= _NEAR * wanted:
            break
        limit = _next_limit([(speedup, at) for speedup, at, _ in tried], aim)
    below = max((trial for trial in tried if trial[0] < wanted), key=lambda trial: trial[0], default=None)
    above = min((trial for trial in tried if trial[0] >= wanted), key=lambda trial: trial[0], default=None)
    best = above or below
    if above and below and above[0] > _NEAR * wanted and below[0] >= _ALMOST * wanted:
        best = below
    return None if best is None else (best[0], best[2])


def _next_limit(tried: Sequence[tuple[float, float]], aim: float) -> float:
    """Between the trials (speed-up, limit) on both sides of the aim whose limits are nearest: less of it is not always faster,
    so that their speeds need not be. Beyond them, as the two nearest say (a power of the limit), and after one trial speed is
    taken to be in inverse proportion to the limit."""
    slower = min((trial for trial in tried if trial[0] < aim), key=lambda trial: trial[1], default=None)
    faster = max((trial for trial in tried if trial[0] >= aim), key=lambda trial: trial[1], default=None)
    if slower is not None and faster is not None:
        share = math.log(aim / slower[0]) / math.log(faster[0] / slower[0])
        return float(slower[1] * (faster[1] / slower[1]) ** share)
    nearest = sorted({*tried}, key=lambda trial: abs(math.log(trial[0] / aim)))
    (speedup, limit), power = nearest[0], 1.0
    if len(nearest) > 1 and nearest[0][1] != nearest[1][1]:
        (other, at) = nearest[1]
        power = min(max(math.log(speedup / other) / math.log(at / limit), _LEAST_POWER), 1.0)
    return float(limit * (speedup / aim) ** (1 / power))


def interpolated(errors: Array, measured: Mapping[int, float]) -> Array:
    """The effect of keeping 0 … n units, where it was measured for some numbers.

    errors[k]: what the removal of k units does to the layers that read them. Between measured widths the effect is taken as a
    power of that; beyond the last, as proportional to it.
    """
    size = len(errors) - 1
    error = np.maximum(errors[::-1], 1e-30)  # by the number kept
    known = {kept: max(value, 1e-12) for kept, value in measured.items() if kept < size}
    effects = np.zeros(size + 1)
    kept = np.array(sorted(known))
    if len(kept) == 0:
        effects[:size] = error[:size]
        return effects
    at, values = np.log(error[kept]), np.log([known[k] for k in kept])
    at, values = at[::-1], np.maximum.accumulate(values[::-1])  # rising errors
    between = np.exp(np.interp(np.log(error[:size]), at, values))
    small = error[:size] < error[kept[-1]]
    effects[:size] = np.where(small, np.exp(values[0]) * error[:size] / error[kept[-1]], between)
    return np.maximum.accumulate(effects[::-1])[::-1]
