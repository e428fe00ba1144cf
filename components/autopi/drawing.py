"""Pictures of a found architecture and of the search that found it, as SVG text: no script, no font fetched, same bytes.

Nodes stand in a row in the data's order; every kept edge is an arc above them, as high as it reaches far, so that no two
arcs share an apex and no two labels overlap. All inner nodes join in the cell's output, along the rail below.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from components.autopi.architecture import Architecture, Cell, Edge, EpochRecord, FoundArchitecture

COLOURS = {
    "skip": "#767676",
    "senet": "#0072b2",
    "self_attention": "#d55e00",
    "fm": "#009e73",
    "single_layer_perceptron": "#cc79a7",
    "convolution_1d": "#b8860b",
}
SHORT_NAMES = {
    "senet": "SENET",
    "self_attention": "attention",
    "fm": "FM",
    "single_layer_perceptron": "perceptron",
    "convolution_1d": "conv 1×1",
}
_OTHER_COLOURS = ("#56b4e9", "#7f3c8d", "#11a579", "#3969ac", "#80ba5a", "#e68310")
_FONT = "font-family='Helvetica, Arial, sans-serif'"
_INK, _FAINT = "#222222", "#b5b5b5"
_SPACING, _LEFT, _NODE_RADIUS = 172.0, 96.0, 17.0
_FIRST_ARC, _ARC_STEP = 40.0, 38.0
_JOINS = {"interaction": ("output", "convolution of nodes"), "ensemble": ("logit", "linear, of all nodes")}
_INPUTS = {"interaction": ("embedding 1",), "ensemble": ("interaction", "embedding 2")}
_PANEL_WIDTH, _PANEL_HEIGHT, _PANELS_A_ROW = 150.0, 92.0, 6


def draw(architecture: Architecture, field_names: Sequence[str]) -> str:
    """Both cells, one above the other: kept edges coloured by operator, as thick as they are strong; a legend below."""
    parts: list[str] = []
    top = 30.0
    for name, cell in architecture.cells():
        drawn, height = _draw_cell(name, cell, top)
        parts += drawn
        top += height
    width = max(_node_x(cell.num_inputs + len(cell.nodes)) for _, cell in architecture.cells()) + 100
    parts += _legend(sorted(set(architecture.operators()), key=_rank), _LEFT - 60, top + 6)
    fields = f"{architecture.num_fields} fields: {', '.join(field_names)}"
    parts += [
        _text(_LEFT - 60, top + 40 + 17 * n, line, 12, "start", "#555555") for n, line in enumerate(_wrap(fields, 150))
    ]
    height = top + 48 + 17 * len(_wrap(fields, 150))
    return _svg(width, height, f"Architecture: {architecture.to_text()}", parts)


def alpha_course(found: FoundArchitecture) -> str:
    """How the share of each operator went over the epochs, a panel an edge of the supernet; empty without a history."""
    if not found.history:
        return ""
    parts: list[str] = []
    top = 10.0
    for name, cell in found.architecture.cells():
        parts.append(_text(10, top + 14, f"{name.capitalize()} cell", 15, "start", _INK, is_bold=True))
        top += 30
        pairs = list(_supernet_edges(cell))
        for number, (source, target) in enumerate(pairs):
            left = 10 + (number % _PANELS_A_ROW) * (_PANEL_WIDTH + 14)
            at = top + (number // _PANELS_A_ROW) * (_PANEL_HEIGHT + 30)
            parts += _panel(found, name, number, left, at, f"{source} → {target}")
        top += math.ceil(len(pairs) / _PANELS_A_ROW) * (_PANEL_HEIGHT + 30) + 8
    parts += _legend(found.operators, 10, top + 6)
    width = 10 + _PANELS_A_ROW * (_PANEL_WIDTH + 14)
    return _svg(width, top + 26, "Share of each operator over the epochs of the search", parts)


def _draw_cell(name: str, cell: Cell, top: float) -> tuple[list[str], float]:
    num_nodes = cell.num_inputs + len(cell.nodes)
    edges = [(edge, target) for target, node in enumerate(cell.nodes, start=cell.num_inputs) for edge in node]
    reach = max(target - edge.source for edge, target in edges)
    row = top + 44 + _FIRST_ARC + _ARC_STEP * (reach - 1)
    parts = [_text(_LEFT - 60, top, f"{name.capitalize()} cell", 17, "start", _INK, is_bold=True)]
    parts += _rail(name, cell, row)
    parts += [line for edge, target in edges for line in _arc(edge, target, row)]
    parts += [line for edge, target in edges for line in _label(edge, target, row)]
    for number in range(num_nodes):
        parts += _node(number, number < cell.num_inputs, _node_x(number), row)
    for number, words in enumerate(_INPUTS[name]):
        parts.append(_text(_node_x(number), row + 36, words, 12, "middle", "#555555"))
    return parts, row - top + 96


def _rail(name: str, cell: Cell, row: float) -> list[str]:
    """The thin line on which all inner nodes reach the output."""
    first, last = _node_x(cell.num_inputs), _node_x(cell.num_inputs + len(cell.nodes))
    level = row + 46
    style = f"fill='none' stroke='{_FAINT}' stroke-width='1.5'"
    drops = "".join(
        f"M{_node_x(n):.1f} {row + _NODE_RADIUS:.1f}V{level:.1f}"
        for n in range(cell.num_inputs, cell.num_inputs + len(cell.nodes))
    )
    word, how = _JOINS[name]
    return [
        f"<path d='{drops}M{first:.1f} {level:.1f}H{last:.1f}V{row + 18:.1f}' {style}/>",
        f"<rect x='{last - 40:.1f}' y='{row - 18:.1f}' width='80' height='36' rx='6' fill='#ffffff' stroke='{_INK}' stroke-width='1.5'/>",
        _text(last, row + 5, word, 13, "middle", _INK, is_bold=True),
        _text(last - 8, level + 16, how, 12, "end", "#555555"),
    ]


def _arc(edge: Edge, target: int, row: float) -> list[str]:
    start, end = _node_x(edge.source), _node_x(target)
    apex = row - _height(edge, target)
    lift = row - (row - apex) * 4 / 3  # a cubic with both handles at this height has its apex three quarters up
    x1, x2 = start + 9, end - 9
    y = row - _NODE_RADIUS + 2
    lift -= (row - y) / 3
    width = 2.0 if edge.strength is None else 1.5 + 8.0 * min(edge.strength, 0.5)
    colour = _colour(edge.operator)
    bend = (x2 - x1) * 0.18
    return [
        f"<path d='M{x1:.1f} {y:.1f}C{x1 + bend:.1f} {lift:.1f} {x2 - bend:.1f} {lift:.1f} {x2:.1f} {y:.1f}' fill='none' "
        f"stroke='{colour}' stroke-width='{width:.2f}'/>",
        f"<path d='M{x2:.1f} {y + 1:.1f}l-9.5 -5.5l7.5 -5.5z' fill='{colour}'/>",
    ]


def _label(edge: Edge, target: int, row: float) -> list[str]:
    words = SHORT_NAMES.get(edge.operator, edge.operator)
    if edge.strength is not None:
        words += f" {edge.strength:.2f}"
    centre = (_node_x(edge.source) + _node_x(target)) / 2
    level = row - _height(edge, target)
    width = 7.1 * len(words) + 12
    return [
        f"<rect x='{centre - width / 2:.1f}' y='{level - 10:.1f}' width='{width:.1f}' height='20' rx='10' fill='#ffffff' "
        f"stroke='{_colour(edge.operator)}' stroke-width='1'/>",
        _text(centre, level + 4.5, words, 12.5, "middle", _INK),
    ]


def _node(number: int, is_input: bool, x: float, row: float) -> list[str]:
    fill = "#e8eef4" if is_input else "#ffffff"
    return [
        f"<circle cx='{x:.1f}' cy='{row:.1f}' r='{_NODE_RADIUS}' fill='{fill}' stroke='{_INK}' stroke-width='1.5'/>",
        _text(x, row + 5, str(number), 14, "middle", _INK, is_bold=True),
    ]


def _panel(found: FoundArchitecture, cell_name: str, number: int, left: float, top: float, title: str) -> list[str]:
    parts = [
        _text(left, top + 11, title, 12, "start", "#555555"),
        f"<rect x='{left:.1f}' y='{top + 16:.1f}' width='{_PANEL_WIDTH}' height='{_PANEL_HEIGHT - 16:.1f}' fill='none' stroke='#dddddd'/>",
    ]
    last = max(len(found.history) - 1, 1)
    for place, operator in enumerate(found.operators):
        points = []
        for step, epoch in enumerate(found.history):
            share = _shares(epoch, cell_name, number)[place]
            x = left + _PANEL_WIDTH * step / last
            points.append(f"{x:.1f},{top + _PANEL_HEIGHT - (_PANEL_HEIGHT - 16) * share:.1f}")
        parts.append(
            f"<polyline points='{' '.join(points)}' fill='none' stroke='{_colour(operator)}' stroke-width='1.8'/>"
        )
    return parts


def _shares(epoch: EpochRecord, cell_name: str, number: int) -> list[float]:
    """Softmax of one edge's alpha at the epoch's temperature."""
    alpha = (epoch.alpha_interaction if cell_name == "interaction" else epoch.alpha_ensemble)[number]
    highest = max(alpha)
    weights = [math.exp((value - highest) / epoch.temperature) for value in alpha]
    return [weight / sum(weights) for weight in weights]


def _supernet_edges(cell: Cell) -> Iterator[tuple[int, int]]:
    """(source, target) of every edge there was to choose from, by target, then source."""
    for target in range(cell.num_inputs, cell.num_inputs + len(cell.nodes)):
        for source in range(target):
            yield source, target


def _legend(operators: Sequence[str], left: float, top: float) -> list[str]:
    parts: list[str] = []
    for operator in operators:
        words = SHORT_NAMES.get(operator, operator)
        parts.append(f"<rect x='{left:.1f}' y='{top:.1f}' width='22' height='8' rx='2' fill='{_colour(operator)}'/>")
        parts.append(_text(left + 28, top + 9, words, 12.5, "start", _INK))
        left += 52 + 7.1 * len(words)
    return parts


def _node_x(number: int) -> float:
    return _LEFT + _SPACING * number


def _height(edge: Edge, target: int) -> float:
    return _FIRST_ARC + _ARC_STEP * (target - edge.source - 1)


def _rank(operator: str) -> tuple[int, str]:
    known = list(COLOURS)
    return (known.index(operator) if operator in known else len(known), operator)


def _colour(operator: str) -> str:
    return COLOURS.get(operator) or _OTHER_COLOURS[sum(operator.encode()) % len(_OTHER_COLOURS)]


def _wrap(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _text(x: float, y: float, words: str, size: float, anchor: str, colour: str, is_bold: bool = False) -> str:
    weight = " font-weight='bold'" if is_bold else ""
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' text-anchor='{anchor}' fill='{colour}'{weight} {_FONT}>"
        f"{escape(words)}</text>"
    )


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    frame = (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:.0f} {height:.0f}' width='{width:.0f}' "
        f"height='{height:.0f}' role='img'><title>{escape(title)}</title>"
        f"<rect width='100%' height='100%' fill='#ffffff'/>"
    )
    return frame + "".join(parts) + "</svg>"
