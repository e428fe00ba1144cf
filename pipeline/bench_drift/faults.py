"""Faults, each put into a quiet hour a hundred times and more: is it found in that very hour, and if not, when?

Faults of rows are made row by row and go through the whole of `watch` but its picture; for those of clicks see
`click_faults`. A trial that misses is tried on the next hours, which gives the delay.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl

from components.champion import Champion
from components.log import ServedLog, Window, moment_of
from components.watching.watch import WatchParams, compare_served
from components.workbench import Progress, Workbench
from pipeline.bench_drift.kept import Kept
from pipeline.bench_drift.peers import Peer, Tables, says_drift
from pipeline.bench_drift.trials import MAX_HOURS, Trials
from pipeline.bench_drift.world import DIGEST, HOUR, OLD_DIGEST, START, Array, BenchWorld, make_scorer, make_world

PSI_FIELD, EMPTY_FIELD, NUMBER_FIELD, WORDS_FIELD = "c2", "c3", "n0", "c1"
REPEATED_SHARE = 0.1  # of the rows, as when one part of ten is delivered twice

Change = Callable[[np.random.Generator, BenchWorld, pl.DataFrame], pl.DataFrame]


def try_row_faults(
    num_trials: int, num_rows: int, peer: Peer | None, params: WatchParams, kept: Kept, progress: Progress
) -> dict[str, Trials]:
    """Each fault of rows in `num_trials` hours of `num_rows` rows, and hours without one for the peer."""
    params = replace(params, since_parts=1)  # since when is for people, and the most work
    world = make_world(40, 1)
    champion = world.champion(np.random.default_rng(0), 200_000, days=7)
    asked = 0 if peer is None else peer.num_trials
    results = {}
    for number, name in enumerate((*_FAULTS, "none")):
        trials = num_trials if name in _FAULTS else asked
        result = kept.result(
            "rows",
            f"{name}-{num_rows}-{trials}-{asked}",
            lambda name=name, number=number, trials=trials: asdict(  # type: ignore[misc]
                _try_fault(name, number, trials, num_rows, peer, champion, world, params)
            ),
        )
        results[name] = Trials(**result)
        if trials:
            print(f"{name}: found at once in {results[name].share:.1%} of {trials}", file=sys.stderr, flush=True)
        progress(number + 1, len(_FAULTS) + 1, name)
    return results


def _try_fault(
    name: str,
    number: int,
    num_trials: int,
    num_rows: int,
    peer: Peer | None,
    champion: Champion,
    world: BenchWorld,
    params: WatchParams,
) -> Trials:
    change, checks = _FAULTS.get(name, (_as_they_are, set()))
    trials = Trials(num_rows)
    shares = _shares_of(name, world)

    def rows_of(trial: int, hour: int) -> pl.DataFrame:
        generator = np.random.default_rng([number, trial, hour])
        return change(generator, world, world.rows(generator, num_rows, START, HOUR, shares))

    for trial in range(num_trials):
        if peer is not None and trial < peer.num_trials:
            hours = (rows_of(trial, hour) for hour in range(1, MAX_HOURS + 1))
            shown = (_shown(champion, rows, peer.sample_rows, _FIELDS.get(name)) for rows in hours if rows.height)
            trials.note_peer(says_drift(tables) for tables in shown)
        for hour in range(1, MAX_HOURS + 1):
            found = _found(champion, world, rows_of(trial, hour), params)
            if found & checks or (not checks and found):
                trials.hours.append(hour)
                break
            if not checks:
                break
        trials.num_trials += 1
    return trials


def _found(champion: Champion, world: BenchWorld, rows: pl.DataFrame, params: WatchParams) -> set[tuple[str, str]]:
    start = moment_of(START)
    window = Window(start, start + timedelta(hours=1), None)
    with tempfile.TemporaryDirectory(prefix="ctr-bench-drift-") as name:
        folder = Path(name)
        served: ServedLog = world.served_log(folder / "served", rows, window)
        bench = Workbench(folder, folder, lambda *_: None, "cpu", "never", None, lambda: None, 1)
        facts = compare_served(champion, served, params, bench).facts
    return {(finding.check, finding.slice) for finding in facts.findings}


def _shown(champion: Champion, rows: pl.DataFrame, num_rows: int, faulty: str | None) -> Tables:
    """The profile's sample and one of the rows, words folded to the top values as the profile's are."""
    assert champion.profile is not None
    fields = champion.profile.binning.fields
    served = champion.profile.binning.fold(rows.sample(min(num_rows, rows.height), seed=1))
    names, numeric = [field.name for field in fields], [field.name for field in fields if field.kind == "numeric"]
    return Tables(champion.profile.sample.select(names).head(num_rows), served.select(names), numeric, faulty)


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


def _a_day_off_as_fetched(generator: np.random.Generator, world: BenchWorld, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows lie under their own time in the served log, so a window's fetch does not see those of another day."""
    return _a_day_off(generator, world, rows).filter(pl.col("_time").is_between(START, START + HOUR, closed="left"))


def _a_day_off(generator: np.random.Generator, _world: BenchWorld, rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(pl.col("_time") + int(generator.choice([-24, 24])) * HOUR)


def _scored_by_an_older_bundle(generator: np.random.Generator, world: BenchWorld, rows: pl.DataFrame) -> pl.DataFrame:
    older = make_scorer(world.schema, world.scorer.encoder, int(generator.integers(2, 1 << 30)))
    return rows.with_columns(pl.Series("score", older.score(rows)), pl.lit(OLD_DIGEST).alias("bundle"))


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
    "time_shift_one_day": (_a_day_off_as_fetched, {("rows", "all")}),
    "partition_of_another_day": (_a_day_off, {("outside", "all")}),
    "stale_bundle": (_scored_by_an_older_bundle, {("stale_bundle", "all")}),
    "stale_scores_new_name": (_scored_by_another_under_its_name, {("score_skew", "all")}),
}
_FIELDS = {
    "psi_0.2": PSI_FIELD,
    "field_empty": EMPTY_FIELD,
    "unit_x1000": NUMBER_FIELD,
    "vocabulary_replaced": WORDS_FIELD,
}
