"""The board as one HTML page without script or outside host: the table, and what it looks like."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from html import escape
from pathlib import Path

from pipeline.leaderboard.board import Board, BoardRow
from pipeline.leaderboard.table import cells_of, cells_of_oracle, columns, figure
from pipeline.leaderboard.words import is_beyond_noise, words
from pipeline.report import charts
from pipeline.report.charts import Axes, Scale, Series

_STYLE = Path(charts.__file__).with_name("style.css")
_ROW_HEIGHT = 24
_NAMES_WIDTH = 150
_FIRST_COST = "parameters"  # the column that the table of costs begins with
LETTER_WIDTH, LINE_HEIGHT = 6.2, 12.0  # of a name in a drawing, about
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
    """How well each ranks, and below it at what cost: one table of all columns would be wider than a screen."""
    names = columns(board)
    lines = [] if board.oracle is None else [cells_of_oracle(board.oracle)]
    lines += [cells_of(row, board) for row in rows]
    cut = names.index(_FIRST_COST)
    costs = [[line[0], *line[cut:]] for line in lines if line[cut]]  # the oracle costs nothing
    return (
        f"<section><h2>Figures</h2>{_scrolled(names[:cut], [line[:cut] for line in lines])}</section>"
        f"<section><h2>What each costs</h2>{_scrolled([names[0], *names[cut:]], costs)}</section>"
    )


def _scrolled(names: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th{' class=num' if place else ''}>{escape(name)}</th>" for place, name in enumerate(names))
    body = "".join(_line(cells) for cells in lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead>{body}</table></div>'


def _line(cells: Sequence[str]) -> str:
    first, *others = (small_below(_marked(cell)) for cell in cells)
    return f"<tr><td><strong>{first}</strong></td>{''.join(f'<td class=num>{cell}</td>' for cell in others)}</tr>"


def small_below(cell: str) -> str:
    """A deviation stands below its mean, a p-value and a number of pairs below their difference; HTML in and out."""
    cell = re.sub(r"^<strong>(\S+) (± [0-9.]+)</strong>( \(.*\))$", r"<strong>\1</strong><small>\2\3</small>", cell)
    return re.sub(r" (± [0-9.]+( \(p .*\))?|\(p .*\))$", r"<small>\1</small>", cell)


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
    """What AUC lacks of 1 against what it costs to score, both in powers of ten, since rankers differ so."""
    points = [
        (row.name, figure(row, "milliseconds_per_1000")[0], 1 - figure(row, "auc")[0])
        for row in rows
        if figure(row, "auc")[0] < 1
    ]
    axes = Axes("milliseconds to score 1,000 rows on one core", "1 − test AUC", None, None, True, False, 420)
    series = [Series(name, "first", [(cost, lack)], "points") for name, cost, lack in points]

    def named(x_scale: Scale, y_scale: Scale) -> str:
        return names_beside([(name, x_scale(cost), y_scale(lack)) for name, cost, lack in points])

    drawn = charts.xy_chart("What test AUC lacks of 1, by the time of a score", axes, series, named)
    drawn = drawn[drawn.index("<svg") :] if drawn else ""  # names stand at the points, so no legend
    said = "<p class='lead'>Low and to the left is best. A point without a name has no room for it.</p>"
    return f"<section><h2>What it costs to score</h2>{said}<figure>{drawn}</figure></section>"


def names_beside(points: Sequence[tuple[str, float, float]]) -> str:
    """Each name beside its point where it covers no other name or point: to the right, to the left, above or below."""
    taken = [(x - 5, y - 5, x + 5, y + 5) for _, x, y in points]
    parts = []
    for own, (name, x, y) in enumerate(points):
        width = len(name) * LETTER_WIDTH
        for anchor, at, left, foot in (
            ("start", x + 7, x + 7, y + 4),
            ("end", x - 7, x - 7 - width, y + 4),
            ("middle", x, x - width / 2, y - 8),
            ("middle", x, x - width / 2, y + 17),
        ):
            box = (left, foot - LINE_HEIGHT, left + width, foot)
            others = (one for place, one in enumerate(taken) if place != own)
            is_inside = box[0] >= charts.MARGIN_LEFT and box[2] <= charts.WIDTH
            if is_inside and not any(_overlap(box, other) for other in others):
                taken.append(box)
                parts.append(charts.text("note", at, foot, anchor, name))
                break
    return "".join(parts)


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _vertical(x: float, bottom: float, role: str) -> str:
    return f'<line class="{role}" x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{bottom}"/>'
