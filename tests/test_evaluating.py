"""Evaluation against planted truths, loops by hand and scikit-learn."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import log_loss as outside_log_loss
from sklearn.metrics import roc_auc_score

from components import metrics
from components.calibrating import Calibrator
from components.champion import Champion
from components.errors import ConfigError, IntegrityError
from components.evaluating import EvaluateParams, Evaluation, evaluate_scorers
from components.evaluating.bootstrapping import interval, measure, resample
from components.evaluating.measuring import can_score, schema_breaks
from components.evaluating.slicing import cluster_numbers, measure_slices
from components.exporting import calibrated_scorer
from components.log import Field, LogSchema
from components.scoring import Scorer
from components.workbench import Workbench
from tests.scored_world import CALIBRATE, HOUR, INTERCEPT, SCHEMA, SLOPE, START, Line, make_line, make_ranker

PARAMS = EvaluateParams(
    num_bins=20,
    num_null_draws=100,
    num_bootstraps=100,
    confidence=0.95,
    cluster_by=None,
    slice_fields=("device", "price", "hour"),
    slice_top_values=4,
    num_parity_rows=500,
    chunk_rows=1_111,
    seed=3,
)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    torch.set_num_threads(1)
    return make_line(tmp_path_factory.mktemp("line"), 12_000, seed=5)


@pytest.fixture(scope="module")
def scorer(line: Line) -> Scorer:
    return calibrated_scorer(SCHEMA, line.encoded, line.ranker, CALIBRATE)


def champion_of(scorer: Scorer, last_time: int | None) -> Champion:
    return Champion("v1.0.0", "ab" * 32, START, last_time, scorer, None, None)


def uncalibrated(scorer: Scorer) -> Scorer:
    """A champion that is worse: the same network without its calibrator."""
    return dataclasses.replace(scorer, calibrator=Calibrator.identity(1.0))


def evaluate(
    line: Line, scorer: Scorer, champion: Champion, workbench: Workbench, params: EvaluateParams = PARAMS
) -> Evaluation:
    return evaluate_scorers(
        line.raw_log, line.clean_log, line.splits, line.encoded, line.ranker, scorer, champion, params, workbench
    )


@pytest.fixture(scope="module")
def evaluation(line: Line, scorer: Scorer, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    folder = tmp_path_factory.mktemp("bench")
    bench = Workbench(folder, folder, lambda done, total, note: None, "cpu", "never", None, lambda: None, 1)
    return evaluate(line, scorer, champion_of(uncalibrated(scorer), None), bench)


def test_the_figures_are_those_of_an_independent_library_on_the_raw_test_rows(
    evaluation: Evaluation, line: Line, scorer: Scorer
) -> None:
    rows = line.test_rows()
    clicks, scores = rows["_click"].to_numpy(), scorer.score(rows)
    figures = evaluation.challenger
    assert (figures.num_rows, figures.num_clicks) == (len(rows), int(clicks.sum()))
    assert figures.auc.value == pytest.approx(roc_auc_score(clicks, scores), abs=1e-12)
    assert figures.log_loss.value == pytest.approx(outside_log_loss(clicks, scores), abs=1e-12)
    rate = clicks.mean()
    entropy = -(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))
    assert figures.normalised_entropy.value == pytest.approx(outside_log_loss(clicks, scores) / entropy, abs=1e-12)
    assert figures.calibration_ratio.value == pytest.approx(scores.mean() / rate, abs=1e-12)


def test_the_oracle_is_the_true_probability_of_the_same_rows(evaluation: Evaluation, line: Line) -> None:
    oracle = evaluation.facts.oracle
    assert oracle is not None
    test = line.splits.rows_of("test")
    clicks, probabilities = line.test_rows()["_click"].to_numpy(), line.probabilities[test]
    assert oracle.auc == pytest.approx(roc_auc_score(clicks, probabilities), abs=1e-12)
    assert oracle.log_loss == pytest.approx(outside_log_loss(clicks, probabilities), abs=1e-12)
    # Platt's line keeps the order of the logits, so nothing but chance is lost against the oracle.
    assert evaluation.challenger.auc.value == pytest.approx(oracle.auc, abs=1e-3)
    assert oracle.champion_mean_distance is not None
    # 2,400 calibrate rows know the line to about 0.06 in the logit, which is at most 0.015 in a score.
    assert oracle.mean_distance < 0.015 < oracle.champion_mean_distance


def test_parity_is_all_but_exact_and_calibration_gains_what_was_planted(evaluation: Evaluation, line: Line) -> None:
    facts = evaluation.facts
    assert facts.parity.num_rows == PARAMS.num_parity_rows
    assert 0 <= facts.parity.max_score_difference <= 1e-12
    assert facts.calibration.calibrated_log_loss == evaluation.challenger.log_loss.value
    assert facts.calibration.raw_log_loss > facts.calibration.calibrated_log_loss + 0.05
    assert (facts.calibration.method, facts.calibration.reason) == ("platt", "asked for by params")
    assert facts.cost.num_onnx_bytes > 0


def test_a_network_that_is_not_the_exported_one_shows_in_parity(
    line: Line, scorer: Scorer, workbench: Workbench
) -> None:
    skewed = dataclasses.replace(line, ranker=make_ranker("mlp", line.encoded.field_sizes, seed=99))
    assert evaluate(skewed, scorer, Champion.none(), workbench).facts.parity.max_score_difference > 0.01


def test_challenger_and_champion_are_compared_in_pairs_on_the_same_rows(evaluation: Evaluation) -> None:
    comparison = evaluation.comparison
    assert comparison is not None
    assert comparison.num_left_out == 0
    assert comparison.challenger == evaluation.challenger
    # A calibrator that keeps the order changes no AUC, in no resample: paired, the difference is exactly 0.
    assert (comparison.auc_difference.low, comparison.auc_difference.high) == (0.0, 0.0)
    loss = comparison.log_loss_difference
    assert loss.low is not None
    assert loss.high is not None
    assert loss.low < loss.value < loss.high < 0
    unpaired = comparison.champion.log_loss
    assert unpaired.low is not None
    assert unpaired.high is not None
    assert loss.high - loss.low < unpaired.high - unpaired.low


def test_rows_up_to_the_champions_last_training_row_are_left_out(
    line: Line, scorer: Scorer, workbench: Workbench
) -> None:
    times = line.test_rows()["_time"]
    last = int(times[1_000])
    shortened = evaluate(line, scorer, champion_of(scorer, last), workbench)
    comparison = shortened.comparison
    assert comparison is not None
    # The challenger's own figures stay those of all test rows, with or without a champion.
    assert shortened.challenger == evaluate(line, scorer, Champion.none(), workbench).challenger
    assert shortened.challenger == evaluate(line, scorer, champion_of(scorer, None), workbench).challenger
    assert comparison.num_left_out == int((times <= last).sum())
    assert comparison.challenger.num_rows == int((times > last).sum())
    facts = evaluate(line, scorer, champion_of(scorer, int(times[-1])), workbench).facts
    assert facts.comparison is None
    assert facts.no_comparison is not None
    assert "0 (with 0 clicks) are later than the last row" in facts.no_comparison
    assert facts.champion_version == "v1.0.0"


def test_without_a_champion_there_is_no_comparison_and_the_evaluation_says_why(
    line: Line, scorer: Scorer, workbench: Workbench
) -> None:
    facts = evaluate(line, scorer, Champion.none(), workbench).facts
    assert (facts.comparison, facts.no_comparison) == (None, "there is no champion yet")
    assert (facts.champion_version, facts.champion_digest, facts.schema_breaks) == (None, None, ())


def test_a_champion_whose_fields_the_log_no_longer_has_is_not_asked(
    line: Line, scorer: Scorer, workbench: Workbench
) -> None:
    other = dataclasses.replace(SCHEMA, fields=(*SCHEMA.fields, Field("gone", "numeric", "quantiles", 0, None, None)))
    facts = evaluate(line, scorer, champion_of(dataclasses.replace(scorer, schema=other), None), workbench).facts
    assert facts.comparison is None
    assert facts.no_comparison == "the champion v1.0.0 cannot score these rows: field 'gone' is gone"


def test_schema_breaks_are_told_in_words() -> None:
    fields = SCHEMA.fields
    changed = (
        dataclasses.replace(fields[0], kind="numeric"),
        *fields[2:],
        Field("fresh", "categorical", None, 0, None, None),
    )
    new = LogSchema("clicked", None, "id", None, None, tuple(f for f in changed if not f.is_from_time))
    assert schema_breaks(SCHEMA, new) == (
        "field 'item' is gone",
        "field 'fresh' is new",
        "field 'user' was categorical and is numeric",
        "the time column was 'shown_at' and is absent",
    )
    assert schema_breaks(SCHEMA, SCHEMA) == ()
    assert can_score(SCHEMA, SCHEMA)
    assert not can_score(SCHEMA, dataclasses.replace(SCHEMA, time=None))
    assert can_score(
        SCHEMA, dataclasses.replace(SCHEMA, fields=(*fields, Field("new", "categorical", None, 0, None, None)))
    )


def test_artifacts_of_two_runs_are_refused(line: Line, scorer: Scorer, workbench: Workbench) -> None:
    shifted = dataclasses.replace(line.splits, assignment=np.roll(line.splits.assignment, 7))
    with pytest.raises(IntegrityError, match="are not the"):
        evaluate(dataclasses.replace(line, splits=shifted), scorer, Champion.none(), workbench)


def test_an_impression_without_a_true_probability_is_refused(
    line: Line, scorer: Scorer, workbench: Workbench, tmp_path: Path
) -> None:
    (tmp_path / "files").mkdir()
    truth = pl.read_parquet(line.raw_log.path_of(line.raw_log.truth[0]))
    truth.filter(pl.col("_impression") != "i11999").write_parquet(tmp_path / "files" / "truth")
    with pytest.raises(IntegrityError, match="1 of 3,600 test rows have no true probability"):
        evaluate(
            dataclasses.replace(line, raw_log=dataclasses.replace(line.raw_log, folder=tmp_path)),
            scorer,
            Champion.none(),
            workbench,
        )


def test_slices_hold_every_row_once_and_their_figures_are_those_of_a_filter(
    evaluation: Evaluation, line: Line, scorer: Scorer
) -> None:
    rows = line.test_rows()
    rows = rows.with_columns(pl.Series("score", scorer.score(rows)))
    for name in PARAMS.slice_fields:
        parts = [part for part in evaluation.slices if part.field == name]
        assert sum(part.num_rows for part in parts) == len(rows)
        assert sum(part.num_clicks for part in parts) == rows["_click"].sum()
        assert len(parts) <= PARAMS.slice_top_values + 1
    devices = [part for part in evaluation.slices if part.field == "device"]
    assert [part.num_rows for part in devices[:4]] == sorted((part.num_rows for part in devices[:4]), reverse=True)
    for part in devices[:4]:
        chosen = rows.filter(pl.col("device").eq_missing(pl.lit(part.value)))
        assert part.num_rows == len(chosen)
        assert part.calibration_ratio == pytest.approx(chosen["score"].sum() / chosen["_click"].sum())
        assert part.auc == pytest.approx(roc_auc_score(chosen["_click"], chosen["score"]), abs=1e-12)
        assert part.score_variance == pytest.approx((chosen["score"] * (1 - chosen["score"])).sum())
    hours = [part for part in evaluation.slices if part.field == "hour" and not part.is_rest]
    hour = rows.filter(((pl.col("_time") // HOUR) % 24) == int(hours[0].value or ""))
    assert hours[0].num_rows == len(hour)
    prices = [part for part in evaluation.slices if part.field == "price"]
    assert prices[-1].is_rest == (len(prices) == PARAMS.slice_top_values + 1)
    assert any((part.value or "").startswith("up to ") for part in prices)


def test_a_slice_with_one_class_has_no_auc_and_a_field_without_values_is_one_slice() -> None:
    rows = pl.DataFrame(
        {"_time": [0, 0, 0], "device": ["a", "a", "b"], "price": pl.Series([None] * 3, dtype=pl.Float64)}
    )
    params = dataclasses.replace(PARAMS, slice_fields=("device", "price"))
    first, second, third = measure_slices(rows, np.array([0, 0, 1]), np.array([0.1, 0.2, 0.3]), SCHEMA, params)
    assert (first.value, first.auc, first.calibration_ratio, first.normalised_entropy) == ("a", None, None, None)
    assert (second.value, second.auc) == ("b", None)
    assert (third.value, third.is_rest, third.num_rows) == (None, False, 3)


def test_the_evaluation_reads_back_equal_and_the_same_run_gives_the_same_bytes(
    evaluation: Evaluation, line: Line, scorer: Scorer, workbench: Workbench, tmp_path: Path
) -> None:
    params = dataclasses.replace(PARAMS, chunk_rows=5_000)
    again = evaluate(line, scorer, champion_of(uncalibrated(scorer), None), workbench, params)
    for name, one in (("one", evaluation), ("two", again)):
        (tmp_path / name).mkdir()
        one.save(tmp_path / name)
    assert Evaluation.load(tmp_path / "one") == evaluation == again
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["evaluation.json", "reliability.parquet", "slices.parquet"]
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)
    (tmp_path / "one" / "evaluation.json").write_text("{}")
    with pytest.raises(IntegrityError, match="missing"):
        Evaluation.load(tmp_path / "one")


def planted(num_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    scores = 1 / (1 + np.exp(-np.round(generator.normal(-2, 1, num_rows), 2)))
    return (generator.random(num_rows) < scores).astype(np.int8), scores


def test_resampled_metrics_are_those_of_really_repeated_rows() -> None:
    clicks, scores = planted(400, seed=1)
    clusters = np.random.default_rng(2).integers(0, 60, 400)
    _, clusters = np.unique(clusters, return_inverse=True)
    num_clusters = int(clusters.max()) + 1
    found = resample(clicks, {"one": scores, "other": 1 - scores}, clusters, 20, seed=9)
    generator = np.random.default_rng(9)
    for draw in range(20):
        chosen = generator.integers(0, num_clusters, num_clusters)
        rows = np.concatenate([np.flatnonzero(clusters == cluster) for cluster in chosen])
        assert found["one"]["auc"][draw] == pytest.approx(roc_auc_score(clicks[rows], scores[rows]), abs=1e-12)
        assert found["other"]["auc"][draw] == pytest.approx(1 - roc_auc_score(clicks[rows], scores[rows]), abs=1e-12)
        for metric in ("log_loss", "normalised_entropy", "calibration_ratio"):
            by_hand = getattr(metrics, metric)(clicks[rows], scores[rows])
            assert found["one"][metric][draw] == pytest.approx(by_hand, rel=1e-10)


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    params = dataclasses.replace(PARAMS, num_bootstraps=200, confidence=0.9, num_null_draws=1)
    truth = metrics.auc(*planted(400_000, seed=0))
    hits = 0
    for seed in range(60):
        clicks, scores = planted(1_000, seed=100 + seed)
        auc = measure(clicks, {"one": scores}, np.arange(1_000), params).figures["one"].auc
        assert auc.low is not None
        assert auc.high is not None
        hits += auc.low <= truth <= auc.high
    assert 45 <= hits <= 60  # binomial(60, .9): 54 expected, standard deviation 2.3


def test_clusters_of_equal_rows_widen_the_interval_by_the_root_of_their_size() -> None:
    clicks, scores = planted(500, seed=3)
    params = dataclasses.replace(PARAMS, num_bootstraps=400)
    repeated = [np.repeat(array, 9) for array in (clicks, scores)]
    apart = measure(repeated[0], {"one": repeated[1]}, np.arange(4_500), params).figures["one"].log_loss
    clustered = measure(repeated[0], {"one": repeated[1]}, np.repeat(np.arange(500), 9), params).figures["one"].log_loss
    widths = [(found.high or 0) - (found.low or 0) for found in (apart, clustered)]
    assert widths[1] / widths[0] == pytest.approx(3.0, rel=0.2)


def test_an_interval_has_no_bounds_where_half_the_resamples_are_undefined() -> None:
    assert interval(0.5, np.array([np.nan, np.nan, 0.5]), 0.95).low is None
    found = interval(0.5, np.array([np.nan, 0.4, 0.6]), 0.5)
    assert (found.low, found.high) == pytest.approx((0.45, 0.55))


def test_the_error_of_a_calibrated_scorer_lies_below_its_null_and_a_shifted_ones_above() -> None:
    clicks, scores = planted(20_000, seed=4)
    figures = measure(clicks, {"true": scores, "high": scores * 1.2}, np.arange(20_000), PARAMS).figures
    assert figures["true"].calibration_error <= 1.3 * figures["true"].calibration_error_null
    assert figures["high"].calibration_error > 1.5 * figures["high"].calibration_error_null


@pytest.mark.parametrize(
    ("cluster_by", "expected"),
    [(None, [0, 1, 2, 3]), ("hour", [0, 1, 1, 1]), ("user", [1, 0, 1, 2]), ("device", [0, 1, 0, 1])],
)
def test_rows_are_clustered_by_what_params_say(cluster_by: str | None, expected: list[int]) -> None:
    rows = pl.DataFrame(
        {"_time": [HOUR - 1, HOUR, HOUR + 1, HOUR + 2], "user": ["b", "a", "b", "c"], "device": [None, "x", None, "x"]}
    )
    numbers = cluster_numbers(rows, SCHEMA, cluster_by)
    same = [[one == other for other in numbers] for one in numbers]
    assert same == [[one == other for other in expected] for one in expected]
    assert sorted(set(numbers)) == list(range(len(set(expected))))


@pytest.mark.parametrize(
    ("change", "schema_change", "words"),
    [
        ({"slice_fields": ("colour",)}, {}, r"slice_fields \['colour'\]"),
        ({"cluster_by": "colour"}, {}, "cluster_by 'colour'"),
        ({"cluster_by": "user"}, {"user": None}, "cluster_by 'user' needs"),
        ({"cluster_by": "hour"}, {"time": None}, "cluster_by 'hour' needs"),
    ],
)
def test_fields_that_the_schema_has_not_are_a_config_error(
    line: Line, scorer: Scorer, workbench: Workbench, change: dict[str, Any], schema_change: dict[str, Any], words: str
) -> None:
    schema = dataclasses.replace(SCHEMA, **schema_change)
    request = dataclasses.replace(line.clean_log.request, schema=schema)
    other = dataclasses.replace(line, clean_log=dataclasses.replace(line.clean_log, request=request))
    with pytest.raises(ConfigError, match=words):
        evaluate(other, scorer, Champion.none(), workbench, dataclasses.replace(PARAMS, **change))


def test_params_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_bootstraps must be at least 1"):
        dataclasses.replace(PARAMS, num_bootstraps=0)
    with pytest.raises(ConfigError, match="confidence"):
        dataclasses.replace(PARAMS, confidence=1.0)


def test_the_planted_line_is_what_the_scorer_found(scorer: Scorer) -> None:
    assert scorer.calibrator.facts.slope == pytest.approx(SLOPE, abs=0.3)
    assert scorer.calibrator.facts.intercept == pytest.approx(INTERCEPT, abs=0.3)
