from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from components.champion import Champion
from components.profiling import count_rows
from components.watching import CHECKS, Drift, Finding, Measure, watch_served
from components.watching.clicks import measure_quality
from components.watching.drift import DriftFacts
from components.watching.fields import measure_counts
from components.watching.quality import count_quality
from components.watching.reference import reference_of_profile
from components.watching.watch import compare_served
from components.workbench import Workbench
from pipeline.bench_drift.peers import Tables, says_drift
from tests.served_world import DAY, START, WATCH_PARAMS, World, make_world

NUM_ROWS = 8_000


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(num_categorical=4, num_numeric=1)


@pytest.fixture(scope="module")
def champion(world: World) -> Champion:
    return world.champion(10_000)


def watch(
    world: World, champion: Champion, rows: pl.DataFrame, clicks: np.ndarray | None, folder: Path, bench: Workbench
) -> DriftFacts:
    """The comparison alone: importing Evidently, which only draws, takes longer than all other tests."""
    return compare_served(champion, world.served_log(folder / "served", rows, clicks), WATCH_PARAMS, bench).facts


def only_finding(drift: DriftFacts, check: str, slice_name: str) -> Finding:
    found = [finding for finding in drift.findings if (finding.check, finding.slice) == (check, slice_name)]
    assert len(found) == 1, [finding.what for finding in drift.findings]
    return found[0]


# What is found, and what is not


def measure(world: World, champion: Champion, rows: pl.DataFrame, seed: int) -> list[Measure]:
    assert champion.profile is not None
    scores = world.scorer.score(rows)
    clicks = world.clicks(seed, scores)
    tally = count_rows(rows, scores, clicks, world.scorer.encoder, champion.profile.binning)
    fields = champion.profile.binning.fields
    levels = WATCH_PARAMS.levels(len(fields), 0)
    reference = reference_of_profile(champion.profile)
    quality = count_quality(rows, clicks, scores, reference, world.schema)
    return [
        *measure_counts(champion.profile, tally, tally, fields, WATCH_PARAMS, levels),
        *measure_quality(reference, quality, WATCH_PARAMS, levels),
    ]


def test_quiet_days_of_forty_fields_give_no_finding() -> None:
    world = make_world(num_categorical=36, num_numeric=4)
    champion = world.champion(10_000)
    for seed in range(10, 14):
        measures = measure(world, champion, world.rows(seed, 5_000), seed)
        assert [one for one in measures if one.is_finding] == []
        assert len(measures) == 40 * 6 + 36 + 7


def test_a_psi_of_a_fifth_on_one_field_is_found_in_nearly_every_window(world: World, champion: Champion) -> None:
    usual = world.shares["c2"]
    low, high = 0.0, 50.0
    for _ in range(60):
        factor = (low + high) / 2
        moved = np.where(np.arange(len(usual)) == 0, usual * (1 + factor), usual)
        moved /= moved.sum()
        psi = float(((moved - usual) * np.log(moved / usual)).sum())
        low, high = (factor, high) if psi < 0.2 else (low, factor)
    found = 0
    for seed in range(100, 112):
        measures = measure(world, champion, world.rows(seed, NUM_ROWS, shares={"c2": moved}), seed)
        findings = {(one.check, one.slice) for one in measures if one.is_finding}
        assert findings - {("score_mean", "all"), ("score_lowest", "all"), ("score_highest", "all")} <= {
            ("field_drift", "c2"),
            ("score_drift", "all"),
            ("calibration", "all"),
            ("auc", "all"),
        }
        found += ("field_drift", "c2") in findings
    assert found == 12


def test_a_quiet_window_is_quiet_and_its_figures_are_said(
    world: World, champion: Champion, tmp_path: Path, workbench: Workbench
) -> None:
    rows = world.rows(20, NUM_ROWS)
    scores = world.scorer.score(rows)
    clicks = world.clicks(21, scores)
    drift = watch(world, champion, rows, clicks, tmp_path, workbench)
    assert (drift.status, drift.findings) == ("quiet", ())
    assert (drift.num_rows, drift.num_settled) == (NUM_ROWS, NUM_ROWS)
    assert drift.figures["click_rate"] == clicks.mean()
    assert drift.figures["mean_score"] == pytest.approx(scores.mean())
    assert drift.first_time is not None
    assert drift.first_time.startswith("2024-10-04T00:0")


def test_a_field_gone_empty_at_noon_is_one_finding_that_says_since_when(
    world: World, champion: Champion, tmp_path: Path, workbench: Workbench
) -> None:
    rows = world.rows(22, NUM_ROWS)
    after_noon = pl.col("_time") >= START + DAY // 2
    rows = rows.with_columns(pl.when(~after_noon).then(pl.col("c3")).alias("c3"))
    drift = watch(world, champion, rows, None, tmp_path, workbench)
    finding = only_finding(drift, "field_promise", "c3")
    assert (drift.status, finding.severity) == ("contract", "page")
    assert finding.since is not None
    assert finding.since[:13] in ("2024-10-04T11", "2024-10-04T12")
    assert "c3" in finding.what
    assert [one.check for one in drift.findings if one.slice == "c3"] == ["field_promise"]


def test_an_empty_field_stands_for_all_that_follows_from_it(
    world: World, champion: Champion, tmp_path: Path, workbench: Workbench
) -> None:
    rows = world.rows(23, NUM_ROWS).with_columns(pl.lit(None, pl.Float64).alias("n0"))
    drift = watch(world, champion, rows, None, tmp_path, workbench)
    assert [finding.check for finding in drift.findings if finding.slice == "n0"] == ["field_empty"]


def test_a_unit_a_thousand_times_too_large_is_found(
    world: World, champion: Champion, tmp_path: Path, workbench: Workbench
) -> None:
    rows = world.rows(24, NUM_ROWS).with_columns(pl.col("n0") * 1_000)
    drift = watch(world, champion, rows, None, tmp_path, workbench)
    finding = only_finding(drift, "field_unit", "n0")
    assert finding.measured == pytest.approx(1_000, rel=0.1)
    assert "inf)" in finding.what
    assert drift.status == "contract"


def test_a_replaced_vocabulary_is_found_as_unseen_values(
    world: World, champion: Champion, tmp_path: Path, workbench: Workbench
) -> None:
    rows = world.rows(25, NUM_ROWS).with_columns(("new " + pl.col("c1")).alias("c1"))
    drift = watch(world, champion, rows, None, tmp_path, workbench)
    assert only_finding(drift, "field_unseen", "c1").measured > 0.9
    moved = only_finding(drift, "field_drift", "c1")
    assert "'__other__' 0.00% -> 100.00%" in moved.what
    assert drift.status == "drift"


def test_faults_of_serving_are_found_each_by_its_name(
    world: World, champion: Champion, tmp_path: Path, workbench: Workbench
) -> None:
    rows = world.rows(26, NUM_ROWS)
    scores = world.scorer.score(rows)
    stale = pl.Series("bundle", ["cd" * 32 if number < 400 else champion.digest for number in range(NUM_ROWS)])
    skewed = np.where(np.arange(NUM_ROWS) >= 400, scores + 1e-5, scores)
    skewed[0] = np.nan
    served = rows.with_columns(pl.Series("score", skewed), stale)
    served = pl.concat([served, served.tail(100)])
    drift = watch(world, champion, served, None, tmp_path, workbench)
    assert {finding.check for finding in drift.findings} == {
        "stale_bundle",
        "score_skew",
        "score_invalid",
        "duplicates",
    }
    assert only_finding(drift, "duplicates", "all").measured == pytest.approx(100 / (NUM_ROWS + 100))
    assert only_finding(drift, "score_skew", "all").measured == pytest.approx(1e-5, rel=0.02)
    assert [finding.severity for finding in drift.findings] == ["page", "page", "ticket", "ticket"]


def test_a_column_that_is_absent_or_of_another_type_is_found_and_the_others_still_watched(
    world: World, champion: Champion, tmp_path: Path, workbench: Workbench
) -> None:
    rows = world.rows(27, NUM_ROWS)
    rows = rows.with_columns(pl.Series("score", world.scorer.score(rows)))
    rows = rows.drop("c0").with_columns(pl.lit(1, pl.Int64).alias("c1"), pl.lit(None, pl.String).alias("c2"))
    drift = watch(world, champion, rows, None, tmp_path, workbench)
    assert {finding.slice for finding in drift.findings if finding.check == "columns"} == {"c0", "c1"}
    assert {finding.slice for finding in drift.findings} == {"c0", "c1", "c2"}


def test_a_fifth_fewer_clicks_than_the_scores_promise_is_found(
    world: World, champion: Champion, tmp_path: Path, workbench: Workbench
) -> None:
    rows = world.rows(28, 20_000)
    scores = world.scorer.score(rows)
    drift = watch(world, champion, rows, world.clicks(29, scores * 0.8), tmp_path, workbench)
    finding = only_finding(drift, "calibration", "all")
    assert finding.measured == pytest.approx(0.8, abs=0.06)
    assert [other.check for other in drift.findings] == ["calibration"]


def test_a_ranking_turned_upside_down_is_found_by_its_auc(
    world: World, champion: Champion, tmp_path: Path, workbench: Workbench
) -> None:
    rows = world.rows(30, NUM_ROWS)
    scores = world.scorer.score(rows)
    drift = watch(world, champion, rows, world.clicks(31, np.sort(scores)), tmp_path, workbench)
    finding = only_finding(drift, "auc", "all")
    assert finding.measured == pytest.approx(0.5, abs=0.03)


def test_clicks_that_have_not_come_are_said(
    world: World, champion: Champion, tmp_path: Path, workbench: Workbench
) -> None:
    drift = watch(world, champion, world.rows(32, NUM_ROWS), None, tmp_path, workbench)
    assert drift.num_settled == 0
    assert any("no click is known yet" in note for note in drift.notes)
    assert drift.figures["auc"] is None
    assert {one.check for one in drift.measures} & {"auc", "calibration"} == set()


# The artifact


def test_drift_and_its_report_are_read_back_equal_from_the_same_bytes(
    world: World, champion: Champion, tmp_path: Path, workbench: Workbench
) -> None:
    rows = world.rows(35, NUM_ROWS).with_columns(pl.col("n0") * 1_000, pl.lit(None, pl.String).alias("c1"))
    served = world.served_log(tmp_path / "served", rows, world.clicks(36, world.scorer.score(rows)))
    drifts = []
    for name in ("one", "other"):
        scratch = tmp_path / f"scratch {name}"
        scratch.mkdir()
        drifts.append(watch_served(champion, served, WATCH_PARAMS, replace(workbench, scratch=scratch)))
        (tmp_path / name).mkdir()
        drifts[-1].save(tmp_path / name)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["drift.json", "report.html", "report.json"]
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()
    loaded = Drift.load(tmp_path / "one")
    assert loaded == drifts[0] == drifts[1]
    (tmp_path / "again").mkdir()
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again" / "report.html").read_bytes() == (tmp_path / "one" / "report.html").read_bytes()
    assert (tmp_path / "one" / "report.html").stat().st_size <= 5_000_000
    assert b"ValueDrift" in (tmp_path / "one" / "report.json").read_bytes()


@pytest.mark.filterwarnings("ignore")  # Evidently's own
def test_the_bench_holds_us_against_evidentlys_own_preset() -> None:
    from evidently import Report
    from evidently.presets import DataDriftPreset

    usual = pl.DataFrame(np.random.default_rng(4).normal(0, 1, (1_200, 3)), schema=["n0", "n1", "n2"])
    answers = {(0, 0, 0): (False, False), (0, 5, 0): (True, False), (5, 0, 5): (False, True)}
    for shifts, answer in answers.items():
        served = usual.select(pl.col(f"n{number}") + shift for number, shift in enumerate(shifts))
        assert says_drift(Tables(usual, served, usual.columns, "n1")) == answer
        assert says_drift(Tables(usual, served, usual.columns, None)) == (any(shifts), answer[1])
        preset = Report([DataDriftPreset()]).run(served.to_pandas(), usual.to_pandas()).dict()["metrics"]
        drifts = {one["config"]["column"]: one["value"] > 0.1 for one in preset if "ValueDrift" in one["metric_name"]}
        assert (drifts["n1"], preset[0]["value"]["share"] >= 0.5) == answer
    words, none = pl.DataFrame({"c0": ["a"] * 300}), pl.DataFrame({"c0": [None] * 300}, {"c0": pl.String})
    assert says_drift(Tables(words, none, [], "c0")) is None


def test_the_rows_come_in_pieces_and_the_findings_do_not_depend_on_them(
    world: World, champion: Champion, tmp_path: Path, workbench: Workbench
) -> None:
    rows = world.rows(37, 3_000).with_columns(pl.lit(None, pl.String).alias("c0"))
    log = world.served_log(tmp_path / "served", rows, None)
    drifts = []
    for chunk_rows in (10_000, 700):
        scratch = tmp_path / str(chunk_rows)
        scratch.mkdir()
        params = replace(WATCH_PARAMS, chunk_rows=chunk_rows)
        drifts.append(compare_served(champion, log, params, replace(workbench, scratch=scratch)).facts)
    assert drifts[0].findings == drifts[1].findings
    assert [finding.check for finding in drifts[0].findings if finding.slice == "c0"] == ["field_empty"]


# People


def test_every_alert_has_a_runbook_with_all_that_one_needs_at_night() -> None:
    folder = Path(__file__).parents[1] / "docs" / "runbooks"
    for check in CHECKS.values():
        text = (folder / f"{check.alertname}.md").read_text(encoding="utf-8")
        headings = [line[3:] for line in text.splitlines() if line.startswith("## ")]
        assert headings == ["Rollback", "Meaning", "Impact", "Is it real?", "Escalate", "Silence"], check.alertname
        real = text.split("## Is it real?")[1].split("## Escalate")[0]
        assert real.count("```") == 6, check.alertname
    assert len({check.alertname for check in CHECKS.values()}) == len(CHECKS)


def test_a_check_stands_only_for_checks_that_there_are() -> None:
    assert {name for check in CHECKS.values() for name in check.stands_for} <= CHECKS.keys()
