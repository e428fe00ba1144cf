"""One pass over the served rows: counts, sums of clicks and scores, and a sample; nothing is judged here.

Shape letters: R rows of a chunk, K cells of the grid of scores.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from components.log import CLICK, IMPRESSION, SERVED_BUNDLE, SERVED_SCORE, TIME
from components.profiling import FieldBins, ReferenceProfile, Tally, count_rows
from components.profiling.binning import Counts, Floats
from components.profiling.tally import UNKNOWN_CLICK
from components.scoring import Scorer
from components.watching.quality import NUM_CELLS, QualityTally, cells_of, count_quality
from components.watching.reference import QualityReference
from components.watching.terms import Mask, Terms
from components.workbench import Workbench

OWN_COLUMNS = {
    IMPRESSION: pl.String,
    TIME: pl.Int64,
    CLICK: pl.Int8,
    SERVED_SCORE: pl.Float64,
    SERVED_BUNDLE: pl.String,
}


@dataclass(frozen=True, eq=False)
class Yardstick:
    """What served rows are held against.

    terms          which bundle may have scored a row
    final_before   microseconds: clicks of rows served earlier are final; None: every click that is known is
    start, end     microseconds: the window that the rows were fetched for; None for open
    """

    profile: ReferenceProfile
    reference: QualityReference
    scorer: Scorer
    terms: Terms
    final_before: int | None
    start: int | None
    end: int | None


@dataclass(frozen=True, eq=False)
class Seen:
    """What one pass over the served rows leaves.

    tally          of all rows
    scored         of rows whose score is the champion's to answer for: not those that another one scored in its own term
    quality        of these, of rows whose click is final
    waiting        (2, K): rows, and the sum of their scores, whose click is not final, by cell of the score
    num_due        of all rows, those whose click should be final
    num_clickless  of these, rows whose click is unknown
    num_stale      rows scored by a bundle that was not champion at the time, and when the first of them was
    num_other      rows that another champion scored in its own term
    num_repeats    rows whose impression stands in the log already; rows without one cannot repeat
    sample         rows in time order
    """

    tally: Tally
    scored: Tally
    quality: QualityTally
    waiting: Floats
    num_due: int
    num_clickless: int
    num_stale: int
    first_stale: int | None
    num_other: int
    num_repeats: int
    num_outside: int
    first_time: int
    last_time: int
    sample: pl.DataFrame


def read_served(
    table: pl.LazyFrame,
    num_rows: int,
    absent: list[FieldBins],
    yardstick: Yardstick,
    chunk_rows: int,
    sample_rows: int,
    seed: int,
    workbench: Workbench,
) -> Seen:
    """Count all rows, `chunk_rows` at a time, and keep a seeded sample; fields that are absent are filled with null."""
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.choice(num_rows, min(num_rows, sample_rows), replace=False))
    parts: list[_Part] = []
    impressions, samples = [], []
    tally: Tally | None = None
    scored: Tally | None = None
    quality = QualityTally.empty(yardstick.reference)
    for start, chunk in _chunks(table, num_rows, chunk_rows):
        rows = chunk.with_columns(pl.lit(None, dtype=column_type(field)).alias(field.name) for field in absent)
        counted = count(rows, yardstick)
        tally = counted if tally is None else tally + counted
        part, of_clicks, is_other = _part_of(rows, yardstick)
        parts.append(part)
        own = counted if part.num_other == 0 else count(rows.filter(~pl.Series(is_other)), yardstick)
        scored = own if scored is None else scored + own
        quality = quality + of_clicks
        impressions.append(rows[IMPRESSION].drop_nulls().hash(seed).to_numpy())
        samples.append(rows[chosen[(chosen >= start) & (chosen < start + len(rows))] - start])
        workbench.progress(start + len(rows), num_rows, "served rows counted")
    assert tally is not None
    assert scored is not None
    return Seen(
        tally=tally,
        scored=scored,
        quality=quality,
        waiting=np.sum([part.waiting for part in parts], axis=0),
        num_due=sum(part.num_due for part in parts),
        num_clickless=sum(part.num_clickless for part in parts),
        num_stale=sum(part.num_stale for part in parts),
        first_stale=min((part.first_stale for part in parts if part.first_stale is not None), default=None),
        num_other=sum(part.num_other for part in parts),
        num_repeats=_num_repeats(np.concatenate(impressions)),
        num_outside=sum(part.num_outside for part in parts),
        first_time=min(part.first_time for part in parts),
        last_time=max(part.last_time for part in parts),
        sample=pl.concat(samples).sort(TIME, maintain_order=True),
    )


@dataclass(frozen=True, eq=False)
class _Part:
    waiting: Floats
    num_due: int
    num_clickless: int
    num_stale: int
    first_stale: int | None
    num_other: int
    num_outside: int
    first_time: int
    last_time: int


def count(rows: pl.DataFrame, yardstick: Yardstick) -> Tally:
    """Counts of rows as the yardstick's profile has them."""
    encoder, binning = yardstick.scorer.encoder, yardstick.profile.binning
    return count_rows(rows, scores_of(rows), clicks_of(rows), encoder, binning)


def _part_of(rows: pl.DataFrame, yardstick: Yardstick) -> tuple[_Part, QualityTally, Mask]:
    clicks, scores, times = clicks_of(rows), scores_of(rows), rows[TIME].to_numpy()
    is_stale, is_other = yardstick.terms.of_rows(rows[SERVED_BUNDLE], times)
    is_due = np.full(len(times), True) if yardstick.final_before is None else times < yardstick.final_before
    is_valid = (scores >= 0) & (scores <= 1)
    is_final = is_due & (clicks != UNKNOWN_CLICK)
    counted = is_final & is_valid & ~is_other
    chosen = rows if counted.all() else rows.filter(pl.Series(counted))
    quality = count_quality(chosen, clicks[counted], scores[counted], yardstick.reference, yardstick.scorer.schema)
    early = scores[~is_final & is_valid & ~is_other]
    cells = cells_of(early)
    sums = [np.bincount(cells, weights, NUM_CELLS) for weights in (np.ones(len(early)), early)]
    waiting = np.array(sums, dtype=np.float64)
    is_outside = np.full(len(times), False)
    if yardstick.start is not None:
        is_outside |= times < yardstick.start
    if yardstick.end is not None:
        is_outside |= times >= yardstick.end
    has_due = yardstick.final_before is not None
    part = _Part(
        waiting=waiting,
        num_due=int(is_due.sum()) if has_due else 0,
        num_clickless=int((is_due & ~is_final).sum()) if has_due else 0,
        num_stale=int(is_stale.sum()),
        first_stale=int(times[is_stale].min()) if is_stale.any() else None,
        num_other=int(is_other.sum()),
        num_outside=int(is_outside.sum()),
        first_time=int(times.min()),
        last_time=int(times.max()),
    )
    return part, quality, is_other


def _chunks(table: pl.LazyFrame, num_rows: int, chunk_rows: int) -> Iterator[tuple[int, pl.DataFrame]]:
    for start in range(0, num_rows, chunk_rows):
        yield start, table.slice(start, chunk_rows).collect()


def _num_repeats(hashes: np.ndarray[tuple[int], np.dtype[np.uint64]]) -> int:
    """By 64-bit hashes: among ten million different impressions two share one with a chance of 3 in a million."""
    hashes.sort()
    return int((hashes[1:] == hashes[:-1]).sum())


def clicks_of(rows: pl.DataFrame) -> Counts:
    """Clicks (R,), UNKNOWN_CLICK for null."""
    return rows[CLICK].cast(pl.Int64).fill_null(UNKNOWN_CLICK).to_numpy()


def scores_of(rows: pl.DataFrame) -> Floats:
    """Scores (R,), NaN for null."""
    return rows[SERVED_SCORE].fill_null(float("nan")).to_numpy()


def column_type(field: FieldBins) -> type[pl.DataType]:
    """The type of a field's column in every log."""
    return pl.String if field.kind == "categorical" else pl.Float64
