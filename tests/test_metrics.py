"""Metrics against scikit-learn, loops by hand and the laws they obey."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score

from components import metrics


def drawn(num_rows: int, seed: int, decimals: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Perfectly calibrated clicks and their scores; few `decimals` make ties."""
    generator = np.random.default_rng(seed)
    scores = generator.beta(1, 4, num_rows)
    if decimals is not None:
        scores = scores.round(decimals)
    return (generator.random(num_rows) < scores).astype(np.int8), scores


@pytest.mark.parametrize("decimals", [None, 2, 1])
def test_auc_and_log_loss_are_scikit_learns(decimals: int | None) -> None:
    clicks, scores = drawn(3000, 1, decimals)
    assert metrics.auc(clicks, scores) == pytest.approx(roc_auc_score(clicks, scores), rel=1e-12)
    assert metrics.log_loss(clicks, scores) == pytest.approx(sklearn_log_loss(clicks, scores), rel=1e-12)


def test_auc_is_the_share_of_pairs_ranked_right() -> None:
    clicks, scores = drawn(200, 2, 1)
    won = pairs = 0.0
    for click_score in scores[clicks == 1]:
        for other_score in scores[clicks == 0]:
            pairs += 1
            won += 1.0 if click_score > other_score else 0.5 if click_score == other_score else 0.0
    assert metrics.auc(clicks, scores) == pytest.approx(won / pairs, rel=1e-14)


def test_auc_keeps_under_rising_maps_and_turns_with_the_sign() -> None:
    clicks, scores = drawn(500, 3, 2)
    area = metrics.auc(clicks, scores)
    assert metrics.auc(clicks, np.exp(3 * scores)) == area
    assert metrics.auc(clicks, -scores) == pytest.approx(1 - area, abs=1e-15)
    assert metrics.auc(clicks, np.zeros(500)) == 0.5


def test_a_sure_score_that_errs_costs_much_but_not_everything() -> None:
    assert metrics.log_loss(np.array([1]), np.array([0.0])) == pytest.approx(-math.log(metrics.SCORE_CLIP))
    assert metrics.log_loss(np.array([1, 0]), np.array([1.0, 0.0])) == pytest.approx(0.0, abs=1e-15)


def test_the_click_rate_as_score_has_a_normalised_entropy_of_one() -> None:
    clicks, scores = drawn(1000, 4)
    assert metrics.normalised_entropy(clicks, np.full(1000, clicks.mean())) == pytest.approx(1.0, rel=1e-12)
    assert metrics.normalised_entropy(clicks, scores) < 1.0
    assert metrics.normalised_entropy(clicks, clicks.astype(float)) == pytest.approx(0.0, abs=1e-12)


def test_the_calibration_ratio_is_mean_score_over_click_rate() -> None:
    clicks, scores = drawn(1000, 5)
    assert metrics.calibration_ratio(clicks, scores) == pytest.approx(scores.mean() / clicks.mean(), rel=1e-12)
    assert metrics.calibration_ratio(clicks, np.full(1000, clicks.mean())) == pytest.approx(1.0, rel=1e-12)


def test_the_calibration_error_is_a_loop_over_bins_of_equal_mass() -> None:
    clicks, scores = drawn(1003, 6)
    order = sorted(range(1003), key=lambda row: scores[row])
    total, start = 0.0, 0
    for number in range(20):
        end = (number + 1) * 1003 // 20
        rows = order[start:end]
        total += abs(sum(scores[row] for row in rows) - sum(int(clicks[row]) for row in rows))
        start = end
    assert metrics.expected_calibration_error(clicks, scores, 20) == pytest.approx(total / 1003, rel=1e-10)


@pytest.mark.parametrize("decimals", [0, 1, 2])
def test_no_order_of_tied_rows_moves_the_calibration_error(decimals: int) -> None:
    clicks, scores = drawn(997, 7, decimals)
    error = metrics.expected_calibration_error(clicks, scores, 20)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(997)
        assert metrics.expected_calibration_error(clicks[order], scores[order], 20) == pytest.approx(error, abs=1e-13)


def test_scores_that_are_all_equal_err_by_their_distance_from_the_click_rate() -> None:
    clicks, _ = drawn(1000, 8)
    error = metrics.expected_calibration_error(clicks, np.full(1000, 0.5), 20)
    assert error == pytest.approx(abs(0.5 - clicks.mean()), rel=1e-12)


def test_reliability_bins_add_up_to_the_whole() -> None:
    clicks, scores = drawn(1003, 9, 2)
    bins = metrics.reliability_bins(clicks, scores, 20)
    sizes = np.array([one.num_rows for one in bins])
    assert sizes.sum() == 1003
    assert sizes.max() - sizes.min() <= 1
    assert sizes @ [one.click_rate for one in bins] == pytest.approx(clicks.sum())
    assert sizes @ [one.mean_score for one in bins] == pytest.approx(scores.sum())
    error = sizes @ [abs(one.mean_score - one.click_rate) for one in bins] / 1003
    assert error == pytest.approx(metrics.expected_calibration_error(clicks, scores, 20))
    for one, following in itertools.pairwise(bins):
        assert one.lowest_score <= one.mean_score <= one.highest_score <= following.lowest_score


def test_the_null_holds_perfect_scores_at_its_quantile_and_betrays_crooked_ones() -> None:
    below = 0
    for seed in range(200):
        clicks, scores = drawn(2000, seed)
        null = metrics.calibration_error_null(scores, 20, 60, 0.95, seed)
        below += metrics.expected_calibration_error(clicks, scores, 20) <= null
    # Binomial(200, 0.95), the null's own quantile being drawn too: 180 is more than three deviations away.
    assert 180 <= below < 200
    assert metrics.expected_calibration_error(clicks, np.sqrt(scores), 20) > 3 * null


def test_the_null_is_near_what_theory_says_and_shrinks_with_the_root_of_the_rows() -> None:
    _, scores = drawn(40_000, 10)
    # Each bin's gap is about normal with variance p (1 - p) / n_b, so its mean size is sqrt(2 / pi) of the deviation.
    bins = np.array_split(np.sort(scores), 20)
    expected = np.mean([math.sqrt(2 / math.pi * (part * (1 - part)).mean() / len(part)) for part in bins])
    assert metrics.calibration_error_null(scores, 20, 200, 0.5, 1) == pytest.approx(expected, rel=0.05)
    fewer = metrics.calibration_error_null(scores[:10_000], 20, 200, 0.5, 1)
    assert fewer == pytest.approx(2 * expected, rel=0.08)


def test_the_null_depends_on_its_seed_alone() -> None:
    _, scores = drawn(500, 11)
    assert metrics.calibration_error_null(scores, 20, 20, 0.95, 3) == metrics.calibration_error_null(
        scores, 20, 20, 0.95, 3
    )


def test_what_is_undefined_is_nan() -> None:
    nothing = np.array([])
    one_class = np.zeros(5, dtype=np.int8), np.linspace(0.1, 0.9, 5)
    assert math.isnan(metrics.auc(*one_class))
    assert math.isnan(metrics.normalised_entropy(*one_class))
    assert math.isnan(metrics.calibration_ratio(*one_class))
    assert math.isnan(metrics.auc(nothing, nothing))
    assert math.isnan(metrics.log_loss(nothing, nothing))
    assert math.isnan(metrics.expected_calibration_error(nothing, nothing, 20))
    assert math.isnan(metrics.calibration_error_null(nothing, 20, 5, 0.95, 1))
    assert metrics.reliability_bins(nothing, nothing, 20) == ()


def test_fewer_rows_than_bins_get_a_bin_each() -> None:
    clicks, scores = np.array([0, 1, 1]), np.array([0.2, 0.6, 0.9])
    assert [one.num_rows for one in metrics.reliability_bins(clicks, scores, 20)] == [1, 1, 1]
    assert metrics.expected_calibration_error(clicks, scores, 20) == pytest.approx((0.2 + 0.4 + 0.1) / 3)


def test_float32_scores_are_summed_in_float64() -> None:
    clicks, scores = drawn(200_000, 12)
    narrow = scores.astype(np.float32)
    assert metrics.log_loss(clicks, narrow) == pytest.approx(
        metrics.log_loss(clicks, narrow.astype(np.float64)), rel=1e-14
    )
    assert metrics.calibration_ratio(clicks, narrow) == pytest.approx(scores.sum() / clicks.sum(), rel=1e-7)


def test_a_million_rows_take_seconds_at_most() -> None:
    clicks, scores = drawn(1_000_000, 13)
    started_at = time.process_time()
    metrics.auc(clicks, scores)
    metrics.log_loss(clicks, scores)
    metrics.expected_calibration_error(clicks, scores, 20)
    assert time.process_time() - started_at < 5.0


def test_metrics_do_not_load_torch() -> None:
    probe = "import sys, components.metrics; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", probe], cwd=Path(__file__).parents[1], env=os.environ.copy(), check=True)
