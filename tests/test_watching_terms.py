"""Rows that an earlier champion scored in its own term are no fault, and are not held against the scores of its successor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from components.champion import Champion, Term
from components.watching.drift import DriftFacts
from components.watching.terms import Terms
from components.watching.watch import compare_served
from components.workbench import Workbench
from pipeline.bench_drift.world import make_scorer
from tests.served_world import DAY, DIGEST, START, WATCH_PARAMS, World, make_world

NUM_ROWS = 8_000
OLD = "cd" * 32
HOUR = DAY // 24
NOON = START + DAY // 2
OF_SCORES = {"score_drift", "score_mean", "score_click_rate", "score_lowest", "score_highest", "score_skew"}


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(num_categorical=3, num_numeric=1)


@pytest.fixture(scope="module")
def champion(world: World) -> Champion:
    return world.champion(10_000)


def terms_of(*starts: tuple[str, int]) -> tuple[Term, ...]:
    return tuple(Term({OLD: "v0.9.0", DIGEST: "v1.0.0"}[digest], digest, start) for digest, start in starts)


def watched(
    world: World,
    champion: Champion,
    terms: tuple[Term, ...],
    is_old: pl.Expr,
    folder: Path,
    bench: Workbench,
    but: pl.Expr | None = None,
) -> DriftFacts:
    """A day of rows, some of which another bundle scored; clicks are as the champion's scores promise, all of them final."""
    rows = world.rows(40, NUM_ROWS)
    rows = rows if but is None else rows.with_columns(but)
    own = world.scorer.score(rows)
    older = make_scorer(world.schema, world.scorer.encoder, 99).score(rows)
    assert abs(older.mean() / own.mean() - 1) > 0.2, "the old bundle's scores would be found if they counted"
    by_old = rows.select(is_old).to_series().to_numpy()
    bundles = pl.Series("bundle", [OLD if old else DIGEST for old in by_old])
    served = rows.with_columns(pl.Series("score", np.where(by_old, older, own)), bundles)
    log = world.served_log(folder / "served", served, world.clicks(41, own))
    return compare_served(replace(champion, terms=terms), log, WATCH_PARAMS, bench).facts


def test_a_window_that_straddles_a_promotion_is_quiet_and_says_what_it_left_out(
    world: World, champion: Champion, tmp_path: Path, workbench: Workbench
) -> None:
    terms = terms_of((OLD, START - 7 * DAY), (DIGEST, NOON))
    until = NOON + HOUR // 2
    drift = watched(world, champion, terms, pl.col("_time") < until, tmp_path, workbench)
    assert (drift.status, drift.findings) == ("quiet", ())
    measured = {one.check: one for one in drift.measures}
    num_own = measured["score_drift"].num_rows
    assert 0.4 < num_own / NUM_ROWS < 0.55
    assert measured["score_skew"].measured < 1e-6
    assert measured["calibration"].num_rows == num_own == drift.num_settled
    assert measured["field_drift"].num_rows > 0.9 * NUM_ROWS, "a field is watched whoever scored the rows"
    assert measured["stale_bundle"].measured == 0
    assert any(
        f"{NUM_ROWS - num_own:,} of {NUM_ROWS:,} rows were scored by another bundle" in note for note in drift.notes
    )


def test_a_bundle_that_serves_on_after_the_grace_is_stale_from_then_on(
    world: World, champion: Champion, tmp_path: Path, workbench: Workbench
) -> None:
    terms = terms_of((OLD, START - 7 * DAY), (DIGEST, START + 2 * HOUR))
    drift = watched(world, champion, terms, pl.col("c0") == "v0", tmp_path, workbench)
    found = [one for one in drift.findings if one.check == "stale_bundle"]
    assert drift.status == "contract"
    assert len(found) == 1
    assert found[0].since is not None
    assert found[0].since[:16] in ("2024-10-04T03:00", "2024-10-04T03:01"), "two hours, and the grace of one"
    assert "v0.9.0 cdcdcdcdcdcd" in found[0].what


def test_after_a_rollback_the_bundle_rolled_back_from_is_stale_after_the_grace(
    world: World, champion: Champion, tmp_path: Path, workbench: Workbench
) -> None:
    terms = terms_of((DIGEST, START - 7 * DAY), (OLD, START + HOUR), (DIGEST, NOON))
    time = pl.col("_time")
    in_its_term = time.is_between(START + HOUR, NOON + HOUR // 2)
    drift = watched(world, champion, terms, in_its_term, tmp_path / "followed", workbench)
    assert drift.findings == ()
    drift = watched(world, champion, terms, in_its_term | (time > NOON + 8 * HOUR), tmp_path / "forgotten", workbench)
    stale = next(one for one in drift.findings if one.check == "stale_bundle")
    assert stale.measured == pytest.approx(4 / 24, abs=0.02)
    assert stale.since is not None
    assert stale.since.startswith("2024-10-04T20:0")


def test_a_window_of_an_earlier_champion_is_watched_for_its_fields_only(
    world: World, champion: Champion, tmp_path: Path, workbench: Workbench
) -> None:
    terms = terms_of((OLD, START - 7 * DAY), (DIGEST, START + 3 * DAY))
    everything = pl.col("_time") > 0
    drift = watched(world, champion, terms, everything, tmp_path / "quiet", workbench)
    assert (drift.status, drift.findings, drift.num_settled) == ("quiet", (), 0)
    checks = {one.check for one in drift.measures}
    assert not checks & OF_SCORES
    assert drift.figures["mean_score"] is None
    empty = pl.lit(None, pl.String).alias("c1")
    drift = watched(world, champion, terms, everything, tmp_path / "empty", workbench, empty)
    assert [(one.check, one.slice) for one in drift.findings] == [("field_empty", "c1")]


def test_who_may_score_a_row_is_decided_by_terms() -> None:
    terms = terms_of((OLD, 100), (DIGEST, 200), (OLD, 300), (DIGEST, 400))
    times = np.array([50, 150, 209, 211, 299, 350, 409, 411])  # the grace is 10
    rightly = {
        OLD: [True, True, True, False, False, True, True, False],
        DIGEST: [True, True, True, True, True, False, True, True],
    }
    for digest, expected in rightly.items():
        is_stale, is_other = Terms(DIGEST, terms, 10).of_rows(pl.Series([digest] * len(times)), times)
        assert is_stale.tolist() == [not right for right in expected]
        assert is_other.tolist() == ([False] * len(times) if digest == DIGEST else expected)
    for bundle in ("ef" * 32, None):
        is_stale, is_other = Terms(DIGEST, terms, 10).of_rows(pl.Series([bundle] * 8, dtype=pl.String), times)
        assert is_stale.all(), "never champion, never right"
        assert not is_other.any()


def test_without_terms_every_other_bundle_is_stale() -> None:
    bundles = pl.Series([DIGEST, OLD, None])
    is_stale, is_other = Terms(DIGEST, (), 10).of_rows(bundles, np.array([1, 2, 3]))
    assert (is_stale.tolist(), is_other.any()) == ([False, True, True], False)
