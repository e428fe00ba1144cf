"""Faults, each put into a quiet hour a hundred times and more: is it found in that very hour, and if not, when?

Faults of rows are made row by row and go through the whole of `watch` but its picture; faults of clicks need more rows
than that and are drawn as counts (see `counts`). A trial that misses is tried on the next hours, which gives the delay.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from components.champion import Champion
from components.log import ServedLog, Window
from components.watching.clicks import measure_quality
from components.watching.distances import rate_root
from components.watching.watch import WatchParams, compare_served
from components.workbench import Progress, Workbench
from pipeline.bench_drift.counts import CountedWorld, make_counted_world
from pipeline.bench_drift.peers import Peer
from pipeline.bench_drift.world import DIGEST, HOUR, START, Array, BenchWorld, make_scorer, make_world

PSI_FIELD, EMPTY_FIELD, NUMBER_FIELD, WORDS_FIELD = "c2", "c3", "n0", "c1"
MAX_HOURS = 5  # hours after which a trial is given up
LOST_SHARE = 0.5  # of the clicks of a broken slice
REPEATED_SHARE = 0.1  # of the rows, as when one part of ten is delivered twice
POWER = 0.95

Change = Callable[[np.random.Generator, BenchWorld, pl.DataFrame], pl.DataFrame]


@dataclass
class Trials:
    """How often a fault was found in its first hour, and after how many hours at last; what a peer said on the same rows."""

    num_trials: int = 0
    num_rows: int = 0
    hours: list[int] = field(default_factory=list)
    num_peer_trials: int = 0
    num_peer_column: int = 0
    num_peer_dataset: int = 0
    num_peer_errors: int = 0

    @property
    def share(self) -> float:
        """Found in the first hour."""
        return sum(hour == 1 for hour in self.hours) / self.num_trials

    @property
    def mean_hours(self) -> float:
        """Mean hours to the finding, of those found within MAX_HOURS."""
        return float(np.mean(self.hours)) if self.hours else float("nan")


def try_row_faults(
    num_trials: int, num_rows: int, peer: Peer | None, params: WatchParams, progress: Progress
) -> dict[str, Trials]:
    """Each fault of rows in `num_trials` hours of `num_rows` rows."""
    params = replace(params, since_parts=1)  # since when is for people, and the most work
    world = make_world(40, 1)
    champion = world.champion(np.random.default_rng(0), 200_000, days=7)
    results = {name: Trials(num_rows=num_rows) for name in (*_FAULTS, "none")}
    for number, (name, (change, checks)) in enumerate(_FAULTS.items()):
        for trial in range(num_trials):
            for hour in range(1, MAX_HOURS + 1):
                generator = np.random.default_rng([number, trial, hour])
                rows = change(generator, world, world.rows(generator, num_rows, START, HOUR, _shares_of(name, world)))
                if hour == 1 and peer is not None and trial < peer.num_trials:
                    _ask(peer, results[name], champion, rows, _FIELDS.get(name))
                if _found(champion, world, rows, params) & checks:
                    results[name].hours.append(hour)
                    break
            results[name].num_trials += 1
            progress(number * num_trials + trial + 1, len(_FAULTS) * num_trials, name)
        print(f"{name}: found at once in {results[name].share:.1%} of {num_trials}", file=sys.stderr, flush=True)
    for trial in range(peer.num_trials if peer is not None else 0):
        rows = world.rows(np.random.default_rng([99, trial]), num_rows, START, HOUR, {})
        results["none"].num_trials += 1
        results["none"].hours += [1] if _found(champion, world, rows, params) else []
        if peer is not None:
            _ask(peer, results["none"], champion, rows, None)
    return results


def try_click_faults(
    num_trials: int, params: WatchParams, progress: Progress
) -> tuple[dict[str, Trials], dict[int, float]]:
    """Click rate -5 % at the computed number of rows, and one slice that loses half its clicks; then power by rows."""
    world = make_counted_world(40, 0.03, 1)
    reference_rows = 5_000_000
    num_rows = rows_needed(0.03, -0.05, reference_rows, params)
    trials = {
        "click_rate": _clicks_missed(world, "all", 0.95, num_rows, reference_rows, num_trials, params, 1),
        "slice_broken": _clicks_missed(world, "c0=v0", 1 - LOST_SHARE, 100_000, reference_rows, num_trials, params, 2),
    }
    progress(1, 2, "click rate and slices")
    powers = {}
    for rows in (50_000, 100_000, 200_000, 400_000, 800_000, num_rows):
        powers[rows] = _clicks_missed(world, "all", 0.95, rows, reference_rows, num_trials, params, 3).share
    return trials, powers


def rows_needed(click_rate: float, change: float, reference_rows: int, params: WatchParams) -> int:
    """Rows of one window in which a relative change of the click rate is found with probability POWER.

    Both conditions have to hold: as sure as the pager's budget asks, and as large as the smallest change that matters.
    The first number of rows (in steps of 5 %) at which a normal law says so.
    """
    from scipy import special

    level = params.levels(40, 5).of("calibration")
    needed = float(special.ndtri(POWER))
    rows = 10_000.0
    while True:
        clicks, known = rows * click_rate, reference_rows * click_rate
        root = abs(rate_root(clicks * (1 + change), clicks, known, known)) / np.sqrt(1 - click_rate)
        deviation = np.sqrt((1 - click_rate) * ((1 + change) / clicks + 1 / known))
        beyond = (abs(change) - params.minimum_ratio_change) / deviation
        if root + float(special.ndtri(level / 2)) >= needed and beyond >= needed:
            return int(round(rows, -3))
        rows *= 1.05


def _clicks_missed(
    world: CountedWorld,
    slice_name: str,
    factor: float,
    num_rows: int,
    reference_rows: int,
    num_trials: int,
    params: WatchParams,
    seed: int,
) -> Trials:
    trials = Trials(num_rows=num_rows)
    for trial in range(num_trials):
        generator = np.random.default_rng([seed, num_rows, trial])
        reference = world.reference(generator, reference_rows)
        levels = params.levels(len(world.binning.fields), reference.num_slices)
        chosen = [slice_name in (group.name, "all") for group in reference.groups[1:]]
        factors = np.where(chosen, factor, 1.0)
        for hour in range(1, MAX_HOURS + 1):
            quality = world.clicked(generator, num_rows, reference, factors)
            measures = measure_quality(reference, quality, params, levels)
            if any(one.is_finding and (one.check, one.slice) == ("calibration", slice_name) for one in measures):
                trials.hours.append(hour)
                break
        trials.num_trials += 1
    return trials


def _found(champion: Champion, world: BenchWorld, rows: pl.DataFrame, params: WatchParams) -> set[tuple[str, str]]:
    start = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=START)
    window = Window(start, start + timedelta(hours=1), None)
    with tempfile.TemporaryDirectory(prefix="ctr-bench-drift-") as name:
        folder = Path(name)
        served: ServedLog = world.served_log(folder / "served", rows, window)
        bench = Workbench(folder, folder, lambda *_: None, "cpu", "never", None, lambda: None)
        facts = compare_served(champion, served, params, bench).facts
    return {(finding.check, finding.slice) for finding in facts.findings}


def _ask(peer: Peer, trials: Trials, champion: Champion, rows: pl.DataFrame, faulty: str | None) -> None:
    assert champion.profile is not None
    trials.num_peer_trials += 1
    try:
        has_column, has_dataset = peer.says_drift(champion.profile, rows, faulty)
    except ValueError:  # of a column without a value: it refuses the whole report
        trials.num_peer_errors += 1
        return
    trials.num_peer_column += has_column
    trials.num_peer_dataset += has_dataset


def moved_by_psi(usual: Array, psi: float) -> Array:
    """Shares in which the first value has grown until the PSI to the usual ones is `psi` (bisection)."""
    low, high = 0.0, 100.0
    moved = usual
    for _ in range(60):
        factor = (low + high) / 2
        moved = np.where(np.arange(len(usual)) == 0, usual * (1 + factor), usual)
        moved = moved / moved.sum()
        is_less = float(((moved - usual) * np.log(moved / usual)).sum()) < psi
        low, high = (factor, high) if is_less else (low, factor)
    return moved


def _shares_of(name: str, world: BenchWorld) -> dict[str, Array]:
    return {PSI_FIELD: moved_by_psi(world.shares[PSI_FIELD], 0.2)} if name == "psi_0.2" else {}


def _as_they_are(_generator: np.random.Generator, _world: BenchWorld, rows: pl.DataFrame) -> pl.DataFrame:
    return rows


def _emptied(_generator: np.random.Generator, _world: BenchWorld, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.lit(None, pl.String).alias(EMPTY_FIELD))


def _in_another_unit(_generator: np.random.Generator, _world: BenchWorld, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col(NUMBER_FIELD) * 1_000)


def _in_other_words(_generator: np.random.Generator, _world: BenchWorld, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(("new-" + pl.col(WORDS_FIELD)).alias(WORDS_FIELD))


def _repeated(generator: np.random.Generator, _world: BenchWorld, rows: pl.DataFrame) -> pl.DataFrame:
    first = int(generator.integers(rows.height))
    return pl.concat([rows, rows.slice(first, int(rows.height * REPEATED_SHARE)), rows.head(1)])


def _a_day_off(generator: np.random.Generator, _world: BenchWorld, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col("_time") + int(generator.choice([-24, 24])) * HOUR)


def _scored_by_an_older_bundle(generator: np.random.Generator, world: BenchWorld, rows: pl.DataFrame) -> pl.DataFrame:
    older = make_scorer(world.schema, world.scorer.encoder, int(generator.integers(2, 1 << 30)))
    return rows.with_columns(pl.Series("score", older.score(rows)), pl.lit("cd" * 32).alias("bundle"))


def _scored_by_another_under_its_name(
    generator: np.random.Generator, world: BenchWorld, rows: pl.DataFrame
) -> pl.DataFrame:
    return _scored_by_an_older_bundle(generator, world, rows).with_columns(pl.lit(DIGEST).alias("bundle"))


_FAULTS: dict[str, tuple[Change, set[tuple[str, str]]]] = {
    "psi_0.2": (_as_they_are, {("field_drift", PSI_FIELD)}),
    "field_empty": (_emptied, {("field_empty", EMPTY_FIELD)}),
    "unit_x1000": (_in_another_unit, {("field_unit", NUMBER_FIELD)}),
    "vocabulary_replaced": (_in_other_words, {("field_unseen", WORDS_FIELD)}),
    "duplicated_partition": (_repeated, {("duplicates", "all")}),
    "time_shift_one_day": (_a_day_off, {("outside", "all")}),
    "stale_bundle": (_scored_by_an_older_bundle, {("stale_bundle", "all")}),
    "stale_scores_new_name": (_scored_by_another_under_its_name, {("score_skew", "all")}),
}
_FIELDS = {
    "psi_0.2": PSI_FIELD,
    "field_empty": EMPTY_FIELD,
    "unit_x1000": NUMBER_FIELD,
    "vocabulary_replaced": WORDS_FIELD,
}
