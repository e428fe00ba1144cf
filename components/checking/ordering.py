"""Kept rows into their final order: by time, ties by impression (or in source order where there is no key), each impression once.

Which copy of an impression stays may not depend on the order of files: the row has the earliest time of all copies and a
click if any copy has one; among copies of that time the one whose fields come first in alphabetical order stays.
Memory stays bounded: the rows are dealt out to files by ranges of time, and each range is sorted by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from components.checking.reading import ROW_GROUP_ROWS, Reading, sink_table
from components.log import CLICK, IMPRESSION, ROW, TIME, LogSchema
from components.sources import NUMBER

Fingerprints = np.ndarray[Any, np.dtype[np.uint64]]
Times = np.ndarray[Any, np.dtype[np.int64]]

_FIRST_TIME = "_first_time"
_ANY_CLICK = "_any_click"


@dataclass(frozen=True)
class OrderedRows:
    """The clean rows.

    num_duplicates  copies dropped, by the impression's key
    num_repeats     rows that say the same as an earlier one in every column; counted where no key is declared, else null
    """

    path: Path
    num_rows: int
    num_clicks: int
    first_time: int | None
    last_time: int | None
    num_duplicates: int
    num_repeats: int | None


def order_rows(reading: Reading, schema: LogSchema, sort_rows: int, folder: Path) -> OrderedRows:
    """Write the final rows.parquet into `folder`; where nothing is out of order and nothing doubled, no row is moved."""
    repeated = _repeated(reading.fingerprints)
    copies = None
    if schema.impression is not None and len(repeated):
        copies = _copies(reading.rows, np.unique(repeated))
    num_duplicates = 0 if copies is None else int((copies["num_copies"] - 1).sum())

    times = pl.scan_parquet(reading.rows).select(TIME).collect().to_series().to_numpy()
    rows = folder / "rows.parquet"
    if num_duplicates == 0 and _is_in_order(reading, times, schema):
        reading.rows.rename(rows)
    else:
        _rewrite(reading, times, schema, copies if num_duplicates else None, sort_rows, rows)
        reading.rows.unlink()
    ends = pl.scan_parquet(rows).select(
        pl.len(),
        pl.col(CLICK).cast(pl.Int64).sum(),
        pl.col(TIME).min().alias("first"),
        pl.col(TIME).max().alias("last"),
    )
    num_rows, num_clicks, first_time, last_time = ends.collect().row(0)
    has_time = schema.time is not None
    return OrderedRows(
        rows,
        num_rows,
        num_clicks,
        first_time if has_time else None,
        last_time if has_time else None,
        num_duplicates,
        None if schema.impression is not None else len(repeated),
    )


def _repeated(fingerprints: Fingerprints) -> Fingerprints:
    """Each fingerprint once for every row that has it beyond the first."""
    ordered = np.sort(fingerprints)
    repeated: Fingerprints = ordered[1:][ordered[1:] == ordered[:-1]]
    return repeated


def _copies(rows: Path, repeated: Fingerprints) -> pl.DataFrame:
    """The keys that truly stand in more than one row; equal hashes only narrow the search."""
    return (
        pl.scan_parquet(rows)
        .select(IMPRESSION, TIME, CLICK)
        .filter(pl.col(IMPRESSION).hash(seed=0).is_in(pl.Series(repeated).implode()))
        .group_by(IMPRESSION)
        .agg(
            pl.len().cast(pl.Int64).alias("num_copies"),
            pl.col(TIME).min().alias(_FIRST_TIME),
            pl.col(CLICK).max().alias(_ANY_CLICK),
        )
        .filter(pl.col("num_copies") > 1)
        .collect(engine="streaming")
    )


def _is_in_order(reading: Reading, times: Times, schema: LogSchema) -> bool:
    steps = np.diff(times)
    if (steps < 0).any():
        return False
    if schema.impression is None:
        return not (np.diff(reading.numbers)[steps == 0] < 0).any()
    if not (steps == 0).any():
        return True
    keys = pl.scan_parquet(reading.rows).select(TIME, IMPRESSION)
    for offset in range(0, len(times), ROW_GROUP_ROWS):
        chunk = keys.slice(max(offset - 1, 0), ROW_GROUP_ROWS + 1).collect()
        is_tie = chunk[TIME].diff() == 0
        if (is_tie & (chunk[IMPRESSION] < chunk[IMPRESSION].shift())).any():
            return False
    return True


def _rewrite(
    reading: Reading,
    times: Times,
    schema: LogSchema,
    copies: pl.DataFrame | None,
    sort_rows: int,
    target: Path,
) -> None:
    """Deal the rows out by ranges of time, put each range in order, and join the ranges."""
    folder = target.parent / "ranges"
    folder.mkdir()
    edges = _range_edges(times, sort_rows)
    pieces: list[list[Path]] = [[] for _ in range(len(edges) + 1)]
    lines = pl.scan_parquet(reading.rows)
    for offset in range(0, len(times), ROW_GROUP_ROWS):
        chunk = lines.slice(offset, ROW_GROUP_ROWS).collect()
        here = slice(offset, offset + chunk.height)
        chunk = chunk.with_columns(pl.Series(NUMBER, reading.numbers[here]))
        ranges = pl.Series(np.searchsorted(edges, times[here], side="right"))
        for number in ranges.unique().sort():
            piece = folder / f"piece-{number:06}-{offset:015}.arrow"
            chunk.filter(ranges == number).write_ipc(piece)
            pieces[number].append(piece)
    ordered = []
    for number, paths in enumerate(pieces):
        if not paths:
            continue
        rows = pl.concat([pl.read_ipc(path) for path in paths])
        if copies is not None:
            rows = _without_copies(rows, copies)
        rows = rows.sort([TIME, IMPRESSION if schema.impression else NUMBER])
        path = folder / f"ordered-{number:06}.arrow"
        rows.drop(ROW, NUMBER).write_ipc(path)
        ordered.append(path)
        for piece in paths:
            piece.unlink()
    columns = pl.read_parquet_schema(reading.rows)
    joined = pl.scan_ipc(ordered).with_row_index(ROW).with_columns(pl.col(ROW).cast(pl.Int64))
    pl.collect_all([sink_table(joined.select(list(columns)), target)], engine="streaming")
    for path in ordered:
        path.unlink()
    folder.rmdir()


def _range_edges(times: Times, sort_rows: int) -> Times:
    """Times that cut the rows into ranges of about `sort_rows`; rows of one time are never parted."""
    positions = np.arange(sort_rows, len(times), sort_rows)
    if not len(positions):
        return np.zeros(0, np.int64)
    return np.unique(np.partition(times, positions)[positions])


def _without_copies(rows: pl.DataFrame, copies: pl.DataFrame) -> pl.DataFrame:
    """One row an impression: all rows of one time are here, and copies of other times are dropped by their time."""
    joined = rows.join(copies.drop("num_copies"), on=IMPRESSION, how="left", maintain_order="left")
    single = joined.filter(pl.col(_FIRST_TIME).is_null())
    fields = [name for name in rows.columns if name not in (ROW, NUMBER, TIME, CLICK, IMPRESSION)]
    chosen = (
        joined.filter(pl.col(_FIRST_TIME) == pl.col(TIME))
        .sort([IMPRESSION, *fields])
        .unique(IMPRESSION, keep="first", maintain_order=True)
        .with_columns(pl.col(_ANY_CLICK).alias(CLICK))
    )
    return pl.concat([single, chosen]).drop(_FIRST_TIME, _ANY_CLICK)
