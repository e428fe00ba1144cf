"""Drawings that are one line high: the log on a time line, figures with their intervals, a ratio over its band."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import escape

from pipeline.report.charts import WIDTH, Scale, number, round_ticks, svg, text

CELL_WIDTH = 190.0


@dataclass(frozen=True)
class Stretch:
    """One coloured part of a time line: where it begins and ends, its name and what stands below it."""

    name: str
    role: str
    start: float
    end: float
    words: str


def time_line(title: str, stretches: Sequence[Stretch], is_time: bool) -> str:
    """Stretches of a log one after the other; gaps between them stay hatched. In microseconds, or row numbers."""
    low, high = min(part.start for part in stretches), max(part.end for part in stretches)
    scale = Scale(low, high, 8, WIDTH - 8, False)
    top, tall = 26, 30
    parts = [
        '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<line class="hatchline" x1="0" x2="0" y1="0" y2="6"/></pattern></defs>',
        f'<rect x="8" y="{top}" width="{WIDTH - 16}" height="{tall}" fill="url(#hatch)"/>',
    ]
    for part in stretches:
        left, right = scale(part.start), scale(part.end)
        wide = max(right - left, 1.5)
        parts.append(
            f'<rect class="stretch {part.role}" x="{left:.1f}" y="{top}" width="{wide:.1f}" height="{tall}" rx="2">'
            f"<title>{escape(part.name)}: {escape(part.words)}</title></rect>"
        )
        middle = left + wide / 2
        is_roomy = wide > 7 * len(part.name) + 6
        height = top + tall / 2 + 4 if is_roomy else top - 6
        parts.append(text("instretch" if is_roomy else "note", middle, height, "middle", part.name))
    for place, words in (
        _time_ticks(low, high) if is_time else [(tick, number(tick)) for tick in round_ticks(low, high, 6)]
    ):
        at = scale(place)
        anchor = "start" if at < 40 else "end" if at > WIDTH - 40 else "middle"
        parts.append(
            f'<line class="tickmark" x1="{at:.1f}" x2="{at:.1f}" y1="{top + tall + 2}" y2="{top + tall + 7}"/>'
        )
        parts.append(text("tick", at, top + tall + 20, anchor, words))
    return svg(title, WIDTH, top + tall + 26, "".join(parts))


def _time_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Days (or hours, or months) that begin inside the stretch, at most about eight."""
    first, last = (datetime.fromtimestamp(value / 1e6, UTC) for value in (low, high))
    span = last - first
    for step in (1, 2, 3, 6, 12):
        if span <= timedelta(hours=step * 9):
            moment = first.replace(minute=0, second=0, microsecond=0)
            return _moments(moment, last, first, timedelta(hours=step), "%d %b %H:%M")
    days = next((step for step in (1, 2, 4, 7, 14, 28) if span <= timedelta(days=step * 8)), max(span.days // 7, 1))
    return _moments(
        first.replace(hour=0, minute=0, second=0, microsecond=0), last, first, timedelta(days=days), "%d %b %Y"
    )


def _moments(
    moment: datetime, last: datetime, first: datetime, step: timedelta, pattern: str
) -> list[tuple[float, str]]:
    ticks = []
    while moment <= last:
        if moment >= first:
            ticks.append((moment.timestamp() * 1e6, moment.strftime(pattern)))
        moment += step
    return ticks


@dataclass(frozen=True)
class Whisker:
    """A measured value with its interval; bounds are None where none was computed."""

    role: str
    value: float | None
    low: float | None
    high: float | None


def whiskers(title: str, values: Sequence[Whisker], low: float, high: float, rules: Sequence[float]) -> str:
    """A small row of dots with intervals for a table cell, on the axis low..high that all its rows share."""
    row = 13.0
    scale = Scale(low, high, 6, CELL_WIDTH - 6, False)
    tall = row * max(len(values), 1) + 4
    parts = [f'<line class="rule" x1="{scale(at):.1f}" x2="{scale(at):.1f}" y1="0" y2="{tall}"/>' for at in rules]
    for place, one in enumerate(values):
        if one.value is None:
            continue
        y = 2 + row * (place + 0.5)
        if one.low is not None and one.high is not None:
            left, right = scale(max(one.low, low)), scale(min(one.high, high))
            parts.append(f'<line class="whisker {one.role}" x1="{left:.1f}" x2="{right:.1f}" y1="{y}" y2="{y}"/>')
        at = scale(min(max(one.value, low), high))
        parts.append(
            f'<circle class="dot {one.role}" cx="{at:.1f}" cy="{y}" r="3.4"><title>{one.value:.5g}</title></circle>'
        )
    return cell(title, tall, "".join(parts))


def over_band(title: str, value: float | None, band: tuple[float, float], ends: tuple[float, float]) -> str:
    """A dot over the stretch that chance alone would fill, on the axis `ends`, for a table cell; at its end where it lies beyond."""
    scale = Scale(ends[0], ends[1], 6, CELL_WIDTH - 6, False)
    left, right = (scale(min(max(end, ends[0]), ends[1])) for end in band)
    parts = [
        f'<line class="grid" x1="6" x2="{CELL_WIDTH - 6}" y1="9" y2="9"/>',
        f'<rect class="band chance" x="{left:.1f}" y="3" width="{right - left:.1f}" height="12" rx="2"/>',
        f'<line class="rule" x1="{scale(1):.1f}" x2="{scale(1):.1f}" y1="0" y2="18"/>',
    ]
    if value is not None:
        at = scale(min(max(value, ends[0]), ends[1]))
        role = "first" if band[0] <= value <= band[1] else "alarm"
        parts.append(f'<circle class="dot {role}" cx="{at:.1f}" cy="9" r="3.8"><title>{value:.4g}</title></circle>')
    return cell(title, 18, "".join(parts))


def cell(title: str, height: float, body: str) -> str:
    """A drawing of a table cell's width."""
    return svg(title, CELL_WIDTH, height, body).replace('class="chart"', 'class="chart cell"')
