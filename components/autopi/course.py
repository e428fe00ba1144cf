"""The course of a search as a picture: softmax(alpha) on every edge of the supernet over the epochs; SVG text, torch-free."""

from __future__ import annotations

import math
from collections.abc import Sequence

from components.autopi.architecture import NUM_INPUTS, FoundArchitecture
from components.autopi.palette import colour_of, words_of
from components.autopi.svg import box, document, line, text, width_of

_PANEL_WIDTH, _PANEL_HEIGHT = 188, 132
_GAP_X, _GAP_Y = 34, 46
_MARGIN = 28
_COLUMNS = 7
_KEYS_A_LINE = 9
_FAINT = "#d5d9df"


def alpha_course(found: FoundArchitecture) -> str:
    """A small panel for each edge, a line for each operator; kept edges have bold titles."""
    if not found.history:
        words = f"The strategy '{found.strategy}' learned no alpha: there is no course to show."
        return document(2 * _MARGIN + width_of(words, 18), 80, [text(_MARGIN, 46, words, 18)], words)
    width = 2 * _MARGIN + _COLUMNS * _PANEL_WIDTH + (_COLUMNS - 1) * _GAP_X
    parts = [text(_MARGIN, _MARGIN + 20, "Course of softmax(alpha) over the epochs", 24, bold=True)]
    y = _MARGIN + 58
    courses = {name: _shares(found, name) for name in NUM_INPUTS}
    shares = [share for epochs in courses.values() for edges in epochs for of_edge in edges for share in of_edge]
    # To the next twentieth, and further where all are alike and lie on one.
    ends = max(math.floor((min(shares) - 0.001) * 20) / 20, 0.0), math.ceil((max(shares) + 0.001) * 20) / 20
    for name, first in NUM_INPUTS.items():
        cell = dict(found.architecture.cells())[name]
        epochs = courses[name]
        parts.append(
            text(
                _MARGIN,
                y + 14,
                f"{name.capitalize()} cell (edges: from node, to node; each from {ends[0]:g} to {ends[1]:g})",
                19,
                bold=True,
            )
        )
        y += 46
        kept = {(target, edge.source) for target, edges in enumerate(cell.nodes, start=first) for edge in edges}
        pairs = _pairs(first, len(epochs[0]))
        for number, (target, source) in enumerate(pairs):
            column, row = number % _COLUMNS, number // _COLUMNS
            left = _MARGIN + column * (_PANEL_WIDTH + _GAP_X)
            title = f"{source} to {target}" + (" (kept)" if (target, source) in kept else "")
            panel = [of_epoch[number] for of_epoch in epochs]
            parts += _panel(left, y + row * (_PANEL_HEIGHT + _GAP_Y), title, panel, found.operators, ends)
        y += math.ceil(len(pairs) / _COLUMNS) * (_PANEL_HEIGHT + _GAP_Y) + 6
    for number, operator in enumerate(found.operators):
        x = _MARGIN + number % _KEYS_A_LINE * 168
        y += 28 if number and number % _KEYS_A_LINE == 0 else 0
        parts.append(line([(x, y - 6), (x + 34, y - 6)], colour_of(operator), 5))
        parts.append(text(x + 42, y, words_of(operator), 18))
    words = f"{len(found.history)} epochs; alpha of epoch {found.best_epoch} was taken"
    parts.append(text(_MARGIN, y + 32, words, 17))
    return document(width, y + 32 + _MARGIN, parts, "Course of alpha")


def _panel(
    x: float,
    y: float,
    title: str,
    shares: Sequence[Sequence[float]],
    operators: Sequence[str],
    ends: tuple[float, float],
) -> list[str]:
    """`shares` holds one epoch after another, each with a share for each operator."""
    found = [
        text(x, y - 8, title, 16, bold=title.endswith("(kept)")),
        box(x, y, _PANEL_WIDTH, _PANEL_HEIGHT, "#ffffff", _FAINT, 2),
    ]
    steps = max(len(shares) - 1, 1)
    for number, operator in enumerate(operators):
        points = [
            (x + _PANEL_WIDTH * epoch / steps, y + _PANEL_HEIGHT * (ends[1] - of_epoch[number]) / (ends[1] - ends[0]))
            for epoch, of_epoch in enumerate(shares)
        ]
        found.append(
            line(points if len(points) > 1 else [*points, (x + _PANEL_WIDTH, points[0][1])], colour_of(operator), 2.5)
        )
    return found


def _shares(found: FoundArchitecture, cell: str) -> list[list[list[float]]]:
    """softmax(alpha) by epoch, edge and operator."""
    return [
        [_softmax(alphas) for alphas in (record.alpha_interaction if cell == "interaction" else record.alpha_ensemble)]
        for record in found.history
    ]


def _softmax(logits: Sequence[float]) -> list[float]:
    highest = max(logits)
    powers = [math.exp(logit - highest) for logit in logits]
    return [power / sum(powers) for power in powers]


def _pairs(first: int, count: int) -> list[tuple[int, int]]:
    pairs: list[tuple[int, int]] = []
    target = first
    while len(pairs) < count:
        pairs += [(target, source) for source in range(target)]
        target += 1
    return pairs
