"""Scores before any click is known: their mean and extremes against the reference at the same hours; quantiles of numbers."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from components.profiling import ReferenceProfile, Tally, build_profile, count_rows
from components.watching import Measure
from components.watching.measuring import quantiles_of
from components.watching.scores import (
    expected_click_rate,
    expected_mean_score,
    measure_click_rate,
    measure_scores,
)
from components.watching.words import find
from tests.served_world import DAY, PROFILE_PARAMS, WATCH_PARAMS, World, make_world

NUM_ROWS = 8_000
HOUR = DAY // 24


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(num_categorical=2, num_numeric=1)


@pytest.fixture(scope="module")
def profile(world: World) -> ReferenceProfile:
    return profile_of(world, world.rows(0, 10_000))


def profile_of(world: World, rows: pl.DataFrame) -> ReferenceProfile:
    scores = world.scorer.score(rows)
    return build_profile(rows, scores, world.clicks(1, scores), world.scorer.encoder, PROFILE_PARAMS)


def tally_of(world: World, profile: ReferenceProfile, rows: pl.DataFrame, scores: np.ndarray) -> Tally:
    unknown = np.full(len(rows), -1)
    return count_rows(rows, scores, unknown, world.scorer.encoder, profile.binning)


def measured(world: World, profile: ReferenceProfile, rows: pl.DataFrame, scores: np.ndarray) -> dict[str, Measure]:
    levels = WATCH_PARAMS.levels(len(profile.binning.fields), 0)
    tally = tally_of(world, profile, rows, scores)
    return {one.check: one for one in measure_scores(profile, tally, WATCH_PARAMS, levels)}


def test_scores_that_stay_as_they_are_give_no_finding(world: World, profile: ReferenceProfile) -> None:
    for seed in range(10, 16):
        rows = world.rows(seed, NUM_ROWS)
        measures = measured(world, profile, rows, world.scorer.score(rows))
        assert measures.keys() == {"score_drift", "score_mean", "score_lowest", "score_highest"}
        assert not any(one.is_finding for one in measures.values())


def test_scores_a_fifth_higher_are_found_by_their_mean(world: World, profile: ReferenceProfile) -> None:
    rows = world.rows(20, NUM_ROWS)
    scores = world.scorer.score(rows)
    mean = measured(world, profile, rows, scores * 1.2)["score_mean"]
    assert mean.is_finding
    assert mean.measured == pytest.approx(1.2 * scores.mean())
    assert mean.expected == pytest.approx(profile.mean_score, rel=0.01)
    assert not measured(world, profile, rows, scores * 1.05)["score_mean"].is_finding


def test_chance_alone_moves_the_mean_as_often_as_the_p_value_says(world: World, profile: ReferenceProfile) -> None:
    p_values, reference = [], profile
    for seed in range(300, 420):
        rows = world.rows(seed, 2_000)
        reference = profile_of(world, world.rows(seed + 1_000, 2_000)) if seed % 10 == 0 else reference
        p_values.append(measured(world, reference, rows, world.scorer.score(rows))["score_mean"].p_value)
    assert np.mean([p < 0.1 for p in p_values if p is not None]) == pytest.approx(0.1, abs=0.09)


def profile_clicked(world: World, seed: int, num_rows: int, factor: float) -> ReferenceProfile:
    """A reference in which so many times the clicks come that the scores promise."""
    rows = world.rows(seed, num_rows)
    scores = world.scorer.score(rows)
    return build_profile(
        rows, scores, world.clicks(10_000 + seed, scores * factor), world.scorer.encoder, PROFILE_PARAMS
    )


def against_clicks(
    world: World, profile: ReferenceProfile, rows: pl.DataFrame, scores: np.ndarray, inflation: float = 1.0
) -> Measure:
    levels = WATCH_PARAMS.levels(len(profile.binning.fields), 0)
    measure = measure_click_rate(profile, tally_of(world, profile, rows, scores), inflation, WATCH_PARAMS, levels)
    assert measure is not None
    return measure


def test_scores_that_promise_other_clicks_than_are_to_be_expected_are_found_though_they_have_not_moved(
    world: World,
) -> None:
    rows = world.rows(24, NUM_ROWS)
    scores = world.scorer.score(rows)
    profile = profile_clicked(world, 0, 40_000, 0.7)
    mean = against_clicks(world, profile, rows, scores)
    assert mean.is_finding
    assert mean.measured == pytest.approx(scores.mean())
    assert mean.expected == pytest.approx(profile.click_rate, rel=0.02)
    assert mean.measured / profile.click_rate == pytest.approx(1 / 0.7, rel=0.1)
    assert not measured(world, profile, rows, scores)["score_mean"].is_finding
    assert not against_clicks(world, profile, rows, scores, inflation=10.0).is_finding, "clicks in clusters say less"
    assert not against_clicks(world, profile_clicked(world, 0, 40_000, 1.0), rows, scores).is_finding


def test_few_reference_clicks_and_no_score_lead_to_no_expectation(world: World) -> None:
    rows, levels = world.rows(25, 2_000), WATCH_PARAMS.levels(3, 0)
    profile = profile_clicked(world, 0, 10_000, 0.02)
    tally = tally_of(world, profile, rows, world.scorer.score(rows))
    assert 0 < profile.click_rate * 10_000 < WATCH_PARAMS.minimum_bin_rows
    assert measure_click_rate(profile, tally, 1.0, WATCH_PARAMS, levels) is None
    empty = tally_of(world, profile, rows, np.full(len(rows), np.nan))
    assert measure_click_rate(profile_clicked(world, 0, 10_000, 1.0), empty, 1.0, WATCH_PARAMS, levels) is None


def test_chance_alone_parts_mean_score_and_click_rate_as_often_as_the_p_value_says(world: World) -> None:
    """Few rows, so few clicks in the reference, where a normal law would do worse."""
    rows = world.rows(26, 1_500)
    scores = world.scorer.score(rows)
    profiles = (profile_clicked(world, seed, 1_500, 1.0) for seed in range(400, 520))
    p_values = [against_clicks(world, profile, rows, scores).p_value for profile in profiles]
    assert np.mean([p < 0.1 for p in p_values if p is not None]) == pytest.approx(0.1, abs=0.09)


def test_a_mean_that_moved_is_said_once_and_not_again_against_the_click_rate(
    world: World, profile: ReferenceProfile
) -> None:
    rows = world.rows(27, NUM_ROWS)
    scores = world.scorer.score(rows) * 1.4
    against, of_mean = (
        against_clicks(world, profile, rows, scores),
        measured(world, profile, rows, scores)["score_mean"],
    )
    assert against.is_finding
    assert [one.check for one in find((against, of_mean), None, {}, "rows")] == ["score_mean"]
    (alone,) = find((against,), None, {}, "rows")
    assert "to be expected at these hours" in alone.what


def test_rows_at_an_extreme_of_the_scores_are_found_there(world: World, profile: ReferenceProfile) -> None:
    rows = world.rows(21, NUM_ROWS)
    scores = world.scorer.score(rows)
    lowest, highest = profile.binning.score_edges[0], profile.binning.score_edges[-1]
    for check, other, extreme in (
        ("score_highest", "score_lowest", highest),
        ("score_lowest", "score_highest", lowest / 2),
    ):
        moved = np.where(np.arange(NUM_ROWS) % 20 == 0, extreme, scores)
        measures = measured(world, profile, rows, moved)
        assert measures[check].is_finding
        assert not measures[other].is_finding
        share = np.mean(moved >= highest) if check == "score_highest" else np.mean(moved < lowest)
        assert measures[check].measured == pytest.approx(share)


def test_scores_are_held_against_the_same_hours(world: World) -> None:
    """At night there are other rows than by day, in the reference too: that is no change."""
    rows = world.rows(0, 12_000)
    is_night = (rows["_time"] % DAY < 8 * HOUR).to_numpy()
    value = pl.when(pl.Series(is_night)).then(pl.lit("v0")).otherwise(pl.lit("v1")).alias("c0")
    rows = rows.with_columns(value)
    scores = world.scorer.score(rows)
    profile = profile_of(world, rows)
    night = rows.filter(pl.Series(is_night))
    tally = tally_of(world, profile, night, scores[is_night])
    clicks = world.clicks(1, scores)
    expected = expected_mean_score(profile, tally, WATCH_PARAMS)
    assert expected.shares == pytest.approx([scores[is_night].mean()])
    assert expected_click_rate(profile, tally, WATCH_PARAMS) == pytest.approx(clicks[is_night].mean())
    assert abs(scores[is_night].mean() / scores.mean() - 1) > WATCH_PARAMS.minimum_score_change
    assert not measured(world, profile, night, scores[is_night])["score_mean"].is_finding


def test_scores_that_are_no_probabilities_are_left_out_of_the_mean(world: World, profile: ReferenceProfile) -> None:
    rows = world.rows(22, NUM_ROWS)
    scores = np.where(np.arange(NUM_ROWS) < 4_000, np.nan, world.scorer.score(rows))
    mean = measured(world, profile, rows, scores)["score_mean"]
    assert mean.num_rows == 4_000
    assert mean.measured == pytest.approx(np.nanmean(scores))
    assert "score_mean" not in measured(world, profile, rows, np.full(NUM_ROWS, np.nan))


def test_quantiles_of_a_number_are_those_of_its_rows(world: World, profile: ReferenceProfile) -> None:
    reference, served = world.rows(0, 10_000)["n0"].drop_nulls(), world.rows(23, NUM_ROWS)
    number, word = (next(one for one in profile.binning.fields if one.name == name) for name in ("n0", "c0"))
    assert quantiles_of(profile, served, word) is None
    shown = quantiles_of(profile, served, number)
    assert shown is not None
    assert shown.shares == pytest.approx((0.05, 0.25, 0.5, 0.75, 0.95), abs=0.001)
    assert shown.reference == pytest.approx(np.quantile(reference, shown.shares), rel=0.01)
    assert shown.served == pytest.approx(np.quantile(served["n0"].drop_nulls(), shown.shares))
    assert quantiles_of(profile, served.with_columns(pl.lit(None, pl.Float64).alias("n0")), number) is None
