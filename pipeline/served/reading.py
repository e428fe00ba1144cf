"""The rows of a window, found by the files' names; a torn last line is counted, any other damage is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from components.artifact import write_table
from components.errors import IntegrityError
from components.log import CLICK, IMPRESSION, SERVED_BUNDLE, SERVED_SCORE, TIME, LogSchema, Window, microseconds
from pipeline.served.columns import served_schema

_ESSENTIAL = (IMPRESSION, TIME, SERVED_SCORE, SERVED_BUNDLE)


@dataclass(frozen=True)
class ServedRows:
    """The rows of a window, lazily; how many lines torn by a crash were left out, and files that had other columns."""

    rows: pl.LazyFrame
    num_torn_lines: int
    num_other_files: int


def served_rows(folder: Path, schema: LogSchema, window: Window, scratch: Path) -> ServedRows:
    """Read the rows whose time lies in the window; JSON lines are turned to Parquet in `scratch` first, file by file.

    Where rows were served under another schema, fields they lack are null and others are left out. Raises IntegrityError
    naming file and reason where anything but a file's last line is damaged.
    """
    columns = served_schema(schema)
    start, end = (None if moment is None else microseconds(moment) for moment in (window.start, window.end))
    frames = [pl.LazyFrame(schema=columns)]
    num_torn_lines = num_other_files = 0
    for number, path in enumerate(_files_in(folder, start, end)):
        place = path
        if path.suffix == ".jsonl":
            table, is_torn = _read_lines(path, columns)
            num_torn_lines += is_torn
            place = scratch / f"lines-{number:06d}.parquet"
            write_table(place, table)
        found = _schema_of(place)
        lacking = [name for name in _ESSENTIAL if name not in found]
        if lacking:
            raise IntegrityError(f"{path}: columns {lacking} are missing, this is no served log; move the file away")
        num_other_files += found != columns
        frames.append(
            pl.scan_parquet(place, glob=False).select(
                (pl.col(name) if name in found else pl.lit(None)).cast(kind, strict=False).alias(name)
                for name, kind in columns.items()
            )
        )
    rows = pl.concat(frames)
    if start is not None:
        rows = rows.filter(pl.col(TIME) >= start)
    if end is not None:
        rows = rows.filter(pl.col(TIME) < end)
    return ServedRows(rows, num_torn_lines, num_other_files)


def _files_in(folder: Path, start: int | None, end: int | None) -> Iterator[Path]:
    """Files that can hold rows of the window, by their names alone, in a fixed order."""
    for path in sorted((*folder.glob("[0-9]*/[0-9]*-*.jsonl"), *folder.glob("[0-9]*/batch-*.parquet"))):
        try:
            first = datetime.strptime(path.parent.name, "%Y-%m-%d").replace(tzinfo=UTC)
            hours = 24
            if path.suffix == ".jsonl":
                first, hours = first + timedelta(hours=int(path.name.split("-")[0])), 1
        except ValueError as error:
            raise IntegrityError(f"{path}: no file of a served log has such a name; move it away") from error
        if (end is None or microseconds(first) < end) and (
            start is None or microseconds(first + timedelta(hours=hours)) > start
        ):
            yield path


def _read_lines(path: Path, columns: pl.Schema) -> tuple[pl.DataFrame, bool]:
    """The whole lines of a file, in its own columns, and whether a torn one stood after them."""
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    is_torn = len(whole) < len(content)
    if not whole:
        return pl.DataFrame(schema=columns), is_torn
    try:
        names = list(json.loads(whole[: whole.index(b"\n")]))
        kinds = {name: kind for name, kind in columns.items() if name != CLICK or name in names}
        table = pl.read_ndjson(whole, schema=kinds)
    except (pl.exceptions.PolarsError, ValueError, TypeError) as error:
        raise IntegrityError(f"{path}: {_first_bad_line(whole)} ({error}); move the file away") from error
    if table.select(pl.any_horizontal(pl.col(TIME, SERVED_SCORE, SERVED_BUNDLE).is_null()).any()).item():
        raise IntegrityError(f"{path}: {_first_bad_line(whole)}; move the file away")
    return table.select(name for name in columns.names() if name in names), is_torn


def _first_bad_line(content: bytes) -> str:
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or any(row.get(name) is None for name in (TIME, SERVED_SCORE, SERVED_BUNDLE)):
                return f"line {number} has no {TIME}, {SERVED_SCORE} or {SERVED_BUNDLE}"
        except ValueError:
            return f"line {number} is not JSON"
    return "a line holds a value of another type than its column"


def _schema_of(path: Path) -> pl.Schema:
    try:
        return pl.Schema(pl.read_parquet_schema(path))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise IntegrityError(f"{path}: not readable as Parquet ({error}); score that log again") from error
