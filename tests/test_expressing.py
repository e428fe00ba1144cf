"""Interactions show in mixed differences and nowhere else; which ones operators express, and which planted ones are used."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import polars as pl
import pytest

from components.autopi.architecture import Architecture
from components.autopi.expressing import Ids, Values, can_express, mixed_difference
from components.sources.simulated import PlantedTerm, SimulatedParams, planted_terms, simulate
from components.sources.simulated.world import VALUES, codes_of
from pipeline.report.planted_use import TermUse, in_words, use_of

WORLD = SimulatedParams(
    seed=3,
    first_day=date(2026, 3, 2),
    num_days=7,
    rows_per_week=7_000,
    rows_per_file=10_000,
    num_users=200,
    num_items=100,
    new_items_per_day=0.0,
    click_rate=0.05,
    main_effect_std=0.75,
    interaction_std=0.75,
    drift_logit=0.0,
    drift_period_days=28.0,
    click_delay_hours=0.0,
    missing_share=0.0,
)
NAMES = tuple(VALUES)


def test_a_mixed_difference_keeps_one_interaction_and_drops_everything_else() -> None:
    generator = np.random.default_rng(1)
    ids, others = generator.integers(0, 9, (2, 50, 4)).astype(np.int32)

    def function(ids_rf: Ids) -> Values:
        a, b, c, d = ids_rf.T.astype(np.float64)
        return 5 + a**2 - 3 * c + 7 * a * b + np.sin(c * d) + 2 * a * b * c

    a, b, c = (others - ids).T[:3].astype(np.float64)
    np.testing.assert_allclose(mixed_difference(function, ids, others, [0, 1]), a * b * (7 + 2 * ids[:, 2]), atol=1e-9)
    np.testing.assert_allclose(mixed_difference(function, ids, others, [0, 1, 2]), 2 * a * b * c, atol=1e-9)
    np.testing.assert_allclose(mixed_difference(function, ids, others, [0, 3]), 0, atol=1e-9)
    np.testing.assert_allclose(mixed_difference(function, ids, others, [0, 1, 3]), 0, atol=1e-9)


@pytest.mark.parametrize(
    ("line", "pairs", "triples"),
    [
        ("interaction skip(0) | ensemble skip(0)+skip(1)", False, False),
        # A product of the node with a linear map of itself has pairs and no triples; the next such product has them.
        ("interaction cross_layer(0) | ensemble skip(0)+skip(1)", True, False),
        ("interaction cross_layer(0) | ensemble cross_layer(0)+skip(1)", True, True),
        # Terms beside the cells express their own fields and no others.
        ("interaction skip(0) | ensemble skip(0)+skip(1) | terms 0x3 1x2", True, False),
        ("interaction skip(0) | ensemble skip(0)+skip(1) | terms 0x1 1x2x4", False, True),
        # The second embedding's edge counts as well as the first's.
        ("interaction skip(0) | ensemble skip(0)+gate(1)", True, True),
        ("interaction skip(0) | ensemble skip(0)+self_attention(1)", True, True),
        ("interaction skip(0) | ensemble skip(0)+single_layer_perceptron(1)", True, True),
    ],
)
def test_operators_express_what_their_formulas_say(line: str, pairs: bool, triples: bool) -> None:
    architecture = Architecture.from_text(f"5 fields | {line}", "here")
    assert can_express(architecture, [0, 3]) == pairs
    assert can_express(architecture, [1, 2, 4]) == triples


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    (made,) = [file.rows for file in simulate(WORLD, WORLD.first_day, 1, datetime(2026, 4, 1, tzinfo=UTC))]
    return made


@pytest.fixture(scope="module")
def ids(rows: pl.DataFrame) -> Ids:
    codes = codes_of(rows, NAMES)
    return np.column_stack([codes[name] for name in NAMES]).astype(np.int32)


def logit_of(term: PlantedTerm, ids_rf: Ids) -> Values:
    return term.of_codes({field: ids_rf[:, NAMES.index(field)] for field in term.fields})


def test_a_ranker_that_knows_a_term_uses_it_and_one_that_knows_all_but_it_does_not(
    rows: pl.DataFrame, ids: Ids
) -> None:
    terms = planted_terms(WORLD)
    for term in terms:

        def knowing(ids_rf: Ids, term: PlantedTerm = term) -> Values:
            return 0.4 * logit_of(term, ids_rf) + ids_rf.sum(1) ** 1.0

        def ignorant(ids_rf: Ids, term: PlantedTerm = term) -> Values:
            others = [logit_of(other, ids_rf) for other in terms if other is not term]
            return np.sum(others, axis=0) + ids_rf[:, 0]

        use = use_of(term, NAMES, ids, rows, knowing, None)
        assert (use.correlation, use.slope) == pytest.approx((1.0, 0.4))
        assert use.is_used
        use = use_of(term, NAMES, ids, rows, ignorant, None)
        assert (use.correlation, use.slope) == pytest.approx((0.0, 0.0), abs=1e-6)
        assert not use.is_used


def test_a_term_of_a_field_that_the_ranker_never_sees_is_not_used(rows: pl.DataFrame, ids: Ids) -> None:
    term = planted_terms(WORLD)[0]
    without = [name for name in NAMES if name != term.fields[0]]
    use = use_of(term, without, ids[:, 1:], rows, lambda ids_rf: ids_rf.sum(1).astype(np.float64), None)
    assert use == TermUse(term.fields, False, 0.0, 0.0)


def test_the_share_is_said_in_words() -> None:
    uses = (
        TermUse(("a", "b"), True, 0.9, 0.8),
        TermUse(("b", "c"), True, 0.2, 0.1),
        TermUse(("a", "c"), None, 0.6, 0.1),
        TermUse(("a", "d"), False, 0.7, 0.1),
    )
    words = in_words(uses)
    assert words.startswith("2 of 4 planted interactions are expressed by the operators and used")
    assert "b x c 0.20; a x c 0.60; a x d 0.70 (not expressible)" in words
