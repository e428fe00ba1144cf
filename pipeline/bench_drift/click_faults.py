"""Faults of clicks, which need more rows than can be made row by row a hundred times, and so are drawn as counts.

Shape letters: G slices, K cells of the score.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial

import numpy as np
import polars as pl
from scipy import special

from components.watching.clicks import measure_quality
from components.watching.distances import rate_root
from components.watching.limits import Limits
from components.watching.quality import QualityTally
from components.workbench import Progress
from pipeline.bench_drift.counts import Array, CountedWorld, make_counted_world
from pipeline.bench_drift.kept import Kept
from pipeline.bench_drift.peers import Peer, Tables, says_drift
from pipeline.bench_drift.trials import MAX_HOURS, Trials
from pipeline.bench_drift.world import NUM_SLICES

CLICK_RATE, CHANGE = 0.03, -0.05
REFERENCE_ROWS = 5_000_000
NUM_FIELDS = 40
LOST_SHARE = 0.5  # of the clicks of a broken slice
POWER = 0.95
POWER_ROWS = (50_000, 100_000, 200_000, 300_000, 400_000, 500_000, 600_000, 800_000)


def try_click_faults(
    num_trials: int, peer: Peer | None, limits: Limits, kept: Kept, progress: Progress
) -> tuple[dict[str, Trials], dict[int, float]]:
    """Click rate -5 % at the computed number of rows, and one slice that loses half its clicks; then power by rows."""
    world = make_counted_world(NUM_FIELDS, CLICK_RATE, 1)
    num_rows = rows_needed(CLICK_RATE, CHANGE, REFERENCE_ROWS, limits)
    cases = [("click_rate", "all", 1 + CHANGE, num_rows), ("slice_broken", "c0=v0", 1 - LOST_SHARE, 100_000)]
    cases += [(f"power_{rows}", "all", 1 + CHANGE, rows) for rows in POWER_ROWS]
    found = {}
    for number, (name, slice_name, factor, rows) in enumerate(cases):
        shown_to = None if name.startswith("power") else peer
        make = partial(_clicks_missed, world, slice_name, factor, rows, num_trials, shown_to, limits)
        asked = 0 if shown_to is None else shown_to.num_trials
        result = kept.result("clicks", f"{name}-{rows}-{num_trials}-{asked}", lambda make=make: asdict(make()))  # type: ignore[misc]
        found[name] = Trials(**result)
        print(f"{name}: found at once in {found[name].share:.1%} of {num_trials}", file=sys.stderr, flush=True)
        progress(number + 1, len(cases), name)
    powers = {rows: found.pop(f"power_{rows}").share for rows in POWER_ROWS}
    return found, powers | {num_rows: found["click_rate"].share}


def rows_needed(click_rate: float, change: float, reference_rows: int, limits: Limits) -> int:
    """Rows of one window in which a relative change of the click rate is found with probability POWER.

    Both conditions have to hold: as sure as the pager's budget asks, and as large as the smallest change that matters.
    The first number of rows (in steps of 5 %) at which a normal law says so.
    """
    level = limits.levels(NUM_FIELDS, NUM_SLICES).of("calibration")
    needed = float(special.ndtri(POWER))
    rows = 10_000.0
    while True:
        clicks, known = rows * click_rate, reference_rows * click_rate
        root = abs(rate_root(clicks * (1 + change), clicks, known, known)) / np.sqrt(1 - click_rate)
        deviation = np.sqrt((1 - click_rate) * ((1 + change) / clicks + 1 / known))
        beyond = (abs(change) - limits.minimum_ratio_change) / deviation
        if root + float(special.ndtri(level / 2)) >= needed and beyond >= needed:
            return int(round(rows, -3))
        rows *= 1.05


def _clicks_missed(
    world: CountedWorld,
    slice_name: str,
    factor: float,
    num_rows: int,
    num_trials: int,
    peer: Peer | None,
    limits: Limits,
) -> Trials:
    trials = Trials(num_rows)
    for trial in range(num_trials):
        generator = np.random.default_rng([num_rows, trial, slice_name == "all"])
        reference = world.reference(generator, REFERENCE_ROWS)
        levels = limits.levels(len(world.binning.fields), reference.num_slices)
        chosen = [slice_name in (group.name, "all") for group in reference.groups[1:]]
        factors = np.where(chosen, factor, 1.0)
        hours: Iterable[QualityTally] = (
            world.clicked(generator, num_rows, reference, factors) for _ in range(MAX_HOURS)
        )
        if peer is not None and trial < peer.num_trials:
            drawn = list(hours)
            usual = world.clicked(
                np.random.default_rng([num_rows, trial, 2]), num_rows, reference, np.ones_like(factors)
            )
            trials.note_peer(says_drift(_shown(world, usual, quality)) for quality in drawn)
            hours = drawn
        for hour, quality in enumerate(hours, start=1):
            measures = measure_quality(reference, quality, limits, levels)
            if any(one.is_finding and (one.check, one.slice) == ("calibration", slice_name) for one in measures):
                trials.hours.append(hour)
                break
        trials.num_trials += 1
    return trials


def _shown(world: CountedWorld, usual: QualityTally, quality: QualityTally) -> Tables:
    """As many rows of the reference and of the hour, row by row: slice, score and click."""
    return Tables(_rows_of(world.scores, usual), _rows_of(world.scores, quality), ["score"], "click")


def _rows_of(scores: Array, quality: QualityTally) -> pl.DataFrame:
    """The rows that were counted by slice, click and cell (G, 2, K)."""
    counts = quality.grid[1:]
    slices, clicks, cells = (np.repeat(places.ravel(), counts.ravel()) for places in np.indices(counts.shape))
    return pl.DataFrame({"slice": pl.Series(slices).cast(pl.String), "score": scores[cells], "click": clicks})
