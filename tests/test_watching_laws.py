"""What chance alone does to each measure, held against formulas, draws and independent libraries."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon

from components.watching.distances import (
    auc_deviation,
    discoveries,
    expectation,
    jensen_shannon_distance,
    pool_rare_bins,
    population_stability_index,
    rate_root,
    share_root,
    share_root_against,
    stability_null,
)
from tests.served_world import WATCH_PARAMS


def test_psi_and_jensen_shannon_are_their_formulas() -> None:
    served, expected = np.array([10.0, 30.0, 60.0]), np.array([200.0, 100.0, 100.0])
    p, q = [(x + 0.5) / 101.5 for x in served], [(x + 0.5) / 401.5 for x in expected]
    by_hand = sum((a - b) * np.log(a / b) for a, b in zip(p, q, strict=True))
    assert population_stability_index(served, expected) == pytest.approx(by_hand)
    assert jensen_shannon_distance(served, expected) == pytest.approx(jensenshannon(served, expected, base=2))
    assert population_stability_index(served, served * 7) == pytest.approx(0, abs=1e-3)
    assert jensen_shannon_distance(np.array([1.0, 0.0]), np.array([0.0, 5.0])) == pytest.approx(1)


@pytest.mark.parametrize(("num_served", "num_expected"), [(1_000, 1_000), (3_000, 30_000), (50_000, 4_000)])
def test_psi_of_one_distribution_exceeds_its_quantile_as_often_as_the_level_says(
    num_served: int, num_expected: int
) -> None:
    generator = np.random.default_rng(5)
    shares = generator.dirichlet(np.full(12, 3.0))
    num_trials, level = 4_000, 0.02
    null = stability_null(12, num_served, num_expected, level)
    served = generator.multinomial(num_served, shares, num_trials).astype(float)
    expected = generator.multinomial(num_expected, shares, num_trials).astype(float)
    measured = [population_stability_index(one, other) for one, other in zip(served, expected, strict=True)]
    assert np.mean(measured) == pytest.approx(null.mean, rel=0.05)
    assert 0.012 < np.mean(np.array(measured) > null.quantile) < 0.03


def test_rare_values_do_not_spoil_the_law_of_psi() -> None:
    generator = np.random.default_rng(6)
    shares = 1 / np.arange(1, 301) ** 1.3
    shares /= shares.sum()
    num_exceeding = 0
    for _ in range(2_000):
        expected = generator.multinomial(5_000, shares).astype(float)
        served, pooled = pool_rare_bins(generator.multinomial(2_000, shares).astype(float), expected, 20)
        null = stability_null(len(served), served.sum(), pooled.sum(), 0.01)
        num_exceeding += population_stability_index(served, pooled) > null.quantile
    assert num_exceeding < 40


def test_pooling_keeps_every_row_and_leaves_no_rare_bin() -> None:
    served, expected = pool_rare_bins(np.array([5.0, 0.0, 90.0, 5.0]), np.array([2.0, 300.0, 600.0, 98.0]), 20)
    assert served.tolist() == [90.0, 0.0 + 5.0 + 5.0]
    assert expected.tolist() == [600.0, 300.0 + 98.0 + 2.0]


def test_the_root_of_two_shares_is_the_likelihood_ratio_of_an_independent_library() -> None:
    table = [[70, 930], [400, 9_600]]
    statistic = stats.chi2_contingency(table, lambda_="log-likelihood", correction=False).statistic
    assert share_root(70, 1_000, 400, 10_000) ** 2 == pytest.approx(statistic)
    assert share_root(70, 1_000, 400, 10_000) > 0 > share_root(10, 1_000, 400, 10_000)
    assert share_root(0, 100, 0, 100) == 0
    one_sided = stats.binomtest(70, 1_000, 0.05, alternative="greater").pvalue
    assert stats.norm.sf(share_root_against(70, 1_000, 0.05)) == pytest.approx(one_sided, rel=0.35)
    assert share_root_against(1, 1_000, 0.0) > 50
    assert share_root_against(0, 1_000, 0.0) == 0


def test_the_deviation_of_an_auc_is_that_of_many_draws() -> None:
    generator = np.random.default_rng(8)
    draws = []
    for _ in range(200):
        clicked, others = generator.normal(0.8, 1, 100), generator.normal(0, 1, 900)
        draws.append(stats.mannwhitneyu(clicked, others).statistic / 90_000)
    assert auc_deviation(float(np.mean(draws)), 100, 900) == pytest.approx(np.std(draws), rel=0.15)


def test_like_is_compared_with_like_at_the_same_hours() -> None:
    reference = np.zeros((24, 2), dtype=np.int64)
    reference[3], reference[15] = (900, 100), (100, 900)
    night = np.zeros(24, dtype=np.int64)
    night[3] = 50
    rows = reference.sum(axis=1)
    at_night = expectation(reference, rows, night, minimum_hour_rows=100)
    assert at_night.shares.tolist() == [0.9, 0.1]
    assert at_night.num_rows == 1_000
    all_day = expectation(reference, rows, rows, minimum_hour_rows=100)
    assert all_day.shares == pytest.approx([0.5, 0.5])
    assert all_day.num_rows == pytest.approx(2_000)
    elsewhere = np.zeros(24, dtype=np.int64)
    elsewhere[20] = 50
    unknown = expectation(reference, rows, elsewhere, minimum_hour_rows=100)
    assert unknown.shares == pytest.approx([0.5, 0.5])
    assert unknown.num_rows == pytest.approx(2_000)


def test_limits_keep_to_the_pagers_budget() -> None:
    fields, slices = 40, 5
    levels = WATCH_PARAMS.levels(fields, slices)
    assert levels.of("field_empty") * 24 * 91 * (2 * fields) == pytest.approx(1.0)
    of_scores, of_the_whole = 5, 2
    tickets = 4 * fields + of_scores + 2 * (1 + slices) + of_the_whole
    for check in (
        *("field_drift", "calibration", "auc", "concept", "rows"),
        *("score_drift", "score_mean", "score_click_rate", "score_lowest"),
    ):
        assert levels.of(check) * 24 * 7 * tickets == pytest.approx(1.0)


def test_the_root_of_two_rates_is_the_binomial_test_of_an_independent_library() -> None:
    for clicks, exposure, others, other_exposure in ((130, 100.0, 400, 400.0), (3, 10.0, 600, 600.0)):
        share = exposure / (exposure + other_exposure)
        exact = stats.binomtest(clicks, clicks + others, share).pvalue
        root = rate_root(clicks, exposure, others, other_exposure)
        assert 2 * stats.norm.sf(abs(root)) == pytest.approx(exact, rel=0.6, abs=0.02)
        assert (root > 0) == (clicks / exposure > others / other_exposure)
    assert rate_root(0, 5.0, 0, 7.0) == 0


def test_discoveries_are_those_of_an_independent_library() -> None:
    p_values = np.random.default_rng(1).random(50) ** 3
    assert discoveries(p_values) == pytest.approx(stats.false_discovery_control(p_values))
