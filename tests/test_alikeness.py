"""How alike architectures are is what one counts by hand, and chance is what blind draws give."""

from __future__ import annotations

import numpy as np
import pytest

from components.autopi.alikeness import kept_edges, mean_share_in_common, share_by_chance, share_in_common
from components.autopi.architecture import Architecture
from components.autopi.sampling import draw_architecture, even_strengths

FIRST = "3 fields | interaction fm(0) skip(0)+fm(1) | ensemble skip(0)+skip(1) fm(0)+senet(2)"
# Another operator on the first edge, another source at the last node.
SECOND = "3 fields | interaction skip(0) skip(0)+fm(1) | ensemble skip(0)+skip(1) fm(0)+senet(1)"


def test_only_the_same_operator_on_the_same_edge_is_in_common() -> None:
    first, second = Architecture.from_text(FIRST, "here"), Architecture.from_text(SECOND, "here")
    assert ("ensemble", 3, 2, "senet") in kept_edges(first)
    assert len(kept_edges(first)) == 7
    assert share_in_common(first, second) == pytest.approx(5 / 7)
    assert share_in_common(first, first) == 1
    assert mean_share_in_common([first, second, first]) == pytest.approx((5 / 7 + 1 + 5 / 7) / 3)


def test_chance_is_what_blind_draws_have_in_common() -> None:
    # One node a cell and two edges a node: 1 edge of 1 source, and 2 edges of 2 sources, each with one of 4 operators.
    assert share_by_chance(1, 2, 4) == pytest.approx((1 / 4 + 2 / 4) / 3)
    generator = np.random.default_rng(1)
    strengths, operators = even_strengths(3, 3), ("a", "b", "c")
    drawn = [draw_architecture(strengths, operators, 2, 3, generator) for _ in range(80)]
    assert mean_share_in_common(drawn) == pytest.approx(share_by_chance(3, 2, 3), abs=0.02)
