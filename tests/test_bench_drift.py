"""The drift bench draws what it says it draws, finds what it puts in, and goes on from what it kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from components.watching import CHECKS
from pipeline.bench_drift import NUM_FIELDS, QuietDays, run_bench_drift, watch_quiet_worlds
from pipeline.bench_drift.click_faults import try_click_faults
from pipeline.bench_drift.counts import by_hour, make_counted_world
from pipeline.bench_drift.faults import moved_by_psi, try_row_faults
from pipeline.bench_drift.kept import SOURCES, Kept
from pipeline.bench_drift.quiet import Quiet
from pipeline.bench_drift.trials import Trials, in_words
from tests.alert_world import PARAMS
from tests.served_world import WATCH_PARAMS

REPO = Path(__file__).parents[1]
NOT_KEPT = Kept(None, "")
ROW_FAULTS = (
    *("psi_0.2", "field_empty", "unit_x1000", "vocabulary_replaced", "duplicated_partition", "time_shift_one_day"),
    *("partition_of_another_day", "stale_bundle", "stale_scores_new_name"),
)


def no_progress(*_: object) -> None:
    pass


def test_counts_are_drawn_from_the_shares_and_clicks_from_the_scores() -> None:
    world = make_counted_world(8, 0.03, 1)
    generator = np.random.default_rng(2)
    num_rows = by_hour(200_000)
    tally = world.tally(generator, num_rows, is_clicked=True)
    assert (tally.rows_by_hour == num_rows).all()
    num_clicks = int(tally.counts["clicks"].sum())
    assert num_clicks == pytest.approx(tally.score_sums.sum(), abs=5 * np.sqrt(num_clicks))
    assert world.tally(generator, num_rows, is_clicked=False).counts["clicks"].sum() == 0
    for field in world.binning.fields:
        counts = tally.counts[f"field:{field.name}"]
        assert (counts.sum(axis=1) == num_rows).all()
        expected = world.shares[field.name] * num_rows.sum()
        possible = expected > 0
        assert counts.sum(axis=0)[~possible].sum() == 0
        assert stats.chisquare(counts.sum(axis=0)[possible], expected[possible]).pvalue > 1e-4, field.name
    reference = world.reference(generator, 100_000)
    clicked = world.clicked(generator, 400_000, reference, np.array([1.0, 0.5, 1.0, 1.0, 1.0]))
    groups = range(1, 6)
    assert clicked.num_rows(0) == 400_000 == sum(clicked.num_rows(group) for group in groups)
    assert clicked.by_bin.sum(axis=1)[0] == pytest.approx(clicked.by_bin[1:].sum(axis=(0, 1)))
    ratios = [clicked.num_clicks(group) / clicked.score_sum(group) for group in groups]
    deviations = [5 / np.sqrt(clicked.num_clicks(group)) for group in groups]
    for ratio, truth, deviation in zip(ratios, (1.0, 0.5, 1.0, 1.0, 1.0), deviations, strict=True):
        assert ratio == pytest.approx(truth, abs=deviation)


def test_quiet_worlds_are_quiet_and_counted_by_hour() -> None:
    days = QuietDays(2, 10, 240_000, 100_000)
    quiet = watch_quiet_worlds(days, 2, WATCH_PARAMS, PARAMS.objective, NOT_KEPT, no_progress)
    assert (quiet.num_days, quiet.num_windows, quiet.incidents) == (4, 96, {})
    assert quiet.per_days("page", 91) == 0


def test_a_world_full_of_false_alarms_is_kept_and_read_back_as_it_was(tmp_path: Path) -> None:
    nervous = replace(
        WATCH_PARAMS,
        false_pages_per_quarter=1e6,
        false_tickets_per_week=1e6,
        minimum_psi=1e-6,
        minimum_share_change=1e-6,
    )
    days, kept = QuietDays(1, 10, 240_000, 100_000), Kept(tmp_path, "")
    first = watch_quiet_worlds(days, 1, nervous, PARAMS.objective, kept, no_progress)
    assert first.incidents["ticket"] > 20
    assert {"field_drift", "field_missing"} <= first.checks.keys() <= {*CHECKS, "objective"}
    assert first.per_days("ticket", 7) == 7 * first.incidents["ticket"]
    assert watch_quiet_worlds(days, 1, nervous, PARAMS.objective, kept, no_progress) == first
    assert len(list(tmp_path.iterdir())) == 1


def test_worlds_add_up(tmp_path: Path) -> None:
    world = Quiet(90, 2160, {"ticket": 2, "page": 1}, {"field_drift": 2, "field_empty": 1}, 3, 1)
    kept = Kept(tmp_path, "")
    total = Quiet()
    for name in ("0", "1"):
        total.add(kept.result("quiet", name, partial(asdict, world)))
    assert total == Quiet(180, 4320, {"ticket": 4, "page": 2}, {"field_drift": 4, "field_empty": 2}, 6, 2)
    assert total.per_days("ticket", 7) == pytest.approx(4 * 7 / 180)


def test_what_is_kept_is_not_made_again_until_params_change(tmp_path: Path) -> None:
    calls = []

    def make(number: int) -> Callable[[], dict[str, Any]]:
        return lambda: calls.append(number) or {"number": number}  # type: ignore[func-returns-value]

    assert Kept(tmp_path, "a").result("rows", "x", make(1)) == {"number": 1}
    assert Kept(tmp_path, "a").result("rows", "x", make(2)) == {"number": 1}
    assert Kept(tmp_path, "b").result("rows", "x", make(3)) == {"number": 3}
    assert calls == [1, 3]
    for sources in SOURCES.values():
        assert all((REPO / source).is_file() for source in sources)


def test_the_planted_psi_is_the_one_asked_for() -> None:
    usual = np.random.default_rng(3).dirichlet(np.full(20, 2.0))
    moved = moved_by_psi(usual, 0.2)
    assert moved.sum() == pytest.approx(1)
    assert ((moved - usual) * np.log(moved / usual)).sum() == pytest.approx(0.2, abs=1e-6)


def test_every_fault_is_found_in_its_first_hour() -> None:
    found = try_row_faults(1, 3_000, None, WATCH_PARAMS, NOT_KEPT, no_progress)
    assert {name: one.hours for name, one in found.items()} == {name: [1] for name in ROW_FAULTS} | {"none": []}
    of_clicks, powers = try_click_faults(10, None, WATCH_PARAMS, NOT_KEPT, no_progress)
    assert of_clicks.keys() == {"click_rate", "slice_broken"}
    assert all(one.share >= 0.8 for one in of_clicks.values())
    assert powers[50_000] < 0.5 < powers[800_000]


def test_the_peer_is_asked_hour_after_hour_until_it_has_flagged_both_or_refuses() -> None:
    trials = Trials(400)
    answers = [(False, False), (True, False), (False, True), (True, True)]
    trials.note_peer(iter(answers))
    trials.note_peer(iter(answers[:2]))
    trials.note_peer(iter([None, (True, True)]))
    trials.note_peer(())
    assert (trials.peer_column_hours, trials.peer_dataset_hours) == ([2, 2], [3])
    assert (trials.num_peer_trials, trials.num_peer_errors) == (3, 1)
    assert in_words([1, 1, 3], 10) == "2 of 10; 3 within 5 h, 1.67 h"
    assert (in_words([1, 1], 2), in_words([], 2)) == ("2 of 2, 1.00 h", "0 of 2")


def test_the_last_line_holds_the_figures_that_were_promised(tmp_path: Path) -> None:
    figures = json.loads(json.dumps(run_bench_drift(REPO, "quiet", 1, 1, 1, 0, 1_000, tmp_path, no_progress)))
    assert (figures["false_pages_per_quarter"], figures["false_tickets_per_week"]) == (0, 0)
    assert (figures["quiet"]["num_windows"], NUM_FIELDS) == (24, 40)
