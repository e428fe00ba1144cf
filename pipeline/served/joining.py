"""Clicks joined to the rows they belong to, and the artifact served_log, which watching starts from."""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

from components.artifact import write_json
from components.log import CLICK, IMPRESSION, TIME, UNREADABLE, LogRequest, ServedLog, Unreadable
from pipeline.served.reading import ServedRows, served_rows


def join_clicks(rows: pl.LazyFrame, clicks: pl.LazyFrame, settled_before: int | None) -> pl.LazyFrame:
    """Fill in _click by impression from `clicks` (_impression, _click); a click wins over none where they disagree.

    settled_before  microseconds: rows served earlier that nobody reported on were not clicked; null while it may still come
    """
    known = clicks.drop_nulls().group_by(IMPRESSION).agg(pl.col(CLICK).max().cast(pl.Int8).alias("_joined"))
    click = pl.max_horizontal(CLICK, "_joined")
    if settled_before is not None:
        click = pl.when(click.is_null() & (pl.col(TIME) < settled_before)).then(0).otherwise(click)
    joined = rows.join(known, on=IMPRESSION, how="left", maintain_order="left")
    return joined.with_columns(click.cast(pl.Int8).alias(CLICK)).drop("_joined")


def served_log_of(
    served: ServedRows, request: LogRequest, clicks: pl.LazyFrame | None, settled_before: int | None, scratch: Path
) -> ServedLog:
    """Make the artifact `served_log` in `scratch`, clicks joined where there are some."""
    place = scratch / "served_log"
    place.mkdir()
    rows = served.rows if clicks is None else join_clicks(served.rows, clicks, settled_before)
    if served.num_torn_lines:
        write_json(place / UNREADABLE, Unreadable(served.num_torn_lines))
    rows.sink_parquet(place / "rows.parquet", compression="zstd", maintain_order=True)
    return ServedLog(request, place)


def bring_served(request: LogRequest, folder: Path, scratch: Path) -> ServedLog:
    """Read what was served of this log in its window, from `folder`/<log>; a folder that is not there holds no rows.

    Says on stderr what was left out. Raises IntegrityError for damage, ConfigError for a field's name.
    """
    served = served_rows(folder / request.log, request.schema, request.window, scratch)
    if served.num_torn_lines:
        print(f"served log: {served.num_torn_lines} lines torn by a crash were left out", file=sys.stderr)
    if served.num_other_files:
        print(f"served log: {served.num_other_files} files were written under another schema", file=sys.stderr)
    return served_log_of(served, request, None, None, scratch)
