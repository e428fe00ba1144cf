"""The drawing shows every kept edge once, nothing lies on anything else, and the same content gives the same bytes."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from components.autopi.architecture import (
    NUM_INPUTS,
    Architecture,
    Cell,
    Collapse,
    Edge,
    EpochRecord,
    FoundArchitecture,
)
from components.autopi.drawing import alpha_course, draw, draw_with_dropped
from components.autopi.palette import COLOURS, WORDS
from pipeline.__main__ import app

SVG = "{http://www.w3.org/2000/svg}"
LINE = (
    "3 fields | interaction fm(0):0.5 skip(0):0.25+senet(1):0.1 | "
    "ensemble skip(0):0.1+fm(1):0.125 convolution_1d(0):0.5+self_attention(2):0.05"
)
FIELDS = ("user", "item", "hour & <day>")


@st.composite
def cells(draw: st.DrawFn, name: str) -> Cell:
    nodes = []
    for number in range(NUM_INPUTS[name], NUM_INPUTS[name] + draw(st.integers(1, 5))):
        sources = sorted(draw(st.sets(st.integers(0, number - 1), min_size=1, max_size=3)))
        nodes.append(
            tuple(
                Edge(source, draw(st.sampled_from(list(WORDS))), draw(st.none() | st.floats(0, 1)))
                for source in sources
            )
        )
    return Cell(NUM_INPUTS[name], tuple(nodes))


architectures = st.builds(Architecture, st.just(3), cells("interaction"), cells("ensemble"))


def words_in(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def word_boxes(svg: str) -> list[tuple[float, float, float, float]]:
    """(left, top, right, bottom) of each text, by 0.58 of the size a letter, which is wide for a sans-serif font."""
    boxes = []
    for element in ElementTree.fromstring(svg).iter(f"{SVG}text"):
        size = float(element.attrib["font-size"])
        width = 0.58 * size * len(element.text or "")
        x, y = float(element.attrib["x"]), float(element.attrib["y"])
        left = x - {"start": 0.0, "middle": width / 2, "end": width}[element.attrib["text-anchor"]]
        boxes.append((left, y - 0.75 * size, left + width, y + 0.2 * size))
    return boxes


def upright_lines(svg: str) -> list[tuple[float, float, float]]:
    """(x, top, bottom) of each upright piece of each line."""
    found = []
    for element in ElementTree.fromstring(svg).iter(f"{SVG}polyline"):
        points = [tuple(map(float, pair.split(","))) for pair in element.attrib["points"].split()]
        for (x, y), (other_x, other_y) in itertools.pairwise(points):
            if x == other_x and y != other_y:
                found.append((x, min(y, other_y), max(y, other_y)))
    return found


def test_every_kept_edge_is_drawn_with_its_operator_and_strength() -> None:
    words = words_in(draw(Architecture.from_text(LINE, "here"), FIELDS))
    for label in ("FM .500", "skip .250", "SENET .100", "skip .100", "FM .125", "conv .500", "attention .050"):
        assert words.count(label) == 1, label
    assert "3 fields: user, item, hour & <day>" in words
    for operator in ("skip", "SENET", "attention", "FM", "conv"):
        assert operator in words  # the legend
    assert "perceptron" not in words


@settings(max_examples=60, deadline=None)
@given(architectures, st.booleans())
def test_no_word_lies_on_another_and_no_upright_line_crosses_one(architecture: Architecture, has_dropped: bool) -> None:
    svg = (draw_with_dropped if has_dropped else draw)(architecture, FIELDS)
    boxes = word_boxes(svg)
    for (left, top, right, bottom), (l2, t2, r2, b2) in itertools.combinations(boxes, 2):
        assert right <= l2 or r2 <= left or bottom <= t2 or b2 <= top
    for x, high, low in upright_lines(svg):
        for left, top, right, bottom in boxes:
            assert not (left < x < right and high < bottom and top < low)


@settings(max_examples=60, deadline=None)
@given(architectures, st.booleans())
def test_no_two_edges_share_a_stretch_of_a_line(architecture: Architecture, has_dropped: bool) -> None:
    svg = (draw_with_dropped if has_dropped else draw)(architecture, FIELDS)
    uprights = upright_lines(svg)
    for (x, top, bottom), (other_x, other_top, other_bottom) in itertools.combinations(uprights, 2):
        assert abs(x - other_x) > 3 or bottom <= other_top or other_bottom <= top
    level: dict[float, list[tuple[float, float]]] = {}
    for element in ElementTree.fromstring(svg).iter(f"{SVG}polyline"):
        points = [tuple(map(float, pair.split(","))) for pair in element.attrib["points"].split()]
        if len(points) == 4:
            level.setdefault(points[1][1], []).append((points[1][0], points[2][0]))
    for stretches in level.values():
        for (start, end), (other_start, other_end) in itertools.combinations(stretches, 2):
            assert end <= other_start or other_end <= start


@settings(max_examples=30, deadline=None)
@given(architectures, st.booleans())
def test_everything_lies_inside_the_picture(architecture: Architecture, has_dropped: bool) -> None:
    svg = (draw_with_dropped if has_dropped else draw)(architecture, FIELDS)
    root = ElementTree.fromstring(svg)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for left, top, right, bottom in word_boxes(svg):
        assert left >= 0
        assert top >= 0
        assert right <= width
        assert bottom <= height


def test_dropped_edges_are_drawn_on_demand_alone_and_each_once() -> None:
    architecture = Architecture.from_text(LINE, "here")
    counts = [
        len(
            [
                1
                for line in ElementTree.fromstring(svg).iter(f"{SVG}polyline")
                if len(line.attrib["points"].split()) == 4
            ]
        )
        for svg in (draw(architecture, FIELDS), draw_with_dropped(architecture, FIELDS))
    ]
    # Two nodes a cell: 1 + 2 and 2 + 3 edges in the supernet, of which 3 and 4 were kept; collecting lines have three points.
    assert counts == [7, 8]
    assert "faint: edges that were dropped" in words_in(draw_with_dropped(architecture, FIELDS))
    assert not any("faint" in words for words in words_in(draw(architecture, FIELDS)))


def test_a_stronger_edge_is_wider() -> None:
    svg = draw(Architecture.from_text(LINE, "here"), FIELDS)
    widths = {
        element.attrib["stroke-width"]
        for element in ElementTree.fromstring(svg).iter(f"{SVG}polyline")
        if element.attrib["stroke"] == COLOURS["skip"] and len(element.attrib["points"].split()) == 4
    }
    assert len(widths) == 2


def test_many_long_field_names_are_cut_short() -> None:
    names = [f"a_rather_long_field_name_{number}" for number in range(39)]
    words = words_in(draw(Architecture.from_text(LINE.replace("3 fields", "39 fields"), "here"), names))
    (line,) = [text for text in words if text.startswith("39 fields")]
    assert line.endswith(", ...")
    assert len(line) < 200


def test_an_operator_nobody_named_is_drawn_too() -> None:
    assert "triple product .500" in words_in(
        draw(Architecture.from_text(LINE.replace("fm(0)", "triple_product(0)"), "x"), FIELDS)
    )


def found_architecture(num_epochs: int) -> FoundArchitecture:
    def record(epoch: int) -> EpochRecord:
        def alphas(count: int) -> tuple[tuple[float, ...], ...]:
            return tuple(
                tuple(0.1 * epoch * math.sin(edge * 7 + number) for number in range(2)) for edge in range(count)
            )

        return EpochRecord(epoch, 1.0, 0.3, 0.3, 0.3, 0.8, alphas(3), (0.0,) * 3, alphas(5), (0.0,) * 5, LINE)

    history = tuple(record(epoch) for epoch in range(1, num_epochs + 1))
    architecture = Architecture.from_text(LINE, "here")
    return FoundArchitecture(architecture, "darts", ("skip", "fm"), history, 1, Collapse(0.2, 0.9), 100, None)


@pytest.mark.parametrize("num_epochs", [1, 5])
def test_the_course_has_a_panel_for_each_edge_and_a_line_for_each_operator(num_epochs: int) -> None:
    svg = alpha_course(found_architecture(num_epochs))
    panels = [words for words in words_in(svg) if re.match(r"\d to \d", words)]
    assert len(panels) == 3 + 5
    assert sum("kept" in words for words in panels) == 3 + 4
    assert svg.count("<polyline") == 8 * 2 + 2  # and the legend


def test_a_search_that_learned_nothing_has_no_course() -> None:
    assert "no course" in alpha_course(found_architecture(0))


def test_the_same_content_gives_the_same_bytes_and_nothing_is_fetched() -> None:
    architecture, found = Architecture.from_text(LINE, "here"), found_architecture(3)
    for first, second in (
        (draw(architecture, FIELDS), draw(architecture, FIELDS)),
        (alpha_course(found), alpha_course(found)),
    ):
        assert first == second
        assert re.findall(r"https?://[^\"]+", first) == ["http://www.w3.org/2000/svg"]
        assert "url(" not in first


def test_a_line_is_drawn_by_the_command_with_the_names_of_the_logs_fields(tmp_path: Path) -> None:
    repo = Path(__file__).parents[1]
    picture, line = tmp_path / "network.svg", LINE.replace("3 fields", "14 fields")
    command = ["draw", "--workspace", str(repo), "--output", str(picture), "--line"]
    assert CliRunner().invoke(app, [*command, line, "--dropped"]).exit_code == 0
    words = words_in(picture.read_text("utf-8"))
    assert any(text.startswith("14 fields: user, item, price, device") for text in words)
    assert "faint: edges that were dropped" in words
    refused = CliRunner().invoke(app, [*command, LINE])
    assert "has 3 fields, the log that params.yaml names has 14" in str(refused.exception)
