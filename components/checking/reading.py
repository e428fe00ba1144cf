"""The one pass over a raw log: kept rows, rows set aside, and a tally of each partition, all streamed at once."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from components.log import CLICK, IMPRESSION, ROW, TIME, LogSchema, RawLog, Window, microseconds
from components.sources.standard import BROKEN, FIRST_PLAUSIBLE, LAST_PLAUSIBLE, NUMBER, PART, SOURCE

# The tables' own grain: part of the format, since the bytes depend on it.
ROW_GROUP_ROWS = 262_144

_IS_BROKEN = "_is_broken"
_IS_OUTSIDE = "_is_outside"
_FINGERPRINT = "_fingerprint"


@dataclass(frozen=True)
class Reading:
    """What one pass over a raw log gave.

    rows          Parquet of the kept rows as they came, _row counting from 0
    quarantine    Parquet of the rows that broke a row-level promise: source, number, reason and the raw fields
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


def read_log(lines: pl.LazyFrame, raw_log: RawLog, folder: Path) -> Reading:
    """Stream the source's rows once into `folder`, sorted out into kept, quarantined and outside the window."""
    schema = raw_log.request.schema
    names = [field.name for field in schema.column_fields]
    numbers = [field.name for field in schema.column_fields if field.kind == "numeric"]
    is_published = any(partition.part is not None for partition in raw_log.partitions)

    faults = _row_faults(schema)
    judged = lines.with_columns(
        pl.any_horizontal([is_broken for is_broken, _ in faults]).fill_null(False).alias(_IS_BROKEN),
        _is_outside(schema, raw_log.request.window).alias(_IS_OUTSIDE),
    )
    # All four results hang directly on `judged`: the engine shares one common step between them, and the file is read once.
    is_kept = ~pl.col(_IS_BROKEN) & ~pl.col(_IS_OUTSIDE)
    table = (
        judged.filter(is_kept)
        .with_row_index(ROW)
        .select(
            pl.col(ROW).cast(pl.Int64),
            TIME,
            pl.col(CLICK).cast(pl.Int8),
            IMPRESSION,
            *([pl.col(PART).alias("part")] if is_published else []),
            *names,
        )
    )
    bad = judged.filter(_IS_BROKEN).select(
        pl.col(SOURCE).alias("source"),
        pl.col(NUMBER).alias("number"),
        pl.coalesce(*[pl.when(is_broken).then(words) for is_broken, words in faults]).alias("reason"),
        TIME,
        CLICK,
        IMPRESSION,
        *names,
    )
    tally = judged.group_by(SOURCE, _IS_BROKEN, _IS_OUTSIDE).agg(
        pl.len().cast(pl.Int64).alias("num_rows"),
        pl.col(CLICK).sum().alias("num_clicks"),
        (_is_implausible() if schema.time else pl.lit(False)).sum().cast(pl.Int64).alias("num_implausible"),
        pl.col(TIME).null_count().cast(pl.Int64).alias("num_untimed"),
        pl.col(TIME).min().alias("first_time"),
        pl.col(TIME).max().alias("last_time"),
        *[pl.col(name).null_count().cast(pl.Int64).alias(f"missing_{name}") for name in names],
        *[pl.col(name).min().alias(f"minimum_{name}") for name in numbers],
        *[pl.col(name).max().alias(f"maximum_{name}") for name in numbers],
    )
    beside = judged.select(is_kept.alias("is_kept"), NUMBER, _fingerprint(schema, names).alias(_FINGERPRINT))

    # ... and all but the tally go to disk: of two results in memory the engine would hold back the rows of the whole file.
    rows, quarantine, columns = folder / "read.parquet", folder / "quarantine.parquet", folder / "beside.parquet"
    _, _, _, tallied = pl.collect_all(
        [sink_table(table, rows), sink_table(bad, quarantine), sink_table(beside, columns), tally], engine="streaming"
    )
    kept = tallied.filter(~pl.col(_IS_BROKEN) & ~pl.col(_IS_OUTSIDE)).sort(SOURCE)
    reasons = pl.scan_parquet(quarantine).group_by("reason").agg(pl.len().cast(pl.Int64)).collect()
    stood_beside = pl.scan_parquet(columns).filter("is_kept").select(NUMBER, _FINGERPRINT).collect()
    columns.unlink()
    return Reading(
        rows,
        quarantine,
        _partitions(tallied),
        kept.select(SOURCE, "num_rows", "num_clicks", *[f"missing_{name}" for name in names]),
        {side: _bound(kept[side], side) for name in numbers for side in (f"minimum_{name}", f"maximum_{name}")},
        dict(sorted(reasons.iter_rows())),
        stood_beside[NUMBER].to_numpy(),
        stood_beside[_FINGERPRINT].to_numpy(),
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


def _row_faults(schema: LogSchema) -> list[tuple[pl.Expr, pl.Expr]]:
    """Each way to break a row-level promise, with its words; the first that is true of a row is the row's reason."""
    faults = [(pl.col(BROKEN).is_not_null(), pl.col(BROKEN))]
    if schema.time:
        faults.append((_is_implausible(), pl.lit("time is not between the years 1990 and 2100")))
    faults.append((pl.col(CLICK).is_null(), pl.lit("click is missing")))
    faults.append((~pl.col(CLICK).is_between(0, 1), pl.lit("click is not 0 or 1")))
    if schema.impression:
        faults.append((pl.col(IMPRESSION).is_null(), pl.lit("the impression's key is missing")))
    for field in schema.column_fields:
        if field.kind != "numeric":
            continue
        value = pl.col(field.name)
        if field.minimum is not None:
            faults.append((value < field.minimum, pl.lit(f"field '{field.name}' is below {field.minimum:g}")))
        if field.maximum is not None:
            faults.append((value > field.maximum, pl.lit(f"field '{field.name}' is above {field.maximum:g}")))
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
