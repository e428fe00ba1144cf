"""The drawing shows every kept edge once, is well-formed, the same each time, and no two labels overlap."""

from __future__ import annotations

import re
from itertools import combinations
from xml.etree import ElementTree

import pytest

from components.autopi.architecture import Architecture, EpochRecord, FoundArchitecture
from components.autopi.drawing import SHORT_NAMES, alpha_course, draw

LINES = (
    "3 fields | interaction fm(0):0.41 skip(0):0.2+fm(1):0.3 | ensemble senet(0):0.1+skip(1):0.2 fm(0):0.3+convolution_1d(2):0.1",
    "10 fields | interaction self_attention(0) single_layer_perceptron(0)+single_layer_perceptron(1) "
    "single_layer_perceptron(0)+self_attention(2) convolution_1d(0)+single_layer_perceptron(3) | ensemble "
    "single_layer_perceptron(0)+single_layer_perceptron(1) single_layer_perceptron(0)+self_attention(2) "
    "single_layer_perceptron(0)+self_attention(1) single_layer_perceptron(0)+single_layer_perceptron(4)",
)
BOX = re.compile(r"<rect x='([\d.]+)' y='([\d.]+)' width='([\d.]+)' height='20' rx='10'")


@pytest.mark.parametrize("line", LINES)
def test_every_edge_has_one_label_and_no_two_overlap(line: str) -> None:
    architecture = Architecture.from_text(line, "the test")
    text = draw(architecture, [f"field{number}" for number in range(architecture.num_fields)])
    root = ElementTree.fromstring(text)
    boxes = [tuple(map(float, found)) for found in BOX.findall(text)]
    assert len(boxes) == len(architecture.operators())
    for (x1, y1, w1), (x2, y2, w2) in combinations(boxes, 2):
        assert abs(y1 - y2) >= 20 or x1 + w1 <= x2 or x2 + w2 <= x1
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert all(x >= 0 and x + w <= width and y >= 0 and y + 20 <= height for x, y, w in boxes)


def test_a_drawing_names_operators_and_fields_and_is_the_same_each_time() -> None:
    architecture = Architecture.from_text(LINES[0], "the test")
    text = draw(architecture, ["user", "<item>", "hour"])
    assert text == draw(architecture, ["user", "<item>", "hour"])
    assert "&lt;item&gt;" in text
    for operator in set(architecture.operators()):
        assert SHORT_NAMES.get(operator, operator) in text


def test_the_course_of_alpha_starts_even_and_ends_where_it_was_decided() -> None:
    architecture = Architecture.from_text("2 fields | interaction fm(0) | ensemble skip(0)+fm(1)", "the test")

    def epoch(number: int, alpha: float) -> EpochRecord:
        edge = (0.0, alpha)
        return EpochRecord(number, 1.0, 0.5, 0.5, 0.5, 0.6, (edge,), (0.0,), (edge, edge), (0.0, 0.0), "")

    found = FoundArchitecture(architecture, "darts", ("skip", "fm"), (epoch(0, 0.0), epoch(1, 50.0)), 1, None, 10, None)
    lines = re.findall(r"<polyline points='([^']+)'", alpha_course(found))
    assert len(lines) == 3 * 2, "a line for each edge of the supernet and operator"
    heights = [[float(point.split(",")[1]) for point in line.split()] for line in lines]
    assert heights[0][0] == heights[1][0], "at first both have half"
    assert heights[1][1] < heights[1][0] < heights[0][1], "in the end fm has it all: up is a larger share"


def test_without_a_search_there_is_no_course() -> None:
    architecture = Architecture.from_text(LINES[0], "the test")
    assert alpha_course(FoundArchitecture(architecture, "fixed", ("fm",), (), None, None, 0, None)) == ""
