"""Quality once clicks are final: overall and by slice, clicks given score, estimates before, and clicks that never come."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from components.champion import Champion
from components.log import Window
from components.metrics import reliability_bins
from components.watching.clicks import measure_calibration, measure_concept
from components.watching.drift import Measure
from components.watching.estimating import estimated_figures
from components.watching.measuring import measure_unit
from components.watching.quality import NUM_CELLS, bins_of, cells_of, count_quality, figures_of
from components.watching.reference import GroupReference, QualityReference, read_reference
from components.workbench import Workbench
from tests.evaluated_world import evaluation_of
from tests.served_world import (
    DAY,
    MIDNIGHT,
    START,
    WATCH_PARAMS,
    Watch,
    World,
    finding_of,
    found,
    make_world,
    watching,
)

NUM_ROWS = 30_000


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(num_categorical=3, num_numeric=1)


@pytest.fixture(scope="module")
def champion(world: World, tmp_path_factory: pytest.TempPathFactory) -> Champion:
    return world.champion(60_000, tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def watch(world: World, champion: Champion, tmp_path: Path, workbench: Workbench) -> Watch:
    return watching(world, champion, tmp_path, workbench)


def reference_of(world: World, folder: Path) -> QualityReference:
    rows = world.rows(0, 60_000)
    scores = world.scorer.score(rows)
    evaluation_of(rows, world.clicks(1, scores), scores, world.schema).save(folder)
    return read_reference(folder, world.schema)


# The laws


def test_figures_of_final_clicks_are_those_of_an_independent_library(world: World, tmp_path: Path) -> None:
    reference = reference_of(world, tmp_path)
    rows = world.rows(50, NUM_ROWS)
    scores = world.scorer.score(rows)
    clicks = world.clicks(51, scores)
    halves = [slice(0, 9_000), slice(9_000, None)]
    tally, other = (count_quality(rows[half], clicks[half], scores[half], reference, world.schema) for half in halves)
    overall, *slices = figures_of(tally + other, reference, 0.95, 1)
    assert (overall.slice, overall.num_rows, overall.num_clicks) == ("all", NUM_ROWS, clicks.sum())
    assert overall.auc is not None
    assert overall.log_loss is not None
    assert overall.auc.value == pytest.approx(roc_auc_score(clicks, scores), abs=2e-4)
    assert overall.log_loss.value == pytest.approx(log_loss(clicks, scores), abs=1e-12)
    assert overall.calibration_error is not None
    assert overall.calibration_error_null is not None
    assert 0 < overall.calibration_error < 1.5 * overall.calibration_error_null
    by_field: dict[str, int] = {}
    for one in slices:
        chosen = rows_of_slice(rows, one.slice, {other.slice for other in slices}, world.rows(0, 60_000))
        rounding = 1 if one.slice.startswith("n0") else 0  # rows within the six digits of a bound
        assert one.num_rows == pytest.approx(chosen.sum(), abs=rounding), one.slice
        assert one.num_clicks == pytest.approx(clicks[chosen].sum(), abs=rounding), one.slice
        assert one.auc is not None
        assert one.auc.value == pytest.approx(roc_auc_score(clicks[chosen], scores[chosen]), abs=5e-4)
        sums = np.bincount(bins_of(scores[chosen], reference), scores[chosen] - clicks[chosen])
        assert one.calibration_error is not None
        assert one.calibration_error_null is not None
        assert one.calibration_error == pytest.approx(np.abs(sums).sum() / chosen.sum(), rel=0.01 * rounding + 1e-9)
        assert one.calibration_error < 2 * one.calibration_error_null
        by_field[one.slice.split("=")[0]] = by_field.get(one.slice.split("=")[0], 0) + one.num_rows
    assert by_field == {"c0": NUM_ROWS, "hour": NUM_ROWS, "n0": NUM_ROWS}


def rows_of_slice(rows: pl.DataFrame, slice_name: str, others: set[str], test_rows: pl.DataFrame) -> np.ndarray:
    """Rows of a slice by the evaluation's own rules: its values, ranges cut at the test rows' quartiles, missing, and the rest."""
    name, value = slice_name.split("=")
    if name == "hour":
        hours = pl.Series(rows["_time"] // (DAY // 24) % 24).cast(pl.String).str.zfill(2)
        is_named = hours.is_in([other.split("=")[1] for other in others if other.startswith("hour=")])
        return (~is_named if value == "__other__" else hours == value).to_numpy()
    if value == "__missing__":
        return rows[name].is_null().to_numpy()
    if name == "c0":
        return (rows[name] == value).fill_null(False).to_numpy()
    cuts = np.quantile(test_rows["n0"].drop_nulls(), [0.25, 0.5, 0.75], method="lower")
    number = ["up to", "to", "to", "above"].index(value.translate(str.maketrans("", "", "0123456789.")).strip())
    if number == 1:
        number = 1 + int(value.startswith(f"{cuts[1]:g} "))
    values = rows["n0"].fill_null(np.nan).to_numpy()
    return np.asarray((values > (-np.inf, *cuts)[number]) & (values <= (*cuts, np.inf)[number]))


def test_intervals_hold_the_truth_as_often_as_they_say(world: World, tmp_path: Path) -> None:
    reference = reference_of(world, tmp_path)
    rows = world.rows(52, 4_000)
    scores = world.scorer.score(rows)
    truth = (
        float(scores.mean() / scores.mean()),
        float(-(scores * np.log(scores) + (1 - scores) * np.log(1 - scores)).mean()),
    )
    held = np.zeros(2)
    for seed in range(60):
        figures = figures_of(
            count_quality(rows, world.clicks(seed, scores), scores, reference, world.schema), reference, 0.9, 1
        )[0]
        for number, (interval, value) in enumerate(
            zip((figures.calibration_ratio, figures.log_loss), truth, strict=True)
        ):
            assert interval is not None
            assert interval.low is not None
            assert interval.high is not None
            held[number] += interval.low <= value <= interval.high
    assert ((held / 60 > 0.82) & (held / 60 <= 1)).all()


def test_chance_alone_trips_calibration_and_concept_as_often_as_the_p_value_says(world: World) -> None:
    rows, levels = world.rows(53, 5_000), WATCH_PARAMS.levels(4, 20)
    scores = world.scorer.score(rows)
    p_values: list[list[float]] = []
    generator = np.random.default_rng(3)
    for seed in range(120):
        own = generator.integers(0, 5_000, 16_000)
        reference = replace(reference_of_clicks(world, rows[own], scores[own], seed), inflation=1.0)
        tally = count_quality(rows, world.clicks(10_000 + seed, scores), scores, reference, world.schema)
        one = measure_calibration(reference, tally, 0, WATCH_PARAMS, levels)
        two = measure_concept(reference, tally, WATCH_PARAMS, levels)
        p_values.append(
            [measure.p_value for measure in (one, two) if measure is not None and measure.p_value is not None]
        )
    assert (np.mean(np.array(p_values) < 0.1, axis=0) < 0.19).all()
    assert (np.mean(np.array(p_values) < 0.1, axis=0) > 0.02).all()


def reference_of_clicks(world: World, rows: pl.DataFrame, scores: np.ndarray, seed: int) -> QualityReference:
    """Cheaper than an evaluation: its overall figures and ten bins."""
    clicks = world.clicks(seed, scores)
    overall = GroupReference(None, None, len(clicks), int(clicks.sum()), float(scores.sum()), None, None, None)
    return QualityReference((overall,), reliability_bins(clicks, scores, 10), 1.0)


# What is found


def test_a_quiet_window_has_figures_by_slice_and_no_finding(world: World, watch: Watch) -> None:
    rows = world.rows(54, NUM_ROWS)
    drift = watch(rows, world.clicks(55, world.scorer.score(rows)))
    assert (drift.findings, drift.quality[0].slice) == ((), "all")
    assert len([one for one in drift.quality if one.reference_auc is not None]) > 10


def test_one_slice_whose_clicks_are_lost_is_named_and_the_others_are_not(world: World, watch: Watch) -> None:
    rows = world.rows(56, NUM_ROWS)
    scores = world.scorer.score(rows)
    broken = str(rows["c0"].drop_nulls().mode()[0])
    is_broken = (rows["c0"] == broken).fill_null(False).to_numpy()
    drift = watch(rows, world.clicks(57, np.where(is_broken, 0.4 * scores, scores)))
    assert ("calibration", f"c0={broken}") in found(drift)
    assert {slice_name for check, slice_name in found(drift) if check == "calibration"} <= {"all", f"c0={broken}"}
    assert {finding.kind for finding in drift.findings} == {"concept"}
    assert drift.findings[0].severity == "ticket"


def test_a_range_of_numbers_whose_clicks_are_lost_is_named(world: World, watch: Watch) -> None:
    rows = world.rows(75, NUM_ROWS)
    scores = world.scorer.score(rows)
    is_high = (rows["n0"] > np.quantile(world.rows(0, 60_000)["n0"].drop_nulls(), 0.75)).fill_null(False).to_numpy()
    clicks = np.where(is_high & (np.arange(NUM_ROWS) % 2 == 0), 0, world.clicks(76, scores))
    names = {name for check, name in found(watch(rows, clicks)) if check == "calibration"}
    assert len([name for name in names if name.startswith("n0=above ")]) == 1
    assert not any(name.startswith(("c0=", "n0=up to", "n0=__")) for name in names)


def test_clicks_given_the_score_that_change_are_a_finding_apart_from_the_fields(world: World, watch: Watch) -> None:
    rows = world.rows(58, NUM_ROWS)
    scores = world.scorer.score(rows)
    tilted = scores**1.6
    drift = watch(rows, world.clicks(59, tilted * scores.mean() / tilted.mean()))
    finding = finding_of(drift, "concept")
    assert finding.kind == "concept"
    assert "times the clicks" in finding.what
    assert "field_drift" not in {check for check, _ in found(drift)}


def test_other_rows_whose_scores_stay_true_are_no_change_of_clicks_given_score(world: World, watch: Watch) -> None:
    moved = world.shares["c1"] ** 4 / (world.shares["c1"] ** 4).sum()
    rows = world.rows(60, NUM_ROWS, shares={"c1": moved})
    drift = watch(rows, world.clicks(61, world.scorer.score(rows)))
    assert ("field_drift", "c1") in found(drift)
    assert not {"concept", "calibration"} & {check for check, _ in found(drift)}


# What is final


def test_a_click_counts_only_when_it_is_final_and_before_an_estimate_says_so(world: World, watch: Watch) -> None:
    rows = world.rows(62, NUM_ROWS)
    scores = world.scorer.score(rows)
    clicks = world.clicks(63, scores)
    window = Window(MIDNIGHT, MIDNIGHT + timedelta(days=1), MIDNIGHT + timedelta(hours=36))
    drift = watch(rows, clicks, window)
    is_final = (rows["_time"] < START + DAY // 2).to_numpy()
    assert drift.num_settled == is_final.sum()
    assert drift.figures["click_rate"] == clicks[is_final].mean()
    estimate = drift.figures["estimated_auc"]
    assert estimate == pytest.approx(roc_auc_score(clicks[~is_final], scores[~is_final]), abs=0.03)
    assert any("estimated_" in note for note in drift.notes)


def test_the_estimate_is_what_clicks_drawn_from_the_scores_give(world: World) -> None:
    scores = np.repeat(world.scorer.score(world.rows(64, 4_000)), 40)
    clicks = world.clicks(65, scores)
    cells = cells_of(scores)
    waiting = np.array([np.bincount(cells, minlength=NUM_CELLS), np.bincount(cells, scores, NUM_CELLS)], dtype=float)
    figures = estimated_figures(waiting, 1.0)
    assert figures["estimated_click_rate"] == pytest.approx(clicks.mean(), rel=0.03)
    assert figures["estimated_auc"] == pytest.approx(roc_auc_score(clicks, scores), abs=0.01)
    assert figures["estimated_log_loss"] == pytest.approx(log_loss(clicks, scores), rel=0.03)
    assert set(estimated_figures(waiting * 0, 1.0).values()) == {None}


def test_clicks_that_should_be_final_and_never_came_are_a_finding(world: World, watch: Watch) -> None:
    rows = world.rows(66, 5_000)
    window = Window(MIDNIGHT, MIDNIGHT + timedelta(days=1), MIDNIGHT + timedelta(days=3))
    drift = watch(rows, None, window)
    assert found(drift) == {("clicks_missing", "all")}
    assert drift.status == "contract"


# What else is said


def test_vanished_values_are_named(world: World, watch: Watch) -> None:
    gone = str(world.rows(0, 1_000)["c1"].drop_nulls().mode()[0])
    rows = world.rows(70, NUM_ROWS).filter((pl.col("c1") != gone) | pl.col("c1").is_null())
    drift = watch(rows, None)
    (finding,) = [one for one in drift.findings if one.slice == "c1"]
    assert repr(gone) in finding.what.split("vanished" if finding.check == "field_drift" else "stand in none")[1]


def test_what_is_sure_but_small_is_notable_and_no_finding(world: World, watch: Watch) -> None:
    usual = world.shares["c1"]
    moved = np.where(np.arange(len(usual)) == 0, usual * 1.25, usual)
    drift = watch(world.rows(71, NUM_ROWS, shares={"c1": moved / moved.sum()}), None)
    assert not [one for one in drift.findings if one.slice == "c1"]
    assert any("'c1'" in words for words in drift.notable)
    tested = [one for one in drift.measures if one.p_value is not None]
    assert all(one.q_value is not None and one.q_value >= (one.p_value or 0.0) for one in tested)


def test_a_change_of_the_mix_is_no_change_of_unit(world: World, champion: Champion, watch: Watch) -> None:
    assert champion.profile is not None
    field = next(field for field in champion.profile.binning.fields if field.name == "n0")
    rows = world.rows(72, 5_000)
    cases = {1_000.0: True, 1 / 60: True, 2.0: False}
    for factor, is_unit in cases.items():
        measured = measure_unit(champion.profile, rows.with_columns(pl.col("n0") * factor), field, WATCH_PARAMS)
        assert isinstance(measured, Measure)
        assert measured.measured == pytest.approx(factor, rel=0.1)
        assert measured.is_finding == is_unit
    mixed = rows.with_columns(pl.when(pl.col("_time") % 3 == 0).then(pl.col("n0") * 1_000).otherwise(pl.col("n0")))
    measured = measure_unit(champion.profile, mixed, field, WATCH_PARAMS)
    assert measured is not None
    assert not measured.is_finding
