"""The bench's log as counts: what one pass over a window's rows would have counted, drawn at once from the same law.

Counting rows is tested elsewhere, row by row; here only the decision on counts is put to the proof, by the very functions
that `watch` calls. Shape letters: H hours of the day, B bins, G groups, K cells of the score.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from components.metrics import ReliabilityBin
from components.profiling import Binning, FieldBins, ReferenceProfile, Tally
from components.profiling.binning import HOURS
from components.profiling.profile import SCORE
from components.watching.clicks import measure_quality
from components.watching.drift import Finding
from components.watching.fields import measure_counts
from components.watching.limits import Limits
from components.watching.quality import NUM_CELLS, QualityTally, cells_of
from components.watching.reference import GroupReference, QualityReference
from components.watching.scores import measure_click_rate
from components.watching.words import find
from pipeline.bench_drift.world import MAX_MISSING, MISSING, NUM_SLICES, PROFILE, SIZES, SLICE_FIELD

Array = np.ndarray[Any, Any]

_UNSEEN_SHARE = 0.5  # of the rows outside the top values: those that the champion does not know
_NUM_BINS = 20


@dataclass(frozen=True)
class CountedWorld:
    """Fields as shares of their bins, scores as shares of cells; the same rows an hour but for the time of day.

    shares  name -> (B,) of the bins of a field, of missing and other values too
    cells   (G, K) joint shares of slice and cell; scores (K,) of the cells; the first group is no slice but all
    """

    binning: Binning
    shares: dict[str, Array]
    cells: Array
    scores: Array

    def tally(self, generator: np.random.Generator, num_rows: Array, is_clicked: bool) -> Tally:
        """Counts of a log with `num_rows` (H,) rows by hour, whose clicks have come or not; the rows are the same either way."""
        hours = np.flatnonzero(num_rows)
        cells = np.zeros((HOURS, NUM_CELLS), dtype=np.int64)
        cells[hours] = generator.multinomial(num_rows[hours], self.cells.sum(axis=0))
        clicks = generator.spawn(1)[0].binomial(cells[hours], self.scores).sum(axis=1) if is_clicked else 0
        counts = {"rows": num_rows[:, None], "settled": num_rows[:, None] * is_clicked, "clicks": num_rows[:, None] * 0}
        counts["clicks"][hours, 0] = clicks
        counts["scores"] = cells @ np.eye(self.binning.num_score_bins, dtype=np.int64)[self._score_bins()]
        for field in self.binning.fields:
            drawn = np.zeros((HOURS, field.num_bins), dtype=np.int64)
            drawn[hours] = generator.multinomial(num_rows[hours], self.shares[field.name])
            counts[f"field:{field.name}"] = drawn
            counts[f"unseen:{field.name}"] = generator.binomial(drawn[:, 1:2], _UNSEEN_SHARE)
            counts[f"out_of_range:{field.name}"] = np.zeros((HOURS, 1), dtype=np.int64)
        return Tally(counts, np.asarray(cells @ self.scores, dtype=np.float64))

    def clicked(
        self, generator: np.random.Generator, num_rows: int, reference: QualityReference, factors: Array
    ) -> QualityTally:
        """Clicks of so many rows; `factors` (G,) multiply the click rate of each slice."""
        rows = generator.multinomial(num_rows, self.cells.ravel()).reshape(self.cells.shape)
        clicks = generator.binomial(rows, np.minimum(self.scores * factors[:, None], 1.0))
        return _tally_of(rows, clicks, self.scores, reference)

    def reference(self, generator: np.random.Generator, num_rows: int) -> QualityReference:
        """The champion's evaluation on so many rows."""
        rows = generator.multinomial(num_rows, self.cells.ravel()).reshape(self.cells.shape)
        clicks = generator.binomial(rows, self.scores)
        bins = _reliability(rows.sum(axis=0), clicks.sum(axis=0), self.scores)
        unnamed = [GroupReference(None, None, 0, 0, 0.0, None, None, None)]
        unnamed += [
            GroupReference(SLICE_FIELD, f"v{number}", 0, 0, 0.0, None, None, None) for number in range(NUM_SLICES)
        ]
        counted = _tally_of(rows, clicks, self.scores, QualityReference(tuple(unnamed), bins, 1.0))
        groups = tuple(
            GroupReference(
                one.field,
                one.value,
                counted.num_rows(number),
                counted.num_clicks(number),
                counted.score_sum(number),
                counted.auc(number),
                None,
                None,
            )
            for number, one in enumerate(unnamed)
        )
        return QualityReference(groups, bins, 1.0)

    def profile(self, generator: np.random.Generator, num_rows: int) -> ReferenceProfile:
        """The reference profile of so many rows, spread over the day as `by_hour`."""
        tally = self.tally(generator, by_hour(num_rows), is_clicked=True)
        sample = generator.choice(self.scores, PROFILE.sample_rows, p=self.cells.sum(axis=0))
        return ReferenceProfile(self.binning, tally, None, None, {}, pl.DataFrame({SCORE: sample}))

    def _score_bins(self) -> Array:
        return self.binning.score_bins_of(self.scores)


def by_hour(num_rows: int) -> Array:
    """Rows by hour of the day (H,): the busiest hour has three times the rows of the quietest."""
    weights = 1 + 0.5 * np.cos((np.arange(HOURS) - 20) / HOURS * 2 * np.pi)
    return np.asarray(np.round(num_rows * weights / weights.sum()), dtype=np.int64)


def make_counted_world(num_fields: int, click_rate: float, seed: int) -> CountedWorld:
    """As many fields as asked for, a tenth of them numbers; scores are log-normal with mean `click_rate`."""
    generator = np.random.default_rng(seed)
    num_numeric = num_fields // 10
    fields, shares = [], {}
    for number in range(num_fields):
        name, is_numeric = f"f{number}", number < num_numeric
        size = PROFILE.numeric_buckets if is_numeric else SIZES[number % len(SIZES)]
        drawn = np.full(size, 1 / size) if is_numeric else np.sort(generator.dirichlet(np.full(size, 2.0)))[::-1]
        top, other = drawn[: PROFILE.top_values], drawn[PROFILE.top_values :].sum()
        shares[name] = np.concatenate([[MISSING], (1 - MISSING) * np.concatenate([[other], top])])
        values = () if is_numeric else tuple(f"v{value}" for value in range(len(top)))
        edges = tuple(float(edge) for edge in range(1, size)) if is_numeric else ()
        kind = "numeric" if is_numeric else "categorical"
        fields.append(FieldBins(name, kind, values, edges, None, None, MAX_MISSING))  # type: ignore[arg-type]
    scores = np.minimum(generator.lognormal(np.log(click_rate) - 0.32, 0.8, 50_000), 0.9)
    cells = np.bincount(cells_of(scores), minlength=NUM_CELLS)
    centers = np.bincount(cells_of(scores), scores, NUM_CELLS) / np.maximum(cells, 1)
    slices = generator.dirichlet(np.full(NUM_SLICES, 5.0))
    edges = tuple(float(edge) for edge in np.unique(np.quantile(scores, np.arange(1, 20) / 20)))
    return CountedWorld(Binning(True, tuple(fields), edges), shares, np.outer(slices, cells / cells.sum()), centers)


def judge(
    profile: ReferenceProfile,
    tally: Tally,
    reference: QualityReference,
    quality: QualityTally,
    limits: Limits,
) -> tuple[Finding, ...]:
    """What `watch` finds in these counts, by its own functions."""
    levels = limits.levels(len(profile.binning.fields), reference.num_slices)
    promised = measure_click_rate(profile, tally, reference.inflation, limits, levels)
    measures = (
        *measure_counts(profile, tally, tally, profile.binning.fields, limits, levels),
        *(() if promised is None else (promised,)),
        *measure_quality(reference, quality, limits, levels),
    )
    return find(measures, None, {}, "counts")


def _tally_of(rows: Array, clicks: Array, scores: Array, reference: QualityReference) -> QualityTally:
    """The sums of rows (G - 1, K) and clicks by slice and cell, with all of them together first."""
    tally = QualityTally.empty(reference)
    by_slice = np.stack([rows - clicks, clicks], axis=1)
    tally.grid[:] = np.concatenate([by_slice.sum(axis=0, keepdims=True), by_slice])
    clipped = np.clip(scores, 1e-12, 1 - 1e-12)
    for is_click, losses in enumerate((-np.log(1 - clipped), -np.log(clipped))):
        weights = np.stack([np.ones(NUM_CELLS), scores, losses, losses**2], axis=1)
        tally.by_click[:, is_click] = tally.grid[:, is_click] @ weights
    tally.variances[:] = tally.grid.sum(axis=1) @ (scores * (1 - scores))
    bins = np.searchsorted([one.highest_score for one in reference.bins[:-1]], scores, side="left")
    for group, (others, clicked) in enumerate(tally.grid):
        seen = others + clicked
        for column, weights in enumerate((seen, clicked, seen * scores, seen * scores * (1 - scores))):
            tally.by_bin[group, :, column] = np.bincount(bins, weights, len(reference.bins))
    return tally


def _reliability(rows: Array, clicks: Array, scores: Array) -> tuple[ReliabilityBin, ...]:
    """Bins of about equal mass, cut between cells."""
    present = np.flatnonzero(rows)
    places = (np.cumsum(rows[present]) - rows[present] / 2) / rows.sum() * _NUM_BINS
    bins = []
    for number in range(_NUM_BINS):
        chosen = present[np.floor(places).astype(int) == number]
        if len(chosen) == 0:
            continue
        total = rows[chosen].sum()
        mean = float(rows[chosen] @ scores[chosen] / total)
        rate = float(clicks[chosen].sum() / total)
        bins.append(ReliabilityBin(int(total), float(scores[chosen[0]]), float(scores[chosen[-1]]), mean, rate))
    return tuple(bins)
