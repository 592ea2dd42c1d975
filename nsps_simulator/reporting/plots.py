"""Line charts as SVG text: no script, no network, and colours that the page's style sheet decides."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 560, 250
LEFT, RIGHT, TOP, BOTTOM = 56, 10, 20, 26


@dataclass(frozen=True)
class Line:
    """One curve: its name, the CSS class (c1..c5) of its colour, its values (NaN for a gap), whether the
    area below is tinted, whether it is thin and stays behind.
    """

    name: str
    colour: str
    values: Sequence[float]
    filled: bool = False
    back: bool = False


@dataclass(frozen=True)
class Band:
    """A stretch of time that is marked behind the curves, in seconds; of no length it is a line."""

    start: float
    end: float
    colour: str
    words: str = ""


def chart(times: Sequence[float], lines: Sequence[Line], bands: Sequence[Band], unit: str, *, log: bool = False) -> str:
    """Draw curves over the seconds of the run. unit: of the values. log: for values over several decades."""
    end = _nice_end(times)
    low, high = _limits(lines, log)
    x = _scale(0, end, LEFT, WIDTH - RIGHT)
    linear = _scale(*((math.log10(low), math.log10(high)) if log else (low, high)), HEIGHT - BOTTOM, TOP)

    def y(value: float) -> float:
        return linear(math.log10(max(value, low))) if log else linear(value)

    label = escape(", ".join(line.name for line in lines))
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">']
    parts += [_band(band, x, end) for band in bands]
    across = f'x1="{LEFT}" x2="{WIDTH - RIGHT}"'
    for tick in _decades(low, high) if log else _ticks(high, 4):
        up = y(tick)
        parts.append(f'<line class="rule" {across} y1="{up:.1f}" y2="{up:.1f}"/>')
        parts.append(_text(LEFT - 6, up + 3.5, "end", short(tick)))
    for tick in _ticks(end, 6):
        if tick <= end:
            anchor = "end" if x(tick) > WIDTH - RIGHT - 12 else "middle"
            parts.append(_text(x(tick), HEIGHT - 8, anchor, f"{short(tick)} s"))
    for line in sorted(lines, key=lambda line: not line.back):
        parts.append(_curve(times, line, x, y, HEIGHT - BOTTOM))
    parts.append(_text(LEFT + 5, TOP - 3, "start", unit))
    parts += _hover(times, lines, unit, x)
    return "".join([*parts, "</svg>"])


def _hover(times: Sequence[float], lines: Sequence[Line], unit: str, x: Callable[[float], float]) -> list[str]:
    """Lay a strip over each moment that says the values there."""
    if not times:
        return []
    width = (x(times[-1]) - x(times[0])) / max(1, len(times) - 1) or 2.0
    strips = []
    for place, time in enumerate(times):
        said = [f"{line.name} {short(line.values[place])}" for line in lines if not math.isnan(line.values[place])]
        if said:
            title = escape(f"{time:,.1f} s: " + ", ".join(said) + f" {unit}")
            strips.append(
                f'<rect class="hover" x="{x(time) - width / 2:.1f}" y="{TOP}" width="{width:.1f}" '
                f'height="{HEIGHT - TOP - BOTTOM}"><title>{title}</title></rect>'
            )
    return strips


def steps(curves: Sequence[tuple[str, str, Sequence[tuple[float, float]]]], unit: str) -> str:
    """Draw distributions as (name, colour, [(share of the values, value that they do not exceed)]), with the tail
    stretched: each nine of the share takes as much room as the one before.
    """
    nines = (0.0, 0.9, 0.99, 0.999, 0.9999, 0.99999)
    x_of = _scale(0.0, 5.0, LEFT, WIDTH - RIGHT)
    values = [value for _, _, points in curves for _, value in points if value > 0] or [1.0]
    low = 10.0 ** math.floor(math.log10(min(values)))
    high = max(low * 10, 10.0 ** math.ceil(math.log10(max(values))))
    y_of = _scale(math.log10(low), math.log10(high), HEIGHT - BOTTOM, TOP)

    def x(share: float) -> float:
        return x_of(min(5.0, -math.log10(max(1e-5, 1 - share))))

    label = escape(", ".join(name for name, _, _ in curves))
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">']
    for tick in _decades(low, high):
        up = y_of(math.log10(tick))
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up:.1f}" y2="{up:.1f}"/>')
        parts.append(_text(LEFT - 6, up + 3.5, "end", short(tick)))
    for share in nines:
        anchor = "end" if share == nines[-1] else "middle"
        parts.append(_text(x(share), HEIGHT - 8, anchor, f"{share * 100:g}%"))
    for name, colour, points in curves:
        drawn = "L".join(f"{x(share):.1f},{y_of(math.log10(max(low, value))):.1f}" for share, value in points)
        said = ", ".join(f"{share * 100:g}% {short(value)}" for share, value in points if share)
        parts.append(
            f'<path class="line {colour}" d="M{drawn}"><title>{escape(f"{name}: {said} {unit}")}</title></path>'
        )
    parts.append(_text(LEFT + 5, TOP - 3, "start", unit))
    return "".join([*parts, "</svg>"])


def _band(band: Band, x: Callable[[float], float], end: float) -> str:
    left, right = x(min(band.start, end)), x(min(band.end, end))
    size = f'width="{max(2.0, right - left):.1f}" height="{HEIGHT - TOP - BOTTOM}"'
    return f'<rect class="band {band.colour}" x="{left:.1f}" y="{TOP}" {size}/>'


def _text(x: float, y: float, anchor: str, words: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def short(value: float) -> str:
    """Write a number in little room: 1.2k, 3M, 0.05."""
    for bound, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= bound:
            return f"{value / bound:.3g}{letter}"
    return f"{value:.3g}"


def _curve(
    times: Sequence[float], line: Line, x: Callable[[float], float], y: Callable[[float], float], floor: float
) -> str:
    """Draw one curve, broken where values are missing."""
    runs: list[list[tuple[float, float]]] = [[]]
    for time, value in zip(times, line.values, strict=True):
        if math.isnan(value):
            runs.append([])
        else:
            runs[-1].append((x(time), y(value)))
    path, area = [], []
    for run in filter(None, runs):
        points = [f"{across:.1f},{up:.1f}" for across, up in run]
        if len(points) == 1:
            points.append(f"{run[0][0] + 1:.1f},{run[0][1]:.1f}")
        path.append("M" + "L".join(points))
        if line.filled:
            area.append(f"M{run[0][0]:.1f},{floor}L{'L'.join(points)}L{run[-1][0]:.1f},{floor}Z")
    tint = f'<path class="area {line.colour}" d="{"".join(area)}"/>' if area else ""
    back = " back" if line.back else ""
    return f'{tint}<path class="line {line.colour}{back}" d="{"".join(path)}"/>'


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _limits(lines: Sequence[Line], log: bool) -> tuple[float, float]:
    values = [value for line in lines for value in line.values if not math.isnan(value)]
    if not log:
        return 0.0, _ticks(max(values, default=1.0) or 1.0, 4)[-1]
    positive = [value for value in values if value > 0] or [1.0]
    low = 10.0 ** math.floor(math.log10(min(positive)))
    return low, max(low * 10, 10.0 ** math.ceil(math.log10(max(positive))))


def _ticks(high: float, parts: int) -> list[float]:
    """Pick some `parts` round values from 0 to the first that is not below `high`."""
    raw = high / parts
    power = 10.0 ** math.floor(math.log10(raw)) if raw > 0 else 1.0
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    return [number * step for number in range(math.ceil(high / step - 1e-9) + 1)]


def _decades(low: float, high: float) -> list[float]:
    first, last = round(math.log10(low)), round(math.log10(high))
    return [10.0**power for power in range(first, last + 1)]


def _nice_end(times: Sequence[float]) -> float:
    return (times[-1] + times[0]) if times else 1.0
