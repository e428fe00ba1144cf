"""The leaderboard's drawings."""

from __future__ import annotations

import itertools
from xml.etree import ElementTree

import numpy as np
import pytest

from pipeline.leaderboard.page import LETTER_WIDTH, LINE_HEIGHT, names_beside, small_below


@pytest.mark.parametrize("num_rankers", [1, 28])
def test_no_name_in_a_drawing_covers_another_name_or_point(num_rankers: int) -> None:
    generator = np.random.default_rng(1)
    points = [(f"ranker_{place}", *generator.uniform(100, 300, 2)) for place in range(num_rankers)]
    drawn = ElementTree.fromstring(f"<g>{names_beside(points)}</g>")
    boxes = []
    for name in drawn:
        width = len(name.text or "") * LETTER_WIDTH
        left = float(name.attrib["x"]) - {"start": 0.0, "middle": 0.5, "end": 1.0}[name.attrib["text-anchor"]] * width
        foot = float(name.attrib["y"])
        boxes.append((left, foot - LINE_HEIGHT, left + width, foot))
    assert len(boxes) >= min(num_rankers, 10)
    for one, other in itertools.combinations(boxes, 2):
        assert (
            one[2] <= other[0] + 0.2 or other[2] <= one[0] + 0.2 or one[3] <= other[1] + 0.2 or other[3] <= one[1] + 0.2
        )


@pytest.mark.parametrize(
    ("cell", "laid_out"),
    [
        ("0.98554 ± 0.00057", "0.98554<small>± 0.00057</small>"),
        ("≈ -0.00018 (p 0.73)", "≈ -0.00018<small>(p 0.73)</small>"),
        ("≈ +0.00379 ± 0.02105 (p 0.85, 3 pairs)", "≈ +0.00379<small>± 0.02105 (p 0.85, 3 pairs)</small>"),
        ("<strong>-0.01 ± 0.002</strong> (3 pairs)", "<strong>-0.01</strong><small>± 0.002 (3 pairs)</small>"),
        ("0.0038 (0.0041)", "0.0038 (0.0041)"),
        ("3.03 + 5.19", "3.03 + 5.19"),
        ("best", "best"),
    ],
)
def test_what_qualifies_a_figure_stands_below_it(cell: str, laid_out: str) -> None:
    assert small_below(cell) == laid_out
