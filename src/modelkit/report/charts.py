"""Charts as inline SVG, drawn here so that a report needs no script and no network.

Every chart is 360 units wide, so that its text stays readable on a phone; colours are classes of the page's style sheet.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import log10

from . import figures

WIDTH = 360
SERIES = 6  # colours in the style sheet; further series start again after the first, which is the baseline's
BINS = 48


@dataclass(frozen=True)
class Bar:
    label: str
    value: float
    text: str
    series: int
    interval: Sequence[float] | None = None


@dataclass(frozen=True)
class Point:
    label: str
    x: float
    y: float
    text: str
    interval: Sequence[float] | None
    weight: float
    series: int


@dataclass(frozen=True)
class Distribution:
    """`quantiles`: at least two, rising, at equal steps of probability."""

    label: str
    quantiles: Sequence[float]
    median: float
    series: int


@dataclass(frozen=True)
class Effect:
    """A ratio with its interval (None: unknown); `verdict` colours it, `text` stands beside it."""

    label: str
    ratio: float
    interval: Sequence[float] | None
    verdict: str
    text: str


@dataclass(frozen=True)
class Change:
    """A share before and after."""

    label: str
    before: float
    after: float
    text: str


def bars(title: str, items: Sequence[Bar]) -> str:
    """Horizontal bars from zero, their values beside the labels, a whisker for each confidence interval."""
    most = max([item.value for item in items] + [item.interval[1] for item in items if item.interval], default=0) or 1
    scale = (WIDTH - 8) / most
    parts = []
    for i, item in enumerate(items):
        top = 44 * i + 4
        parts.append(_text(0, top + 12, figures.shorten(item.label, 30), title=item.label))
        parts.append(_text(WIDTH, top + 12, item.text, "end strong"))
        parts.append(f'<rect class="track" x="0" y="{top + 19}" width="{WIDTH}" height="12" rx="3"/>')
        width = max(item.value * scale, 1)
        parts.append(f'<rect class="s{_series(item.series)}" x="0" y="{top + 19}" width="{width:.1f}" height="12" rx="3"/>')
        if item.interval is not None:
            low, high = (max(end, 0) * scale for end in item.interval)
            y = top + 25
            whisker = f"M{low:.1f} {y - 4}V{y + 4}M{low:.1f} {y}H{high:.1f}M{high:.1f} {y - 4}V{y + 4}"
            parts.append(f'<path class="whisker" d="{whisker}"/>')
    return _svg(title, 44 * len(items) + 2, parts)


def distributions(title: str, unit: str, items: Sequence[Distribution]) -> str:
    """A histogram per series over one axis, a line at each median. The slowest 1 % is cut off, and said to be."""
    low = min(item.quantiles[0] for item in items)
    high = max(item.quantiles[int(0.99 * (len(item.quantiles) - 1))] for item in items)
    high = high if high > low else low + (abs(low) or 1) * 0.01
    parts = []
    for i, item in enumerate(items):
        top = 66 * i + 4
        below = [_share_below(item.quantiles, low + (high - low) * edge / BINS) for edge in range(BINS + 1)]
        counts = [after - before for before, after in pairwise(below)]
        base, step, most = top + 58, WIDTH / BINS, max(counts) or 1
        outline = "".join(f"V{base - 38 * count / most:.1f}h{step:.2f}" for count in counts)
        parts.append(_text(0, top + 12, figures.shorten(item.label, 30), title=item.label))
        parts.append(_text(WIDTH, top + 12, f"{figures.significant(item.median)} {unit}", "end strong"))
        parts.append(f'<path class="s{_series(item.series)} soft" d="M0 {base}{outline}V{base}Z"/>')
        x = (item.median - low) / (high - low) * WIDTH
        parts.append(f'<path class="median" d="M{x:.1f} {base}v-42"/><path class="axis" d="M0 {base}H{WIDTH}"/>')
    bottom = 66 * len(items) + 14
    parts.append(_text(0, bottom, f"{figures.significant(low)} {unit}", "muted"))
    parts.append(_text(WIDTH, bottom, f"{figures.significant(high)} {unit} (99 %)", "end muted"))
    return _svg(title, bottom + 6, parts)


def effects(title: str, items: Sequence[Effect], tolerance: float) -> str:
    """Ratios with their intervals on a logarithmic axis around 1; the band is what counts as the same."""
    reach = max(
        [abs(log10(end)) for item in items for end in (item.ratio, *(item.interval or ())) if end > 0]
        + [log10(1 + 3 * tolerance)]
    )
    scale = (WIDTH / 2 - 6) / reach
    middle, bottom = WIDTH / 2, 40 * len(items) + 4
    half = log10(1 + tolerance) * scale
    parts = [f'<rect class="track" x="{middle - half:.1f}" y="0" width="{2 * half:.1f}" height="{bottom}"/>']
    parts.append(f'<path class="axis" d="M{middle} 0V{bottom}"/>')
    for i, item in enumerate(items):
        top = 40 * i + 4
        parts.append(_text(0, top + 12, figures.shorten(item.label, 30)) + _text(WIDTH, top + 12, item.text, "end strong"))
        y, x = top + 24, middle + (log10(item.ratio) if item.ratio > 0 else -reach) * scale
        if item.interval is not None:
            low, high = (middle + max(-reach, log10(end) if end > 0 else -reach) * scale for end in item.interval)
            parts.append(f'<path class="whisker" d="M{low:.1f} {y - 4}v8M{low:.1f} {y}H{high:.1f}M{high:.1f} {y - 4}v8"/>')
        parts.append(f'<circle class="v-{item.verdict}" cx="{x:.1f}" cy="{y}" r="4.5"/>')
    least, most = (figures.ratio(10**end) for end in (-reach, reach))
    parts.append(_text(0, bottom + 12, least, "muted") + _text(WIDTH, bottom + 12, most, "end muted"))
    parts.append(_text(middle, bottom + 12, "1×", "middle muted"))
    return _svg(title, bottom + 18, parts)


def changes(title: str, items: Sequence[Change]) -> str:
    """Shares before (pale) and after, joined by a line, on an axis that holds all of them."""
    ends = [end for item in items for end in (item.before, item.after)]
    low, high = min(ends), max(ends)
    low, high = (low - 0.02, high + 0.02) if high - low < 0.01 else (low, high)
    left, width = 130, WIDTH - 130 - 76
    parts = []
    for i, item in enumerate(items):
        y = 22 * i + 12
        before, after = (left + 6 + (end - low) / (high - low) * (width - 12) for end in (item.before, item.after))
        css = "v-worse" if item.after < item.before else "v-better" if item.after > item.before else "s0"
        parts.append(_text(0, y + 4, figures.shorten(item.label, 18), title=item.label))
        parts.append(f'<path class="axis" d="M{left} {y}h{width}"/><path class="whisker" d="M{before:.1f} {y}H{after:.1f}"/>')
        parts.append(
            f'<circle class="s0" cx="{before:.1f}" cy="{y}" r="4"/><circle class="{css}" cx="{after:.1f}" cy="{y}" r="4.5"/>'
        )
        parts.append(_text(WIDTH, y + 4, item.text, "end"))
    bottom = 22 * len(items) + 14
    parts.append(_text(left, bottom, f"{100 * max(low, 0):.0f} %", "muted"))
    parts.append(_text(left + width, bottom, f"{100 * min(high, 1):.0f} %", "end muted"))
    return _svg(title, bottom + 6, parts)


def _share_below(quantiles: Sequence[float], value: float) -> float:
    """How much of the distribution lies below `value`: between two quantiles it is taken as even."""
    last = len(quantiles) - 1
    after = bisect_right(quantiles, value)
    if after == 0 or after > last:
        return float(after > last)
    before, here = quantiles[after - 1], quantiles[after]
    return (after - 1 + (value - before) / (here - before if here > before else 1.0)) / last


def scatter(title: str, y_label: str, points: Sequence[Point], y_text: Callable[[float], str]) -> str:
    """Points over milliseconds, with areas in proportion to their weights. The height holds every confidence interval, so that
    a difference within the noise does not look like one."""
    left, top, width, height = 8, 26, WIDTH - 16, 180
    x_high = max(p.x for p in points) * 1.15 or 1
    ends = [end for p in points for end in (p.y, *(p.interval or ()))]
    margin = (max(ends) - min(ends) or abs(max(ends)) or 1) * 0.15
    y_low, y_high = min(ends) - margin, max(ends) + margin
    heaviest = max(p.weight for p in points) or 1
    base = top + height
    parts = [f'<path class="axis" d="M{left} {base}H{left + width}M{left} {top}V{base}"/>']
    for end in (min(ends), max(ends)):
        y = base - (end - y_low) / (y_high - y_low) * height
        parts.append(f'<path class="axis" d="M{left} {y:.1f}h5"/>{_text(left + 9, y + 4, y_text(end), "muted")}')
    parts.append(_text(left, top - 10, f"{y_label} ↑", "muted") + _text(left, base + 17, "0", "muted"))
    parts.append(_text(left + width, base + 17, f"{figures.significant(x_high)} ms →", "end muted"))
    for p in points:
        x, y = left + p.x / x_high * width, base - (p.y - y_low) / (y_high - y_low) * height
        radius = max(18 * (p.weight / heaviest) ** 0.5, 4)
        if p.interval is not None:
            low, high = (base - (end - y_low) / (y_high - y_low) * height for end in p.interval)
            parts.append(
                f'<path class="whisker" d="M{x - 4:.1f} {low:.1f}h8M{x:.1f} {low:.1f}V{high:.1f}M{x - 4:.1f} {high:.1f}h8"/>'
            )
        hover = f"<title>{_escape(f'{p.label}: {figures.significant(p.x)} ms, {p.text}')}</title>"
        circle = f'cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"'
        parts.append(f'<circle class="s{_series(p.series)} soft edge" {circle}>{hover}</circle>')
    for i, p in enumerate(points):  # a legend, as labels beside the points would run into each other
        y = base + 40 + 18 * i
        parts.append(f'<rect class="s{_series(p.series)}" x="{left}" y="{y - 9}" width="10" height="10" rx="3"/>')
        parts.append(_text(left + 16, y, figures.shorten(p.label, 30), title=p.label))
        parts.append(_text(left + width, y, f"{p.text}, {figures.significant(p.x)} ms", "end"))
    return _svg(title, base + 30 + 18 * len(points), parts)


def profile(
    title: str, values: Sequence[float | None], note: str, behind: Sequence[float] | None = None, log: bool = False
) -> str:
    """One column per layer in the model's order; `behind` is drawn as a paler column of the same scale (the value before)."""
    height, top = 96, 22
    known = [v for v in [*values, *(behind or [])] if v]
    parts = [_text(WIDTH, 12, note, "end muted")]
    step = WIDTH / max(len(values), 1)
    gap = 1.5 if step > 5 else 0
    for series, css in ((behind, "s0 soft"), (values, "s1")):
        path = ""
        for i, value in enumerate(series or []):
            tall = _height(value, known, log) * height
            if tall:
                path += f"M{i * step:.1f} {top + height}v{-tall:.1f}h{max(step - gap, 0.7):.1f}v{tall:.1f}Z"
        parts.append(f'<path class="{css}" d="{path}"/>' if path else "")
    parts.append(f'<path class="axis" d="M0 {top + height}H{WIDTH}"/>')
    parts.append(_text(0, top + height + 16, "first layer", "muted") + _text(WIDTH, top + height + 16, "last", "end muted"))
    return _svg(title, top + height + 22, parts)


def _height(value: float | None, known: Sequence[float], log: bool) -> float:
    """Share of the chart's height. A logarithmic one begins half a decade below its smallest value."""
    if not value:
        return 0.0
    if not log:
        return value / max(known)
    low, high = log10(min(known)) - 0.5, log10(max(known))
    return (log10(value) - low) / (high - low)


def _series(index: int) -> int:
    return index if index < SERIES else 1 + (index - 1) % (SERIES - 1)


def _text(x: float, y: float, text: str, css: str = "", title: str = "") -> str:
    hover = f"<title>{_escape(title)}</title>" if title and title != text else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{f" class={chr(34)}{css}{chr(34)}" if css else ""}>{_escape(text)}{hover}</text>'


def _escape(text: str) -> str:
    return escape(figures.printable(text))


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    body = "".join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{_escape(title)}">{body}</svg>'
