"""Drawings as inline SVG without script or outside host; colours come from the page's CSS, so dark pages are dark.

Every drawing has a title for readers who cannot see it, and hovering over a mark says its figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

WIDTH = 720
MARGIN_LEFT = 64
MARGIN_RIGHT = 16
MARGIN_TOP = 14
MARGIN_BOTTOM = 44

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Scale:
    """A value on an axis -> its place in pixels; `is_log` for axes that count in powers of ten."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool

    def __call__(self, value: float) -> float:
        low, high, at = (
            (math.log10(v) for v in (self.low, self.high, value)) if self.is_log else (self.low, self.high, value)
        )
        share = 0.5 if high == low else (at - low) / (high - low)
        return self.start + share * (self.end - self.start)

    def ticks(self, count: int) -> list[float]:
        """Round values inside the axis, about `count` of them."""
        return _log_ticks(self.low, self.high) if self.is_log else round_ticks(self.low, self.high, count)


@dataclass(frozen=True)
class Series:
    """One line or cloud of points; `role` is the CSS class that gives its colour."""

    name: str
    role: str
    points: Points
    style: Literal["line", "dashed", "points", "line+points"]


@dataclass(frozen=True)
class Axes:
    """What the two axes say, and which range they must show at least (None: what the points need).

    has_whole_x  the x axis counts something, so only whole numbers stand at it
    """

    x_label: str
    y_label: str
    x_range: tuple[float, float] | None
    y_range: tuple[float, float] | None
    is_log: bool
    has_whole_x: bool
    height: int


def round_ticks(low: float, high: float, count: int) -> list[float]:
    """Values 1, 2 or 5 times a power of ten apart, from the first at or above `low` to the last at or below `high`."""
    if high <= low:
        return [low]
    rough = (high - low) / max(count, 1)
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    return [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]


def number(value: float) -> str:
    """A tick's text: as many digits as it needs and no more."""
    if value == 0:
        return "0"
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.6g}"


def xy_chart(title: str, axes: Axes, series: Sequence[Series], under: Callable[[Scale, Scale], str]) -> str:
    """Lines and points over two axes with a legend; `under` may draw bands and rules below them."""
    xs = [x for one in series for x, _ in one.points] + list(axes.x_range or ())
    ys = [y for one in series for _, y in one.points] + list(axes.y_range or ())
    if not xs:
        return ""
    x_scale = Scale(min(xs), max(xs), MARGIN_LEFT, WIDTH - MARGIN_RIGHT, axes.is_log)
    y_low, y_high = (min(ys), max(ys)) if axes.is_log else _padded(min(ys), max(ys))
    y_scale = Scale(y_low, y_high, axes.height - MARGIN_BOTTOM, MARGIN_TOP, axes.is_log)
    body = [_grid(axes, x_scale, y_scale), under(x_scale, y_scale)]
    body += [_draw_series(one, x_scale, y_scale) for one in series if one.points]
    return legend(series) + svg(title, WIDTH, axes.height, "".join(body))


def nothing_under(_x: Scale, _y: Scale) -> str:
    """No band and no rule."""
    return ""


def vertical_rule(x: float, words: str, is_note_on_top: bool, x_scale: Scale, y_scale: Scale) -> str:
    """A dashed vertical line with a word beside its top or its foot."""
    at = x_scale(x)
    anchor = "end" if at > WIDTH * 0.7 else "start"
    shift = -6 if anchor == "end" else 6
    note = text("note", at + shift, y_scale.end + 11 if is_note_on_top else y_scale.start - 8, anchor, words)
    return f'<line class="rule" x1="{at:.1f}" x2="{at:.1f}" y1="{y_scale.start:.1f}" y2="{y_scale.end:.1f}"/>{note}'


def band(lower: Points, upper: Points, role: str, x_scale: Scale, y_scale: Scale) -> str:
    """The area between two lines."""
    outline = [*lower, *reversed(list(upper))]
    text = " ".join(f"{x_scale(x):.1f},{y_scale(y):.1f}" for x, y in outline)
    return f'<polygon class="band {role}" points="{text}"/>'


def legend(series: Sequence[Series]) -> str:
    """The names of the series with their colours, each once, as HTML above the drawing."""
    keys = dict.fromkeys((one.role, one.style.split("+")[0], one.name) for one in series)
    if len(keys) < 2:
        return ""
    items = "".join(
        f'<span class="key"><i class="swatch {role} {style}"></i>{escape(name)}</span>' for role, style, name in keys
    )
    return f'<div class="legend">{items}</div>'


def svg(title: str, width: float, height: float, body: str) -> str:
    """The frame of a drawing, scaled to the page's width."""
    name = escape(title, quote=True)
    return (
        f'<svg class="chart" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{name}" '
        f'preserveAspectRatio="xMidYMid meet">{body}</svg>'
    )


def text(role: str, x: float, y: float, anchor: str, words: str) -> str:
    return f'<text class="{role}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _padded(low: float, high: float) -> tuple[float, float]:
    room = (high - low) * 0.06 or abs(high) * 0.05 or 1.0
    return low - room, high + room


def _grid(axes: Axes, x_scale: Scale, y_scale: Scale) -> str:
    parts = []
    for tick in y_scale.ticks(5):
        at = y_scale(tick)
        parts.append(f'<line class="grid" x1="{x_scale.start}" x2="{x_scale.end}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(text("tick", x_scale.start - 8, at + 3.5, "end", number(tick)))
    bottom = y_scale.start
    for tick in x_scale.ticks(8):
        if axes.has_whole_x and tick != round(tick):
            continue
        at = x_scale(tick)
        parts.append(f'<line class="tickmark" x1="{at:.1f}" x2="{at:.1f}" y1="{bottom}" y2="{bottom + 4}"/>')
        parts.append(text("tick", at, bottom + 17, "middle", number(tick)))
    parts.append(f'<line class="axis" x1="{x_scale.start}" x2="{x_scale.end}" y1="{bottom}" y2="{bottom}"/>')
    middle = (x_scale.start + x_scale.end) / 2
    parts.append(text("label", middle, axes.height - 8, "middle", axes.x_label))
    centre = (y_scale.start + y_scale.end) / 2
    parts.append(
        f'<g transform="translate(14 {centre:.1f}) rotate(-90)">{text("label", 0, 0, "middle", axes.y_label)}</g>'
    )
    return "".join(parts)


def _draw_series(one: Series, x_scale: Scale, y_scale: Scale) -> str:
    places = [(x_scale(x), y_scale(y), x, y) for x, y in one.points]
    drawn = []
    if one.style != "points":
        text = " ".join(f"{px:.1f},{py:.1f}" for px, py, _, _ in places)
        dashed = " dashed" if one.style == "dashed" else ""
        drawn.append(f'<polyline class="line {one.role}{dashed}" points="{text}"/>')
    if one.style in ("points", "line+points"):
        drawn += [
            f'<circle class="dot {one.role}" cx="{px:.1f}" cy="{py:.1f}" r="3.6">'
            f"<title>{escape(one.name)}: {number(x)}, {y:.5g}</title></circle>"
            for px, py, x, y in places
        ]
    return "".join(drawn)
