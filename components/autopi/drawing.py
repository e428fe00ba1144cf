"""The found network as a picture: SVG text, the same bytes for the same content.

Torch-free; nothing is fetched: fonts are named by family only, and the widths of words are estimated generously. Nodes
stand in a row; each edge rises from its source, runs on a lane of its own above the row and comes down on its target.
All upright lines stand above nodes and all words between them, so no line ever crosses a word.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from components.autopi.architecture import Architecture, Cell, Edge
from components.autopi.course import alpha_course
from components.autopi.palette import COLOURS, colour_of, words_of
from components.autopi.svg import INK, box, document, line, polygon, text, width_of

__all__ = ["alpha_course", "draw", "draw_with_dropped"]

_STEP = 276  # from node to node
_NODE_WIDTH, _NODE_HEIGHT = 124, 50
_LANE = 40  # from lane to lane
_FAINT_LANE = 11  # the same of dropped edges, which have no words
_MARGIN = 28
_THIN, _THICK = 2.0, 7.0  # strokes of the weakest thinkable and the strongest edge
_INNER, _GIVEN, _RESULT, _CELL = "#ffffff", "#dfe9f5", "#fbe9c8", "#f6f7f9"
_FAINT = "#a5adb8"
_DROPPED = "#cdd2d9"


def draw(architecture: Architecture, field_names: Sequence[str]) -> str:
    """Both cells with their kept edges, coloured by operator, wider where stronger, and a legend.

    `field_names` are those of the log, as many as the architecture has fields.
    """
    return _draw(architecture, field_names, False)


def draw_with_dropped(architecture: Architecture, field_names: Sequence[str]) -> str:
    """The same with every edge that the search could have kept and did not, faint and above the others."""
    return _draw(architecture, field_names, True)


def _draw(architecture: Architecture, field_names: Sequence[str], has_dropped: bool) -> str:
    strengths = [edge.strength for _, cell in architecture.cells() for edges in cell.nodes for edge in edges]
    strongest = max((strength for strength in strengths if strength is not None), default=1.0) or 1.0
    top = _MARGIN + (104 if architecture.terms else 76)
    interaction = _Row(
        architecture.interaction, "Interaction cell", ("embedding 1",), "result", top, strongest, has_dropped
    )
    ensemble_inputs = ("interaction|cell's result", "embedding 2")
    ensemble = _Row(
        architecture.ensemble,
        "Ensemble cell",
        ensemble_inputs,
        "logit",
        interaction.bottom + 24,
        strongest,
        has_dropped,
    )
    width = max(interaction.right, ensemble.right) + _MARGIN
    kept = set(architecture.operators())
    operators = [*(name for name in COLOURS if name in kept), *sorted(kept - set(COLOURS))]
    notes = ["nodes are numbered within their cell, inputs first"]
    if any(strength is not None for strength in strengths):
        notes.insert(0, "number and width of an edge: its strength, softmax(alpha) x softmax(beta)")
    if has_dropped:
        notes.append("faint: edges that were dropped")
    legend, bottom = _legend(operators, notes, width, ensemble.bottom + 40)
    parts = [
        text(_MARGIN, _MARGIN + 20, "Found network of interactions", 24, bold=True),
        text(_MARGIN, _MARGIN + 50, _fields_in_words(field_names, width - 2 * _MARGIN), 18),
        *_terms_in_words(architecture, field_names, width - 2 * _MARGIN),
        *interaction.parts(width - 2 * _MARGIN),
        *ensemble.parts(width - 2 * _MARGIN),
        *legend,
    ]
    return document(width, bottom + _MARGIN, parts, f"AutoPI network: {architecture.to_text()}")


@dataclass(frozen=True)
class _Way:
    """One edge's way: from above its source at x_from up to a lane, along it, down to its target at x_to."""

    edge: Edge
    target: int
    lane: int
    x_from: float
    x_to: float


class _Row:
    """One cell laid out: given nodes, inner nodes and the result in a row, the edges' lanes above, the collecting line below."""

    def __init__(
        self,
        cell: Cell,
        title: str,
        inputs: tuple[str, ...],
        result: str,
        top: int,
        strongest: float,
        has_dropped: bool,
    ) -> None:
        self._cell = cell
        self._title = title
        self._top = top
        self._strongest = strongest
        self._inputs = inputs
        self._names = (
            *inputs,
            *(f"node {number}" for number, _ in enumerate(cell.nodes, start=cell.num_inputs)),
            result,
        )
        self._xs = [_MARGIN + 28 + _NODE_WIDTH // 2 + index * _STEP for index in range(len(self._names))]
        self._kept = _lanes(_kept_pairs(cell))
        self._dropped = _lanes(_dropped_pairs(cell)) if has_dropped else {}
        faint = (max(self._dropped.values(), default=-1) + 1) * _FAINT_LANE
        self._row = top + 44 + faint + (max(self._kept.values()) + 1) * _LANE + 18 + _NODE_HEIGHT // 2
        self._ways = list(self._find_ways())
        self.bottom = self._row + _NODE_HEIGHT // 2 + 62
        self.right = self._xs[-1] + _NODE_WIDTH // 2 + 28

    def _find_ways(self) -> Iterable[_Way]:
        """Every edge's way; those that were dropped have none."""
        for target, edges in enumerate(self._cell.nodes, start=self._cell.num_inputs):
            for edge in edges:
                x_from, x_to = self._ports(edge.source, target)
                yield _Way(edge, target, self._kept[edge.source, target], x_from, x_to)

    def _ports(self, source: int, target: int) -> tuple[float, float]:
        """Edges come in on the left half of a node's top and leave on its right half, those that go far on the inside."""
        pairs = [*self._kept, *self._dropped]
        ends = sorted((end for start, end in pairs if start == source), reverse=True)
        starts = sorted(start for start, end in pairs if end == target)
        out = (ends.index(target) + 1) / (len(ends) + 1)
        into = (len(starts) - starts.index(source)) / (len(starts) + 1)
        return self._xs[source] + _NODE_WIDTH / 2 * out, self._xs[target] - _NODE_WIDTH / 2 * into

    def parts(self, width: int) -> list[str]:
        """The cell as SVG elements."""
        found = [
            box(_MARGIN, self._top, width, self.bottom - self._top, _CELL, "none", 10),
            text(_MARGIN + 16, self._top + 28, self._title, 19, bold=True),
        ]
        found += self._collecting_line()
        found += self._draw_dropped()
        for way in sorted(self._ways, key=lambda way: -way.lane):
            found += self._draw_way(way)
        top_of_nodes = self._row - _NODE_HEIGHT // 2
        for index, (x, name) in enumerate(zip(self._xs, self._names, strict=True)):
            is_given, is_result = index < len(self._inputs), index == len(self._xs) - 1
            fill = _RESULT if is_result or "result" in name else _GIVEN if is_given else _INNER
            found.append(box(x - _NODE_WIDTH / 2, top_of_nodes, _NODE_WIDTH, _NODE_HEIGHT, fill, INK, 8))
            lines = name.split("|")
            size = 18 if len(lines) == 1 else 15
            for number, words in enumerate(lines):
                found.append(text(x, self._row + 6 - 10 * (len(lines) - 1) + 20 * number, words, size, "middle"))
        return found

    def _draw_dropped(self) -> list[str]:
        top = self._row - _NODE_HEIGHT / 2
        lowest = top - 24 - (max(self._kept.values()) + 1) * _LANE
        found = []
        for (source, target), lane in self._dropped.items():
            x_from, x_to = self._ports(source, target)
            y = lowest - lane * _FAINT_LANE
            found.append(line([(x_from, top), (x_from, y), (x_to, y), (x_to, top)], _DROPPED, 1.5))
        return found

    def _draw_way(self, way: _Way) -> list[str]:
        colour = colour_of(way.edge.operator)
        share = 0.4 if way.edge.strength is None else way.edge.strength / self._strongest
        stroke = round(_THIN + (_THICK - _THIN) * share, 2)
        y = self._row - _NODE_HEIGHT / 2 - 24 - way.lane * _LANE
        end = self._row - _NODE_HEIGHT / 2
        tip = 9 + stroke / 2
        points = [(way.x_from, end), (way.x_from, y), (way.x_to, y), (way.x_to, end - tip)]
        label = words_of(way.edge.operator)
        if way.edge.strength is not None:
            label += f" {way.edge.strength:.3f}".replace(" 0.", " .")
        # The gap right of the source: no port is there.
        middle = self._xs[way.edge.source] + _STEP / 2
        wide = width_of(label, 18) + 20  # bold letters are wider
        return [
            line(points, colour, stroke),
            polygon([(way.x_to, end), (way.x_to - tip * 0.6, end - tip), (way.x_to + tip * 0.6, end - tip)], colour),
            box(middle - wide / 2, y - 11, wide, 22, _CELL, "none", 4),
            text(middle, y + 6, label, 18, "middle", colour=colour, bold=True),
        ]

    def _collecting_line(self) -> list[str]:
        """Every inner node goes into the result, by a convolution or concatenated: one line below the row."""
        low = self._row + _NODE_HEIGHT / 2
        y = low + 26
        inner = self._xs[len(self._inputs) : -1]
        last = self._xs[-1]
        found = [line([(x, low), (x, y)], _FAINT, 2) for x in inner]
        found.append(line([(inner[0], y), (last, y), (last, low + 8)], _FAINT, 2))
        found.append(polygon([(last, low), (last - 5, low + 9), (last + 5, low + 9)], _FAINT))
        words = "1x1 convolution over all nodes" if self._names[-1] == "result" else "all nodes, one linear output"
        found.append(text(inner[0], y + 22, words, 17))
        return found


def _kept_pairs(cell: Cell) -> list[tuple[int, int]]:
    """(source, target) of every kept edge."""
    return [(edge.source, target) for target, edges in enumerate(cell.nodes, start=cell.num_inputs) for edge in edges]


def _dropped_pairs(cell: Cell) -> list[tuple[int, int]]:
    """(source, target) of every other edge of the supernet."""
    targets = range(cell.num_inputs, cell.num_inputs + len(cell.nodes))
    every = ((source, target) for target in targets for source in range(target))
    return sorted(set(every) - set(_kept_pairs(cell)))


def _lanes(pairs: Sequence[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """(source, target) -> lane: short edges low, and no two edges on one lane over the same stretch."""
    taken: list[list[tuple[int, int]]] = []
    lanes: dict[tuple[int, int], int] = {}
    for source, target in sorted(pairs, key=lambda pair: (pair[1] - pair[0], pair[0])):
        free = (
            lane for lane, others in enumerate(taken) if all(end <= source or target <= start for start, end in others)
        )
        lane = next(free, len(taken))
        if lane == len(taken):
            taken.append([])
        taken[lane].append((source, target))
        lanes[source, target] = lane
    return lanes


def _legend(operators: Sequence[str], notes: Sequence[str], width: int, top: float) -> tuple[list[str], int]:
    """A stroke and a name for each operator, then what the numbers mean."""
    found: list[str] = []
    x, y = float(_MARGIN), top
    for operator in operators:
        words = words_of(operator)
        needed = 168.0
        if x + needed > width - _MARGIN and x > _MARGIN:
            x, y = float(_MARGIN), y + 30
        found.append(line([(x, y - 6), (x + 34, y - 6)], colour_of(operator), 6))
        found.append(text(x + 42, y, words, 18))
        x += needed
    for words in notes:
        y += 28
        found.append(text(_MARGIN, y, words, 17))
    return found, int(y)


def _terms_in_words(architecture: Architecture, names: Sequence[str], width: float) -> list[str]:
    if not architecture.terms:
        return []
    terms = [" x ".join(names[field] for field in term) for term in architecture.terms]
    lead = f"beside the cells main effects and {len(terms)} terms:"
    return [text(_MARGIN, _MARGIN + 78, _fitting(lead, terms, width), 18)]


def _fields_in_words(names: Sequence[str], width: float) -> str:
    return _fitting(f"{len(names)} fields:", names, width)


def _fitting(lead: str, names: Sequence[str], width: float) -> str:
    """The lead and as many of the names as the width has room for."""
    words = f"{lead} {', '.join(names)}"
    kept = len(names)
    while kept and width_of(words, 18) > width:
        kept -= 1
        words = f"{lead} {', '.join(names[:kept])}, ..."
    return words
