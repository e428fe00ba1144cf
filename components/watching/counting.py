"""One pass over the served rows: counts, the settled rows' clicks and scores, and a sample; nothing is judged here.

Shape letters: R rows of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from components.log import CLICK, IMPRESSION, TIME
from components.profiling import FieldBins, ReferenceProfile, Tally, count_rows
from components.profiling.binning import Counts, Floats
from components.profiling.tally import UNKNOWN_CLICK
from components.scoring import Scorer
from components.workbench import Progress

SERVED_SCORE = "score"
SERVED_BUNDLE = "bundle"
OWN_COLUMNS = {
    IMPRESSION: pl.String,
    TIME: pl.Int64,
    CLICK: pl.Int8,
    SERVED_SCORE: pl.Float64,
    SERVED_BUNDLE: pl.String,
}


@dataclass(frozen=True, eq=False)
class Seen:
    """What one pass over the served rows leaves: counts, the settled rows' clicks and scores, and a sample in time order."""

    tally: Tally
    clicks: Counts
    scores: Floats
    num_stale: int
    first_time: int
    last_time: int
    sample: pl.DataFrame


def read_served(
    table: pl.LazyFrame,
    num_rows: int,
    absent: list[FieldBins],
    profile: ReferenceProfile,
    scorer: Scorer,
    digest: str,
    chunk_rows: int,
    sample_rows: int,
    seed: int,
    progress: Progress,
) -> Seen:
    """Count all rows, `chunk_rows` at a time, and keep a seeded sample; fields that are absent are filled with null."""
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.choice(num_rows, min(num_rows, sample_rows), replace=False))
    tallies, clicks, scores, samples = [], [], [], []
    num_stale = 0
    first_times, last_times = [], []
    for start, chunk in _chunks(table, num_rows, chunk_rows):
        rows = chunk.with_columns(pl.lit(None, dtype=column_type(field)).alias(field.name) for field in absent)
        chunk_clicks, chunk_scores = clicks_of(rows), scores_of(rows)
        tallies.append(count_rows(rows, chunk_scores, chunk_clicks, scorer.encoder, profile.binning))
        is_settled = (chunk_clicks != UNKNOWN_CLICK) & (chunk_scores >= 0) & (chunk_scores <= 1)
        clicks.append(chunk_clicks[is_settled])
        scores.append(chunk_scores[is_settled])
        num_stale += int((rows[SERVED_BUNDLE].fill_null("") != digest).sum())
        times = rows[TIME].to_numpy()
        first_times.append(int(times.min()))
        last_times.append(int(times.max()))
        samples.append(rows[chosen[(chosen >= start) & (chosen < start + len(rows))] - start])
        progress(start + len(rows), num_rows, "served rows counted")
    tally = tallies[0]
    for part in tallies[1:]:
        tally = tally + part
    sample = pl.concat(samples).sort(TIME, maintain_order=True)
    return Seen(
        tally, np.concatenate(clicks), np.concatenate(scores), num_stale, min(first_times), max(last_times), sample
    )


def _chunks(table: pl.LazyFrame, num_rows: int, chunk_rows: int) -> Iterator[tuple[int, pl.DataFrame]]:
    for start in range(0, num_rows, chunk_rows):
        yield start, table.slice(start, chunk_rows).collect()


def clicks_of(rows: pl.DataFrame) -> Counts:
    """Clicks (R,), UNKNOWN_CLICK for null."""
    return rows[CLICK].cast(pl.Int64).fill_null(UNKNOWN_CLICK).to_numpy()


def scores_of(rows: pl.DataFrame) -> Floats:
    """Scores (R,), NaN for null."""
    return rows[SERVED_SCORE].fill_null(float("nan")).to_numpy()


def num_repeats(table: pl.LazyFrame) -> int:
    """Rows whose impression stands in the log already; rows without one cannot repeat."""
    impressions = pl.col(IMPRESSION).drop_nulls()
    return int(table.select(impressions.len() - impressions.n_unique()).collect().item())


def column_type(field: FieldBins) -> type[pl.DataType]:
    """The type of a field's column in every log."""
    return pl.String if field.kind == "categorical" else pl.Float64
