"""Numbers as people read them: three significant figures, SI units, the uncertainty beside the value."""

from __future__ import annotations

from collections.abc import Sequence

SHARES = frozenset({"accuracy", "top5", "agreement"})  # metrics that are shares of samples, shown in per cent
NONE = "–"


def significant(value: float | None, digits: int = 3) -> str:
    """Rounded to so many significant figures, with no exponent from 0.0001 up to a million."""
    if value is None:
        return NONE
    if value == 0:
        return "0"
    magnitude = int(f"{value:.{digits - 1}e}".partition("e")[2])  # of the rounded value: 999.9 has that of 1000
    if magnitude < -4 or magnitude >= 6:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(digits - 1 - magnitude, 0)}f}"


def size(count: int | None) -> str:
    """Bytes: 866 kB, 3.41 MB."""
    return NONE if count is None else _scaled(count, ("B", "kB", "MB", "GB", "TB", "PB"))


def amount(count: int | None) -> str:
    """A count: 98,666 or 12.4 M."""
    if count is None:
        return NONE
    return f"{count:,}" if count < 100_000 else _scaled(count, ("", "k", "M", "G", "T", "P"))


def _scaled(count: float, units: Sequence[str]) -> str:
    step = 0
    while abs(count) >= 999.5 and step < len(units) - 1:
        count /= 1000
        step += 1
    return f"{count:,.0f} {units[0]}" if step == 0 else f"{significant(count)} {units[step]}"


def exact(value: float | None) -> str:
    """A value that was compared with a limit: four figures, no padding."""
    return NONE if value is None else f"{value:.4g}"


def ratio(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}×" if value < 100 else f"{value:,.0f}×"


def measured_speed(speedup: float | None) -> str:
    return "" if speedup is None else f"measured {ratio(speedup)} as fast as the original"


def close_ratio(value: float | None) -> str:
    """A ratio near 1, where the third decimal counts."""
    return NONE if value is None else f"{value:.3f}×" if 0.5 < value < 2 else ratio(value)


def quality(metric: str, value: float | None) -> str:
    """A quality metric: shares in per cent, anything else as it is."""
    if value is None:
        return NONE
    return f"{100 * value:.2f} %" if metric in SHARES else significant(value, 4)


def metric(name: str, value: float | None) -> str:
    """Any metric of a comparison, in its own unit."""
    if value is None:
        return NONE
    if name.startswith("latency_ms"):
        return f"{significant(value)} ms"
    if name in ("bytes", "peak_memory_bytes"):
        return size(round(value))
    if name == "energy_j":
        return f"{significant(value)} J"
    if name in ("parameters", "macs"):
        return amount(round(value))
    return quality(name, value)


def half_width(interval: Sequence[float] | None) -> float | None:
    return None if interval is None else (interval[1] - interval[0]) / 2


def quality_with_interval(metric: str, value: float | None, interval: Sequence[float] | None) -> str:
    """ "91.20 ±0.80 %"."""
    half = half_width(interval)
    if value is None or half is None:
        return quality(metric, value)
    if metric in SHARES:
        decimals = 1 if half >= 0.005 else 2
        return f"{100 * value:.{decimals}f} ±{100 * half:.{decimals}f} %"
    return f"{significant(value, 4)} ±{significant(half, 2)}"


def milliseconds(value: float, interval: Sequence[float] | None = None) -> str:
    half = half_width(interval)
    return significant(value) if half is None else f"{significant(value)} ±{significant(half, 1)}"


def shape(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes)) or NONE


def shorten(text: str, length: int) -> str:
    """The end of a long name: layers differ there."""
    return text if len(text) <= length else f"…{text[1 - length :]}"


def plural(count: int, word: str) -> str:
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def printable(text: object) -> str:
    """Control characters (in a hostile layer name, say) as escapes: they would move a terminal's cursor or break XML."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in str(text))
