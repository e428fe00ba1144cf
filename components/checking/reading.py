"""The one pass over a raw log: kept rows, rows set aside, and a tally of each partition, all streamed at once.

Two threads read and sort out a piece each while the engine writes the kept rows of earlier ones. Most pieces hold nothing but
rows to keep; only the others pay for reasons, filters and groups.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from components.ahead import done_ahead
from components.log import CLICK, IMPRESSION, PART, ROW, TIME, LogSchema, RawLog, Window, microseconds
from components.sources import Piece
from components.sources.standard import (
    BROKEN,
    FIRST_PLAUSIBLE,
    LAST_PLAUSIBLE,
    NUMBER,
    SOURCE,
    VALUE,
    Fault,
    in_words,
)

# The tables' own grain: part of the format, since the bytes depend on it.
ROW_GROUP_ROWS = 262_144

_PIECES_AT_ONCE = 2  # one core reads, another reads or writes; each takes some ten MB
REASON = "_reason"
_IS_BROKEN = "_is_broken"
_IS_OUTSIDE = "_is_outside"
_FINGERPRINT = "_fingerprint"


@dataclass(frozen=True)
class Reading:
    """What one pass over a raw log gave.

    rows          Parquet of the kept rows as they came, _row counting from 0
    quarantine    Parquet of the rows that broke a row-level promise: _source, _number, _reason, _value (what breaks it, as it came) and the fields as read
    partitions    one row a partition, by name: _source, num_read, num_outside, num_quarantined, num_implausible, num_untimed,
                  first_time, last_time
    kept          one row a partition with kept rows: _source, num_rows, num_clicks, and for each field missing_<name>
    ranges        minimum_<name> and maximum_<name> of each numeric field over the kept rows
    reasons       rows set aside by reason, in alphabetical order
    numbers       (R,) int64: each kept row's number in source order
    fingerprints  (R,) uint64 of the kept rows: of the impression's key, or of the whole row where there is none
    """

    rows: Path
    quarantine: Path
    partitions: pl.DataFrame
    kept: pl.DataFrame
    ranges: dict[str, float | None]
    reasons: dict[str, int]
    numbers: np.ndarray[Any, np.dtype[np.int64]]
    fingerprints: np.ndarray[Any, np.dtype[np.uint64]]

    @property
    def num_read(self) -> int:
        """All rows of the raw log."""
        return int(self.partitions["num_read"].sum())

    @property
    def num_outside(self) -> int:
        """Rows outside the window."""
        return int(self.partitions["num_outside"].sum())

    @property
    def num_quarantined(self) -> int:
        """Rows that broke a row-level promise."""
        return int(self.partitions["num_quarantined"].sum())

    @property
    def num_kept(self) -> int:
        """Rows that remain, copies of an impression included."""
        return int(self.kept["num_rows"].sum())


def read_log(pieces: Iterator[Piece], raw_log: RawLog, folder: Path) -> Reading:
    """Stream the source's rows once into `folder`, sorted out into kept, quarantined and outside the window."""
    sorter = _Sorter(raw_log)
    tallies, numbers, fingerprints = [], [], []
    spoilt: list[Path] = []

    def kept_rows(*_: object) -> Iterator[pl.DataFrame]:
        num_kept = 0
        for piece in done_ahead(sorter, pieces, _PIECES_AT_ONCE):
            tallies.append(piece.tally)
            numbers.append(piece.numbers)
            fingerprints.append(piece.fingerprints)
            if piece.bad is not None:
                spoilt.append(folder / f"spoilt-{len(spoilt):09}.arrow")
                piece.bad.write_ipc(spoilt[-1])
            row = pl.int_range(num_kept, num_kept + piece.kept.height, dtype=pl.Int64).alias(ROW)
            yield piece.kept.select(row, pl.all())
            num_kept += piece.kept.height

    rows, quarantine = folder / "read.parquet", folder / "quarantine.parquet"
    table = register_io_source(kept_rows, schema={ROW: pl.Int64(), **sorter.kept_schema}, is_pure=True)
    pl.collect_all([sink_table(table, rows)], engine="streaming")
    bad = pl.scan_ipc(spoilt) if spoilt else pl.LazyFrame(schema=sorter.bad_schema)
    pl.collect_all([sink_table(bad, quarantine)], engine="streaming")
    for path in spoilt:
        path.unlink()
    tallied = sorter.total(tallies)
    kept = tallied.filter(~pl.col(_IS_BROKEN) & ~pl.col(_IS_OUTSIDE)).sort(SOURCE)
    reasons = pl.scan_parquet(quarantine).group_by(REASON).agg(pl.len().cast(pl.Int64)).collect()
    return Reading(
        rows,
        quarantine,
        _partitions(tallied),
        kept.select(SOURCE, "num_rows", "num_clicks", *[f"missing_{name}" for name in sorter.names]),
        {side: _bound(kept[side], side) for name in sorter.numeric for side in (f"minimum_{name}", f"maximum_{name}")},
        dict(sorted(reasons.iter_rows())),
        np.concatenate([*numbers, np.zeros(0, np.int64)]),
        np.concatenate([*fingerprints, np.zeros(0, np.uint64)]),
    )


@dataclass(frozen=True)
class _Sorted:
    """One piece's rows sorted out; tally as of `_Sorter.total`, but with a group for each piece."""

    kept: pl.DataFrame
    bad: pl.DataFrame | None
    tally: pl.DataFrame
    numbers: np.ndarray[Any, np.dtype[np.int64]]
    fingerprints: np.ndarray[Any, np.dtype[np.uint64]]


class _Sorter:
    """What is asked of every piece, as expressions of the engine."""

    def __init__(self, raw_log: RawLog) -> None:
        schema = raw_log.request.schema
        self.names = [field.name for field in schema.column_fields]
        self.numeric = [field.name for field in schema.column_fields if field.kind == "numeric"]
        is_published = any(partition.part is not None for partition in raw_log.partitions)
        faults = _row_faults(schema)
        reason, value = in_words(faults)
        self._flags = (
            pl.any_horizontal([fault.is_broken for fault in faults]).fill_null(False).alias(_IS_BROKEN),
            _is_outside(schema, raw_log.request.window).alias(_IS_OUTSIDE),
        )
        self._kept = [
            pl.col(TIME),
            pl.col(CLICK).cast(pl.Int8),
            pl.col(IMPRESSION),
            *([pl.col(PART)] if is_published else []),
            *(pl.col(name) for name in self.names),
        ]
        self._beside = [pl.col(NUMBER), _fingerprint(schema, self.names).alias(_FINGERPRINT)]
        self._bad = [
            pl.col(SOURCE, NUMBER),
            reason.alias(REASON),
            value.alias(VALUE),
            *(pl.col(name) for name in (TIME, CLICK, IMPRESSION, *self.names)),
        ]
        self._figures = [
            pl.len().cast(pl.Int64).alias("num_rows"),
            pl.col(CLICK).sum().alias("num_clicks"),
            (_is_implausible() if schema.time else pl.lit(False)).sum().cast(pl.Int64).alias("num_implausible"),
            pl.col(TIME).null_count().cast(pl.Int64).alias("num_untimed"),
            pl.col(TIME).min().alias("first_time"),
            pl.col(TIME).max().alias("last_time"),
            *[pl.col(name).null_count().cast(pl.Int64).alias(f"missing_{name}") for name in self.names],
            *[pl.col(name).min().alias(f"minimum_{name}") for name in self.numeric],
            *[pl.col(name).max().alias(f"maximum_{name}") for name in self.numeric],
        ]
        kinds = {name: pl.Float64() if name in self.numeric else pl.String() for name in self.names}
        known = {PART: pl.String(), SOURCE: pl.String(), NUMBER: pl.Int64(), TIME: pl.Int64(), CLICK: pl.Int64()}
        nothing = pl.DataFrame(
            schema={**known, IMPRESSION: pl.String(), **kinds, BROKEN: pl.String(), VALUE: pl.String()}
        )
        self._no_tally = nothing.with_columns(self._flags).group_by(SOURCE, _IS_BROKEN, _IS_OUTSIDE).agg(self._figures)
        self.kept_schema = dict(nothing.select(self._kept).schema)
        self.bad_schema = dict(nothing.select(self._bad).schema)

    def __call__(self, read: Piece) -> _Sorted:
        rows = read()
        judged = rows.with_columns(self._flags)
        is_kept = ~judged[_IS_BROKEN] & ~judged[_IS_OUTSIDE]
        if is_kept.all() and (rows[SOURCE] == rows[SOURCE].first()).all():
            keys = (pl.col(SOURCE).first(), pl.lit(False).alias(_IS_BROKEN), pl.lit(False).alias(_IS_OUTSIDE))
            tally, bad = rows.select(*keys, *self._figures), None
        else:
            tally = judged.group_by(SOURCE, _IS_BROKEN, _IS_OUTSIDE).agg(self._figures)
            bad = judged.filter(_IS_BROKEN).select(self._bad) if judged[_IS_BROKEN].any() else None
            rows = rows.filter(is_kept)
        beside = rows.select(self._beside)
        numbers, fingerprints = beside[NUMBER].to_numpy(), beside[_FINGERPRINT].to_numpy()
        return _Sorted(rows.select(self._kept), bad, tally, numbers, fingerprints)

    def total(self, tallies: list[pl.DataFrame]) -> pl.DataFrame:
        """One row for each partition and each of kept, broken and outside the window: its number of rows and the other figures."""
        sums = pl.col("num_rows", "num_clicks", "num_implausible", "num_untimed", *[f"missing_{n}" for n in self.names])
        return (
            pl.concat([self._no_tally, *tallies])
            .group_by(SOURCE, _IS_BROKEN, _IS_OUTSIDE)
            .agg(
                sums.sum(),
                pl.col("first_time", *[f"minimum_{name}" for name in self.numeric]).min(),
                pl.col("last_time", *[f"maximum_{name}" for name in self.numeric]).max(),
            )
        )


def _partitions(tallied: pl.DataFrame) -> pl.DataFrame:
    rows = pl.col("num_rows")
    return (
        tallied.group_by(SOURCE)
        .agg(
            rows.sum().alias("num_read"),
            rows.filter(pl.col(_IS_OUTSIDE) & ~pl.col(_IS_BROKEN)).sum().alias("num_outside"),
            rows.filter(_IS_BROKEN).sum().alias("num_quarantined"),
            pl.col("num_implausible", "num_untimed").sum(),
            pl.col("first_time").min(),
            pl.col("last_time").max(),
        )
        .sort(SOURCE)
    )


def sink_table(table: pl.LazyFrame, path: Path) -> pl.LazyFrame:
    """A lazy sink of a bulk table: the same bytes for the same rows, however many threads write them."""
    sink = table.sink_parquet(
        path,
        compression="lz4",  # twice the size of zstd, but half the time to write and to read, again and again
        statistics=False,
        row_group_size=ROW_GROUP_ROWS,
        maintain_order=True,
        lazy=True,
    )
    assert sink is not None
    return sink


def _is_outside(schema: LogSchema, window: Window) -> pl.Expr:
    """A log without time has no rows outside a window."""
    is_outside = pl.lit(False)
    if schema.time and window.start is not None:
        is_outside = is_outside | (pl.col(TIME) < microseconds(window.start))
    if schema.time and window.end is not None:
        is_outside = is_outside | (pl.col(TIME) >= microseconds(window.end))
    return is_outside.fill_null(False)


def _is_implausible() -> pl.Expr:
    return ~pl.col(TIME).is_between(FIRST_PLAUSIBLE, LAST_PLAUSIBLE, closed="left")


def _row_faults(schema: LogSchema) -> list[Fault]:
    """Each way to break a row-level promise, with its words; the first that is true of a row is the row's reason."""
    click = pl.col(CLICK)
    faults = [Fault(pl.col(BROKEN).is_not_null(), pl.col(BROKEN), pl.col(VALUE))]
    if schema.time:
        faults.append(Fault(_is_implausible(), "time is not between the years 1990 and 2100", pl.col(TIME)))
    faults.append(Fault(click.is_null(), "click is missing", click))
    faults.append(Fault(~click.is_between(0, 1), "click is not 0 or 1", click))
    if schema.impression:
        key = pl.col(IMPRESSION)
        faults.append(Fault(key.is_null(), "the impression's key is missing", key))
    for field in schema.column_fields:
        if field.kind != "numeric":
            continue
        value = pl.col(field.name)
        if field.minimum is not None:
            words = f"field '{field.name}' is below {field.minimum:g}"
            faults.append(Fault(value < field.minimum, words, value))
        if field.maximum is not None:
            words = f"field '{field.name}' is above {field.maximum:g}"
            faults.append(Fault(value > field.maximum, words, value))
    return faults


def _fingerprint(schema: LogSchema, names: list[str]) -> pl.Expr:
    """Only ever compared within one process, so the engine's own fast hash will do."""
    if schema.impression:
        return pl.col(IMPRESSION).hash(seed=0)
    parts = [CLICK, *names] if schema.time is None else [TIME, CLICK, *names]
    hashes = (pl.col(name).hash(seed=number) for number, name in enumerate(parts))
    return reduce(operator.add, hashes)  # wraps around; sum_horizontal takes ten times as long


def _bound(values: pl.Series, side: str) -> float | None:
    bound = values.min() if side.startswith("minimum") else values.max()
    return None if bound is None else float(bound)  # type: ignore[arg-type]
