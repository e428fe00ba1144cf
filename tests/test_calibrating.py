"""Calibration against planted truths, laws of likelihood and scikit-learn."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from components.calibrating import (
    METHODS,
    CalibrateParams,
    CalibrationFacts,
    Calibrator,
    choose,
    correct_downsampling,
    fit_calibrator,
    fit_isotonic,
    fit_platt,
    fit_spline,
    sigmoid,
)
from components.errors import ConfigError, DataError, IntegrityError
from components.strict import parse

PARAMS = CalibrateParams(
    method="auto",
    num_folds=5,
    choice_standard_errors=1.0,
    platt_slope_sd=10.0,
    spline_num_pieces=20,
    spline_bend_sd=0.3,
    isotonic_num_knots=100,
    isotonic_max_slope=0.5,
    num_threads=1,
    batch_rows=64,
)


def distorted_log(
    slope: float, intercept: float, num_rows: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, clicks and times, where the truth is sigmoid(slope * logit + intercept)."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(-2.0, 1.5, num_rows)
    clicks = (generator.random(num_rows) < 1.0 / (1.0 + np.exp(-(slope * logits + intercept)))).astype(np.int8)
    return logits, clicks, np.arange(num_rows)


@pytest.mark.parametrize(("slope", "intercept"), [(1.4, 0.3), (0.5, -1.0), (1.0, 0.0)])
def test_platt_scaling_recovers_a_planted_line_within_its_statistical_error(slope: float, intercept: float) -> None:
    logits, clicks, times = distorted_log(slope, intercept, 40_000, seed=3)
    facts = fit_calibrator(logits, clicks, times, 1.0, replace(PARAMS, method="platt")).facts
    truth = 1.0 / (1.0 + np.exp(-(slope * logits + intercept)))
    design = np.stack([logits, np.ones_like(logits)], axis=1)
    covariance = np.linalg.inv((design * (truth * (1 - truth))[:, None]).T @ design)
    slope_error, intercept_error = np.sqrt(np.diag(covariance))
    assert abs(facts.slope - slope) < 4 * slope_error
    assert abs(facts.intercept - intercept) < 4 * intercept_error


def test_platt_scaling_is_logistic_regression_on_the_logit() -> None:
    logits, clicks, _ = distorted_log(1.3, -0.4, 5_000, seed=4)
    slope, intercept = fit_platt(logits, clicks.astype(np.float64), slope_sd=1e6)
    outside = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1_000).fit(logits[:, None], clicks)
    assert slope == pytest.approx(float(outside.coef_[0, 0]), abs=1e-5)
    assert intercept == pytest.approx(float(outside.intercept_[0]), abs=1e-5)


@pytest.mark.parametrize("method", ["platt", "spline", "isotonic"])
@pytest.mark.parametrize("keep_rate", [1.0, 0.1])
def test_the_mean_score_is_the_click_rate_on_the_calibrate_rows(method: str, keep_rate: float) -> None:
    logits, clicks, times = distorted_log(1.4, 0.3, 20_000, seed=5)
    calibrator = fit_calibrator(logits, clicks, times, keep_rate, replace(PARAMS, method=method))
    assert calibrator.apply(logits).mean() == pytest.approx(clicks.mean(), rel=1e-7)


def test_with_a_knot_at_every_logit_and_no_bound_it_is_isotonic_regression() -> None:
    logits, clicks, _ = distorted_log(1.0, 0.0, 300, seed=6)
    logits = np.round(logits, 1)
    _, heights = fit_isotonic(logits, clicks.astype(np.float64), num_knots=1_000, max_slope=1e6)
    outside = IsotonicRegression().fit(logits, clicks).predict(np.unique(logits))
    own = (outside > 0) & (outside < 1)
    assert 10 < own.sum() < len(own), "some that it gives 0 or 1, which are another test's"
    np.testing.assert_allclose(heights[own], outside[own], atol=1.0 / 300)


def test_rows_that_nobody_clicked_get_half_a_click_among_them() -> None:
    """400 rows without a click, 600 of which half were clicked; and the same turned round."""
    logits, clicks = np.repeat([-5.0, 0.0], [400, 600]), np.concatenate([np.zeros(400), np.tile([0.0, 1.0], 300)])
    _, heights = fit_isotonic(logits, clicks, num_knots=100, max_slope=1e6)
    np.testing.assert_allclose(heights, [0.5 / 400, 299.5 / 600], rtol=1e-12)
    _, turned = fit_isotonic(-logits, 1.0 - clicks, num_knots=100, max_slope=1e6)
    np.testing.assert_allclose(turned, 1.0 - heights[::-1], rtol=1e-12)


def test_few_rows_that_nobody_clicked_get_no_more_than_those_above_them() -> None:
    """Half a click among three would be .17."""
    logits, clicks = np.repeat([-5.0, 0.0], [3, 997]), np.concatenate([np.zeros(3), np.arange(997) % 20 == 0])
    _, heights = fit_isotonic(logits, clicks, num_knots=100, max_slope=1e6)
    np.testing.assert_allclose(heights, clicks.mean(), rtol=1e-12)


def test_a_spline_that_may_not_bend_is_platts_line_and_one_that_may_is_logistic_regression_on_hinges() -> None:
    logits, clicks, _ = distorted_log(1.3, -0.4, 5_000, seed=4)
    clicks = clicks.astype(np.float64)
    slope, intercept = fit_platt(logits, clicks, slope_sd=1e6)
    knots, heights = fit_spline(logits, clicks, num_pieces=6, bend_sd=1e-5, slope_sd=1e6)
    np.testing.assert_allclose(heights, slope * knots + intercept, atol=1e-4)
    knots, heights = fit_spline(logits, clicks, num_pieces=6, bend_sd=1e6, slope_sd=1e6)
    hinges = np.maximum(logits[:, None] - knots[:-1], 0.0)  # each adds to the slope from its knot on
    outside = LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(hinges, clicks)
    assert (np.diff(heights) > 0).all(), "no slope is at its bound, where the two would differ"
    expected = outside.decision_function(np.maximum(knots[:, None] - knots[:-1], 0.0))
    np.testing.assert_allclose(heights, expected, atol=2e-3)


def test_a_spline_mends_a_curve_that_is_no_line_and_is_chosen_for_it() -> None:
    generator = np.random.default_rng(7)
    logits = generator.normal(-1.0, 2.0, 60_000)
    truth = sigmoid(np.where(logits < -1.0, 0.4 * logits, 1.6 * logits + 1.2))  # sure too early, then not sure enough
    clicks = (generator.random(len(logits)) < truth).astype(np.int8)
    calibrator = fit_calibrator(logits, clicks, np.arange(len(logits)), 1.0, PARAMS)
    assert calibrator.facts.method == "spline"
    distances = {
        method: np.abs(
            fit_calibrator(logits, clicks, logits, 1.0, replace(PARAMS, method=method)).apply(logits) - truth
        )
        for method in ("platt", "spline")
    }
    assert distances["spline"].mean() < 0.006 < 0.02 < distances["platt"].mean()


def test_a_spline_of_groups_of_neighbours_is_that_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, clicks, _ = distorted_log(1.3, -0.4, 50_000, seed=4)
    grouped = fit_spline(logits, clicks.astype(np.float64), 20, 0.3, 10.0)
    monkeypatch.setattr("components.calibrating.fitting._MAX_GROUPS", len(logits))
    one_by_one = fit_spline(logits, clicks.astype(np.float64), 20, 0.3, 10.0)
    assert not np.array_equal(grouped[1], one_by_one[1]), "the rows were grouped"
    np.testing.assert_array_equal(grouped[0], one_by_one[0])
    np.testing.assert_allclose(sigmoid(grouped[1]), sigmoid(one_by_one[1]), atol=1e-4)


def test_isotonic_never_rises_faster_than_its_bound_and_finds_a_curve_that_is_no_line() -> None:
    generator = np.random.default_rng(7)
    logits = generator.normal(0.0, 2.0, 60_000)
    truth = 0.05 + 0.3 / (1.0 + np.exp(-3.0 * logits))
    clicks = (generator.random(len(logits)) < truth).astype(np.int8)
    calibrator = fit_calibrator(logits, clicks, np.arange(len(logits)), 1.0, replace(PARAMS, method="isotonic"))
    grid = np.linspace(-4, 4, 200_001)
    assert np.diff(calibrator.apply(grid)).max() <= PARAMS.isotonic_max_slope * (grid[1] - grid[0]) + 1e-12
    assert np.abs(calibrator.apply(logits) - truth).mean() < 0.006


def test_isotonic_is_chosen_for_a_step_that_no_line_takes_and_no_long_piece() -> None:
    generator = np.random.default_rng(7)
    logits = generator.normal(0.0, 10.0, 60_000)
    truth = 0.1 + 0.4 * np.clip(logits, 0.0, 1.0)
    clicks = (generator.random(len(logits)) < truth).astype(np.int8)
    calibrator = fit_calibrator(logits, clicks, np.arange(len(logits)), 1.0, PARAMS)
    assert calibrator.facts.method == "isotonic"
    assert np.abs(calibrator.apply(logits) - truth).mean() < 0.006


def test_a_ranker_that_needs_no_calibration_is_hardly_changed_and_a_bent_one_is_mended() -> None:
    straight = fit_calibrator(*distorted_log(1.0, 0.0, 30_000, seed=8), 1.0, PARAMS)
    logits, clicks, times = distorted_log(0.4, -1.0, 30_000, seed=8)
    bent = fit_calibrator(logits, clicks, times, 1.0, PARAMS)
    truth = 1.0 / (1.0 + np.exp(-(0.4 * logits - 1.0)))
    best = -np.log(np.where(clicks == 1, truth, 1.0 - truth)).mean()
    assert straight.facts.cross_fitted is not None
    assert bent.facts.cross_fitted is not None
    assert abs(straight.facts.cross_fitted["identity"] - straight.facts.cross_fitted["platt"]) < 2e-4
    assert bent.facts.method == "platt"
    assert bent.facts.cross_fitted["platt"] - best < 2e-4
    assert bent.facts.cross_fitted["identity"] - best > 0.02


LOSSES = {
    "identity": np.tile([0.5, 0.5], 8),
    "platt": np.tile([0.4, 0.4], 8),
    # Gains .1 a row on Platt's line, by hand with a deviation of .2 in each of 16 rows, of which 15 count.
    "spline": np.tile([0.1, 0.5], 8),
    # Gains .01 on the spline in every row alike.
    "isotonic": np.tile([0.1, 0.5], 8) - 0.01,
}
SPLINE_ERROR = 0.2 * math.sqrt(16 / 15) / 4


@pytest.mark.parametrize(
    ("num_standard_errors", "chosen"),
    [
        (0.0, "isotonic"),
        (0.99 * 0.1 / SPLINE_ERROR, "isotonic"),
        (0.11 / SPLINE_ERROR - 0.01, "isotonic"),
        (0.11 / SPLINE_ERROR + 0.01, "platt"),
    ],
)
def test_a_freer_map_is_taken_where_its_gain_exceeds_so_many_standard_errors(
    num_standard_errors: float, chosen: str
) -> None:
    found, reason = choose(LOSSES, num_standard_errors)
    assert found == chosen
    assert f"spline gains 0.10000 ± {SPLINE_ERROR:.5f} on platt" in reason
    assert "identity 0.50000, platt 0.40000, spline 0.30000, isotonic 0.29000" in reason


def test_a_map_that_loses_is_never_taken_and_the_rankers_own_probability_wins_a_tie() -> None:
    level = np.array([0.3, 0.2, 0.4])
    worse = {"identity": level, "platt": level, "spline": level + 0.1, "isotonic": level + 0.001}
    found, reason = choose(worse, 0.0)
    assert found == "identity"
    assert "isotonic loses 0.00100 ± 0.00000 on identity" in reason


def test_where_clicks_are_few_the_freest_map_is_not_taken_for_what_chance_gives_it() -> None:
    """Logs on which Platt's line is the truth: the lowest loss takes steps for it now and then, a standard error hardly ever."""
    taken = {0.0: 0, 1.0: 0}
    for seed in range(30):
        logits, clicks, times = distorted_log(1.4, 0.3, 3_000, seed)
        for asked in taken:
            chosen = fit_calibrator(logits, clicks, times, 1.0, replace(PARAMS, choice_standard_errors=asked))
            taken[asked] += chosen.facts.method in ("spline", "isotonic")
    assert taken[1.0] <= 2 < 5 <= taken[0.0]


def test_blocks_of_time_are_the_folds_whatever_the_order_of_the_rows() -> None:
    logits, clicks, times = distorted_log(1.4, 0.3, 2_000, seed=9)
    mixed = np.random.default_rng(1).permutation(len(times))
    assert fit_calibrator(logits, clicks, times, 1.0, PARAMS) == fit_calibrator(
        logits[mixed], clicks[mixed], times[mixed], 1.0, PARAMS
    )


@given(st.floats(-20, 20), st.floats(0.001, 1.0))
def test_the_correction_of_downsampling_is_the_formula(logit: float, keep_rate: float) -> None:
    p = 1.0 / (1.0 + math.exp(-logit))
    expected = p / (p + (1.0 - p) / keep_rate)
    corrected = Calibrator.identity(keep_rate).apply(np.array([logit]))[0]
    assert corrected == pytest.approx(expected, rel=1e-9)


def test_downsampling_is_undone_where_rows_were_really_dropped() -> None:
    logits, clicks, _ = distorted_log(1.0, 0.0, 200_000, seed=10)
    keep_rate = 0.2
    kept = (clicks == 1) | (np.random.default_rng(2).random(len(clicks)) < keep_rate)
    slope, intercept = fit_platt(logits[kept], clicks[kept].astype(np.float64), slope_sd=10.0)
    corrected = correct_downsampling(slope * logits + intercept, keep_rate)
    assert sigmoid(corrected).mean() == pytest.approx(clicks.mean(), rel=0.02)


def any_calibrator(method: str, seed: int, keep_rate: float) -> Calibrator:
    generator = np.random.default_rng(seed)
    num_rows = int(generator.integers(10, 400))
    logits = np.round(generator.normal(0, 10 ** generator.uniform(-3, 1.5), num_rows), int(generator.integers(0, 8)))
    clicks = (generator.random(num_rows) < generator.uniform(0.02, 0.9)).astype(np.int8)
    clicks[:2] = (0, 1)
    times = generator.integers(0, 50, num_rows)
    return fit_calibrator(logits, clicks, times, keep_rate, replace(PARAMS, method=method))


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(METHODS), st.integers(0, 10_000), st.floats(0.01, 1.0))
def test_scores_lie_strictly_within_0_and_1_and_never_fall_where_logits_rise(
    method: str, seed: int, rate: float
) -> None:
    calibrator = any_calibrator(method, seed, rate)
    near = np.random.default_rng(seed).normal(0, 5, 500)
    logits = np.sort(np.concatenate([near, np.nextafter(near, 9e9), calibrator.knots, [-1e30, -800.0, 800.0, 1e30]]))
    scores = calibrator.apply(logits)
    assert scores.dtype == np.float64
    assert ((scores > 0) & (scores < 1)).all()
    assert (np.diff(scores) >= 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_logit_that_is_not_a_number_gets_the_click_rate_and_an_infinite_one_the_score_at_the_limit(
    method: str,
) -> None:
    logits, clicks, times = distorted_log(1.0, 0.0, 2_000, 3)
    calibrator = fit_calibrator(logits, clicks, times, 1.0, replace(PARAMS, method=method))
    odd = calibrator.apply(np.array([math.nan, math.inf, -math.inf, 0.0]))
    assert odd[0] == pytest.approx(clicks.mean())
    assert odd[1:3] == pytest.approx(calibrator.apply(np.array([1e9, -1e9])))
    assert 0 < odd[2] < odd[3] < odd[1] < 1


def test_a_ranker_that_is_worse_than_chance_gets_a_flat_line_and_not_a_falling_one() -> None:
    logits, clicks, times = distorted_log(-1.0, 0.0, 5_000, seed=11)
    calibrator = fit_calibrator(logits, clicks, times, 1.0, replace(PARAMS, method="platt"))
    assert calibrator.facts.slope == 0
    assert calibrator.apply(logits[:1])[0] == pytest.approx(clicks.mean())


def test_classes_that_separate_completely_still_give_a_finite_line() -> None:
    logits = np.concatenate([np.linspace(-3, -1, 50), np.linspace(1, 3, 50)])
    clicks = (logits > 0).astype(np.int8)
    calibrator = fit_calibrator(logits, clicks, np.arange(100), 1.0, replace(PARAMS, method="platt"))
    assert 1 < calibrator.facts.slope < 100


@pytest.mark.parametrize("method", METHODS)
def test_a_calibrator_reads_back_equal_and_writes_the_same_bytes(method: str, tmp_path: Path) -> None:
    calibrator = any_calibrator(method, 5, 0.5)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    calibrator.save(tmp_path / "one")
    loaded = Calibrator.load(tmp_path / "one")
    loaded.save(tmp_path / "two")
    assert loaded == calibrator
    assert loaded != any_calibrator(method, 6, 0.5)
    for file in ("calibrator.json", "knots.npy"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


@pytest.mark.parametrize(
    "knots", [np.ones((3, 2)), np.array([[1.0, 0.0], [0.1, 0.2]]), np.array([[0.0, 1.0], [0.0, 0.2]]), np.empty((2, 0))]
)
def test_knots_that_are_no_rising_map_into_0_and_1_are_refused(knots: np.ndarray, tmp_path: Path) -> None:
    any_calibrator("isotonic", 5, 1.0).save(tmp_path)
    np.save(tmp_path / "knots.npy", knots)
    with pytest.raises(IntegrityError, match=r"knots\.npy"):
        Calibrator.load(tmp_path)


def test_one_class_alone_or_logits_that_are_not_finite_are_a_data_error() -> None:
    with pytest.raises(DataError, match="0 clicks in 10 rows"):
        fit_calibrator(np.zeros(10), np.zeros(10), np.arange(10), 1.0, PARAMS)
    with pytest.raises(DataError, match="1 of 10 logits"):
        fit_calibrator(np.array([np.nan] * 1 + [0.0] * 9), np.arange(10) % 2, np.arange(10), 1.0, PARAMS)


def test_params_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_folds >= 2"):
        replace(PARAMS, num_folds=1)
    with pytest.raises(ConfigError, match="choice_standard_errors >= 0"):
        replace(PARAMS, choice_standard_errors=-1.0)
    with pytest.raises(ConfigError, match="method"):
        parse(CalibrateParams, {**PARAMS.__dict__, "method": "beta"}, "params.yaml [calibrate]", ConfigError)


def test_facts_say_what_each_method_would_have_cost() -> None:
    facts: CalibrationFacts = any_calibrator("identity", 1, 1.0).facts
    assert facts.is_forced
    assert facts.reason == "asked for by params"
    assert facts.cross_fitted is not None
    assert set(facts.cross_fitted) == {"identity", "platt", "spline", "isotonic"}
