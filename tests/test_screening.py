"""Where a model's errors agree between train and tune: by loops, by its law, and by a planted interaction."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from components.autopi.screening import Errors, agreements
from components.rankers.terms import all_terms

SIZES = (3, 4, 2)


def rows(count: int, generator: np.random.Generator) -> Errors:
    ids = np.column_stack([generator.integers(0, size, count) for size in SIZES]).astype(np.int32)
    scores = generator.uniform(0.05, 0.6, count)
    return Errors(ids, (generator.random(count) < scores).astype(float), scores)


def test_agreement_is_what_loops_over_cells_give() -> None:
    generator = np.random.default_rng(1)
    train, tune = rows(300, generator), rows(120, generator)
    terms = all_terms(3, (2, 3))
    for term, found in zip(terms, agreements(train, tune, SIZES, terms), strict=True):
        product = variance = 0.0
        for cell in itertools.product(*(range(SIZES[field]) for field in term)):

            def errors(split: Errors, cell: tuple[int, ...] = cell, term: tuple[int, ...] = term) -> list[int]:
                return [place for place, ids in enumerate(split.ids) if tuple(ids[list(term)]) == cell]

            of_train = sum(train.clicks[place] - train.scores[place] for place in errors(train))
            of_tune = sum(tune.clicks[place] - tune.scores[place] for place in errors(tune))
            product += of_train * of_tune
            variance += of_train**2 * sum(tune.scores[place] * (1 - tune.scores[place]) for place in errors(tune))
        assert found == pytest.approx(product / math.sqrt(variance), rel=1e-9)


def test_for_true_scores_on_tune_it_has_mean_zero_and_variance_one_whatever_the_model_made_of_train() -> None:
    generator = np.random.default_rng(2)
    drawn = []
    for _ in range(600):
        train = rows(400, generator)
        wrong = Errors(train.ids, train.clicks, np.clip(train.scores * generator.uniform(0.2, 1.6), 0.01, 0.99))
        drawn.append(next(agreements(wrong, rows(200, generator), SIZES, ((0, 1, 2),))))
    assert abs(float(np.mean(drawn))) < 4 / math.sqrt(600)
    assert float(np.var(drawn)) == pytest.approx(1.0, abs=4 * math.sqrt(2 / 600))


def test_a_lacking_triple_stands_out_and_the_pairs_within_it_do_not() -> None:
    generator = np.random.default_rng(3)
    one, other, third = generator.permuted(np.tile([-1.0, 1.0], (3, 4)), axis=1)
    effect = one[:, None, None] * other[:, None] * third

    def split(count: int) -> Errors:
        ids = generator.integers(0, 8, (count, 4))
        logits = -1.5 + 0.6 * effect[tuple(ids[:, :3].T)]
        return Errors(ids, (generator.random(count) < 1 / (1 + np.exp(-logits))).astype(float), np.full(count, 0.2))

    train, tune = split(20_000), split(4_000)
    share = float(train.clicks.mean())
    train, tune = (Errors(one.ids, one.clicks, np.full(len(one.clicks), share)) for one in (train, tune))
    terms = all_terms(4, (2, 3))
    found = dict(zip(terms, agreements(train, tune, (8,) * 4, terms), strict=True))
    assert found.pop((0, 1, 2)) > 10
    assert max(map(abs, found.values())) < 4


def test_more_cells_than_rows_are_not_asked() -> None:
    generator = np.random.default_rng(4)
    train, tune = rows(20, generator), rows(20, generator)
    pair, triple = agreements(train, tune, SIZES, ((0, 1), (0, 1, 2)))
    assert math.isfinite(pair)
    assert triple == -math.inf, "24 cells"
