"""The served log: what was scored for the world, written so that no crash loses a row that was answered, and read back.

    <folder>/2026-03-02/14-<writer>.jsonl        rows of one hour (UTC) from one process of the service, appended
    <folder>/2026-03-02/batch-<id>-00000.parquet rows of one day from one scored log, written whole or not at all

A row lies under its own time, so a window is found by name. Each writer has files of its own: a line torn by a crash can
only be a file's last, and is counted when it is read. Scoring the same log with the same bundle again replaces its files.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from components.artifact import write_json, write_table
from components.errors import ConfigError, DataError, IntegrityError
from components.log import (
    CLICK,
    IMPRESSION,
    MICROSECONDS_AN_HOUR,
    TIME,
    UNREADABLE,
    LogRequest,
    LogSchema,
    ServedLog,
    Unreadable,
    Window,
)
from components.profiling.binning import Floats

SCORE = "score"
BUNDLE = "bundle"
_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)
_LAST_TIME = 4_102_444_800_000_000  # 2100-01-01
_ESSENTIAL = (IMPRESSION, TIME, SCORE, BUNDLE)


def served_schema(schema: LogSchema) -> pl.Schema:
    """The columns of a served log; raises ConfigError where a field takes one of their names."""
    fields = {field.name: pl.Float64() if field.kind == "numeric" else pl.String() for field in schema.column_fields}
    taken = sorted({SCORE, BUNDLE} & fields.keys())
    if taken:
        raise ConfigError(f"the served log has columns {taken} of its own: give the fields of that name another one")
    own = {IMPRESSION: pl.String(), TIME: pl.Int64(), CLICK: pl.Int8()}
    return pl.Schema({**own, **fields, SCORE: pl.Float64(), BUNDLE: pl.String()})


def served_table(rows: pl.DataFrame, scores: Floats, digest: str, schema: LogSchema) -> pl.DataFrame:
    """Rows and their scores in the served log's columns; clicks null where `rows` has none.

    Raises DataError for a time outside 1970 to 2099, which no file's name could hold.
    """
    wrong = rows.with_row_index("number").filter(~pl.col(TIME).is_between(0, _LAST_TIME - 1))
    if wrong.height:
        raise DataError(
            f"row {wrong['number'][0]}: time {wrong[TIME][0]} microseconds since 1970 lies outside 1970 to 2099; is it in another unit?"
        )
    columns = served_schema(schema)
    clicks = rows[CLICK] if CLICK in rows.columns else pl.Series(CLICK, [None] * rows.height)
    table = rows.with_columns(
        clicks.cast(pl.Int8), pl.Series(SCORE, scores, dtype=pl.Float64), pl.lit(digest).alias(BUNDLE)
    )
    return table.select(columns.names()).cast(columns)


class ServedWriter:
    """Appends rows to files of its own; one writer a process, usable from any thread."""

    def __init__(self, folder: Path, schema: LogSchema, digest: str) -> None:
        served_schema(schema)
        self._folder = folder
        self._schema = schema
        self._digest = digest
        self._name = uuid.uuid4().hex
        self._lock = threading.Lock()

    def append(self, rows: pl.DataFrame, scores: Floats) -> None:
        """Write rows (_impression, _time, column fields) through to disk; raises OSError with nothing half-written left."""
        table = served_table(rows, scores, self._digest, self._schema).drop(CLICK)
        for (hour,), part in table.group_by([pl.col(TIME) // MICROSECONDS_AN_HOUR], maintain_order=True):
            start = _EPOCH + timedelta(hours=int(str(hour)))
            lines = io.BytesIO()
            part.write_ndjson(lines)
            with self._lock:
                self._write_through(
                    self._folder / f"{start:%Y-%m-%d}" / f"{start:%H}-{self._name}.jsonl", lines.getvalue()
                )

    def _write_through(self, path: Path, content: bytes) -> None:
        is_new_folder = not path.parent.is_dir()
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            num_bytes = os.fstat(handle).st_size
            try:
                left = memoryview(content)
                while left:
                    left = left[os.write(handle, left) :]
                os.fsync(handle)
            except OSError:
                self._name = uuid.uuid4().hex  # should the cut fail too, a torn line stays the last of its file
                os.ftruncate(handle, num_bytes)
                raise
        finally:
            os.close(handle)
        if is_new:
            _flush_folder(path.parent)
        if is_new_folder:
            _flush_folder(self._folder)


class BatchWriter:
    """Writes the scored rows of one whole log, a Parquet file a day and chunk; writing the same log again replaces them."""

    def __init__(self, folder: Path, schema: LogSchema, digest: str, source_digests: tuple[str, ...]) -> None:
        columns = served_schema(schema)
        self._folder = folder
        self._schema = schema
        self._digest = digest
        identity = json.dumps([digest, sorted(source_digests), columns.names()])
        self._name = f"batch-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
        self._earlier = set(folder.glob(f"*/{self._name}-*.parquet"))
        self._num_chunks = 0

    def append(self, rows: pl.DataFrame, scores: Floats) -> None:
        """Write one chunk of rows (_impression, _time, _click, column fields); each file appears whole."""
        table = served_table(rows, scores, self._digest, self._schema)
        for (day,), part in table.group_by([pl.col(TIME) // (24 * MICROSECONDS_AN_HOUR)], maintain_order=True):
            place = self._folder / f"{_EPOCH + timedelta(days=int(str(day))):%Y-%m-%d}"
            place.mkdir(parents=True, exist_ok=True)
            path = place / f"{self._name}-{self._num_chunks:05d}.parquet"
            hidden = place / f".{path.name}.{os.getpid()}"
            write_table(hidden, part)
            with hidden.open("rb") as file:
                os.fsync(file.fileno())
            hidden.rename(path)
            _flush_folder(place)
            self._earlier.discard(path)
        self._num_chunks += 1

    def close(self) -> None:
        """Remove what an earlier scoring of the same log wrote beyond this one."""
        for path in self._earlier:
            path.unlink()


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
    if table.select(pl.any_horizontal(pl.col(TIME, SCORE, BUNDLE).is_null()).any()).item():
        raise IntegrityError(f"{path}: {_first_bad_line(whole)}; move the file away")
    return table.select(name for name in columns.names() if name in names), is_torn


def _first_bad_line(content: bytes) -> str:
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or any(row.get(name) is None for name in (TIME, SCORE, BUNDLE)):
                return f"line {number} has no {TIME}, {SCORE} or {BUNDLE}"
        except ValueError:
            return f"line {number} is not JSON"
    return "a line holds a value of another type than its column"


def _schema_of(path: Path) -> pl.Schema:
    try:
        return pl.Schema(pl.read_parquet_schema(path))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise IntegrityError(f"{path}: not readable as Parquet ({error}); score that log again") from error


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970 of a moment, UTC where it names no zone."""
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MICROSECOND


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
