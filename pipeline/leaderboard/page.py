"""The board as one HTML page without script or outside host: the table, and what it looks like."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from html import escape
from pathlib import Path

from pipeline.leaderboard.board import Board, BoardRow
from pipeline.leaderboard.table import cells_of, cells_of_oracle, columns, figure, is_beyond_noise, words
from pipeline.report import charts
from pipeline.report.charts import Axes, Scale, Series

_STYLE = Path(charts.__file__).with_name("style.css")
_ROW_HEIGHT = 24
_NAMES_WIDTH = 150
_FAR = 6.0  # times the median distance from the best


def html(board: Board) -> str:
    """Lay the board out."""
    there = [row for row in board.rows if row.results]
    sections = [_table(board, there), _failures(board)]
    if there:
        sections += [_forest(board, there), _losses(there), _costs(there)]
    said = "".join(f"<p>{_marked(one)}</p>" for one in words(board))
    title = f"Leaderboard: {escape(board.log)}"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE.read_text(encoding='utf-8')}{_OWN_STYLE}</style></head><body>"
        f'<header><p class="kicker">{board.num_test_rows:,} test rows</p><h1>{title}</h1>{said}</header><main>'
        f"{''.join(sections)}</main><footer><p class='lead'>Encoded rows: <code>{board.data[:16]}</code></p></footer></body></html>\n"
    )


_OWN_STYLE = """
main, header, footer { max-width: 1240px; }
.leveller { fill: var(--first); } .surely { fill: var(--second); } .whisker { stroke: var(--soft); stroke-width: 1.5; }
.from { fill: none; stroke: var(--faint); stroke-width: 1.5; } .best { stroke: var(--faint); stroke-dasharray: 3 3; }
.key .swatch.leveller { border-color: var(--first); background: var(--first); }
.key .swatch.surely { border-color: var(--second); background: var(--second); }
.banner li strong { display: inline; font-size: 1em; } section table { font-size: 0.8rem; } section th { font-size: 0.72rem; }
section th, section td { padding: 5px 9px 5px 0; }
"""


def _marked(text: str) -> str:
    """Markdown's bold and code as HTML."""
    bold = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", escape(text))
    return re.sub(r"`(.+?)`", r"<code>\1</code>", bold)


def _table(board: Board, rows: Sequence[BoardRow]) -> str:
    head = "".join(
        f"<th{' class=num' if place else ''}>{escape(name)}</th>" for place, name in enumerate(columns(board))
    )
    lines = [] if board.oracle is None else [_line(cells_of_oracle(board.oracle))]
    lines += [_line(cells_of(row, board)) for row in rows]
    return f'<section><h2>Figures</h2><div class="scroll"><table><thead><tr>{head}</tr></thead>{"".join(lines)}</table></div></section>'


def _line(cells: Sequence[str]) -> str:
    first, *others = (_small(_marked(cell)) for cell in cells)
    return f"<tr><td><strong>{first}</strong></td>{''.join(f'<td class=num>{cell}</td>' for cell in others)}</tr>"


def _small(cell: str) -> str:
    """A deviation stands below its mean."""
    return re.sub(r" ± ([0-9.]+)$", r"<small>± \1</small>", cell)


def _failures(board: Board) -> str:
    failed = [one for row in board.rows for one in row.failures]
    if not failed:
        return ""
    items = "".join(
        f"<li><strong>{escape(one.row)}</strong>, seed {one.seed}: {escape(one.reason)}</li>" for one in failed
    )
    return f'<section><h2>Not measured</h2><div class="banner fail"><ul>{items}</ul></div></section>'


def _forest(board: Board, rows: Sequence[BoardRow]) -> str:
    """Each ranker's distance from the one compared with, with two standard errors: who is not told apart stands out."""
    best = "the best one" if board.against is None else board.against
    reach = {row.name: 2 * row.auc_difference.standard_error if row.auc_difference else 0.0 for row in rows}
    at = {row.name: row.auc_difference.value if row.auc_difference else 0.0 for row in rows}
    # A ranker far behind would press all others into one point; it stands at the edge with its figure.
    edge = _FAR * min(statistics.median(min(one, 0.0) for one in at.values()), -1e-4)
    near = [name for name in at if at[name] - reach[name] >= edge]
    low = min(at[name] - reach[name] for name in near) * 1.05
    high = max(max(at[name] + reach[name] for name in near), 1e-9)
    scale = Scale(low, high, _NAMES_WIDTH, charts.WIDTH - charts.MARGIN_RIGHT, False)
    height = len(rows) * _ROW_HEIGHT + 50
    bottom = height - 38
    parts = [_vertical(scale(0.0), bottom, "best")]
    for tick in scale.ticks(6):
        parts += [
            _vertical(scale(tick), bottom, "grid"),
            charts.text("tick", scale(tick), bottom + 16, "middle", f"{tick:g}"),
        ]
    for place, row in enumerate(rows):
        y = 14 + place * _ROW_HEIGHT
        if row.name not in near:
            far = f"◂ {at[row.name]:+.4f}"
            parts += [
                charts.text("tick", _NAMES_WIDTH - 12, y + 4, "end", row.name),
                charts.text("note", _NAMES_WIDTH, y + 4, "start", far),
            ]
            continue
        left, right = scale(at[row.name] - reach[row.name]), scale(at[row.name] + reach[row.name])
        role = "surely" if is_beyond_noise(row.auc_difference, board) else "leveller"
        auc = figure(row, "auc")[0]
        parts += [
            charts.text("tick", _NAMES_WIDTH - 12, y + 4, "end", row.name),
            f'<line class="whisker" x1="{left:.1f}" x2="{right:.1f}" y1="{y}" y2="{y}"/>',
            f'<circle class="{role}" cx="{scale(at[row.name]):.1f}" cy="{y}" r="4.5"><title>{row.name}: AUC {auc:.5f}</title></circle>',
        ]
    middle = (_NAMES_WIDTH + charts.WIDTH) / 2
    parts.append(
        charts.text("label", middle, height - 6, "middle", f"test AUC minus {best}'s, with two standard errors")
    )
    keys = (
        '<div class="legend"><span class="key"><i class="swatch leveller"></i>not told apart</span>'
        '<span class="key"><i class="swatch surely"></i>beyond noise after Holm’s correction</span></div>'
    )
    drawn = charts.svg(f"Test AUC minus {best}'s", charts.WIDTH, height, "".join(parts))
    return f"<section><h2>Who is best, and who might be</h2>{keys}<figure>{drawn}</figure></section>"


def _losses(rows: Sequence[BoardRow]) -> str:
    """What calibration takes off each log loss."""
    pairs = [(row.name, figure(row, "raw_log_loss")[0], figure(row, "log_loss")[0]) for row in rows]
    values = [value for _, *both in pairs for value in both]
    scale = Scale(min(values), max(values) + 1e-9, _NAMES_WIDTH, charts.WIDTH - charts.MARGIN_RIGHT - 8, False)
    height = len(rows) * _ROW_HEIGHT + 50
    bottom = height - 38
    parts = []
    for tick in scale.ticks(6):
        parts += [
            _vertical(scale(tick), bottom, "grid"),
            charts.text("tick", scale(tick), bottom + 16, "middle", f"{tick:g}"),
        ]
    for place, (name, raw, calibrated) in enumerate(pairs):
        y = 14 + place * _ROW_HEIGHT
        parts += [
            charts.text("tick", _NAMES_WIDTH - 12, y + 4, "end", name),
            f'<line class="whisker" x1="{scale(raw):.1f}" x2="{scale(calibrated):.1f}" y1="{y}" y2="{y}"/>',
            f'<circle class="from" cx="{scale(raw):.1f}" cy="{y}" r="4"><title>{name}, raw: {raw:.5f}</title></circle>',
            f'<circle class="leveller" cx="{scale(calibrated):.1f}" cy="{y}" r="4.5">'
            f"<title>{name}, calibrated: {calibrated:.5f}</title></circle>",
        ]
    middle = (_NAMES_WIDTH + charts.WIDTH) / 2
    parts.append(
        charts.text("label", middle, height - 6, "middle", "log loss on test: raw (hollow) → calibrated (filled)")
    )
    drawn = charts.svg("Log loss before and after calibration", charts.WIDTH, height, "".join(parts))
    return f"<section><h2>What calibration gives</h2><figure>{drawn}</figure></section>"


def _costs(rows: Sequence[BoardRow]) -> str:
    """AUC against what it costs to score."""
    points = [(row, figure(row, "milliseconds_per_1000")[0], figure(row, "auc")[0]) for row in rows]
    axes = Axes("milliseconds to score 1,000 rows on one core", "test AUC", (0.0, 0.0), None, False, False, 360)
    series = [Series(row.name, "first", [(cost, auc)], "points") for row, cost, auc in points]

    def named(x_scale: Scale, y_scale: Scale) -> str:
        parts = []
        for place, (row, cost, auc) in enumerate(sorted(points, key=lambda point: point[1])):
            x, is_left = x_scale(cost), x_scale(cost) < charts.WIDTH * 0.8
            y = y_scale(auc) + (-6 if place % 2 == 0 else 15)  # neighbours above and below in turn
            parts.append(charts.text("note", x + (6 if is_left else -6), y, "start" if is_left else "end", row.name))
        return "".join(parts)

    drawn = charts.xy_chart("Test AUC by the time of a score", axes, series, named)
    drawn = drawn[drawn.index("<svg") :]  # names stand at the points, so no legend
    return f"<section><h2>What it costs to score</h2><figure>{drawn}</figure></section>"


def _vertical(x: float, bottom: float, role: str) -> str:
    return f'<line class="{role}" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{bottom}"/>'
