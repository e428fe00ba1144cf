"""Tables of any schema: CSV, TSV, Parquet and JSON lines, text ones optionally .gz or .zst, in one file or many partitions.

Columns may stand in any order. One that the schema does not name is refused unless the options ignore it, since an
extra column is as often a mistake as a missing one; JSON lines show their columns in the first thousand lines.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl

from components.errors import ConfigError, DataError
from components.log import LogRequest, LogSchema, RawLog
from components.sources.plain import SourceFile, is_compressed, kind_of, laid_plain, lines, refuse_missing
from components.sources.reader import Reader, file_of, no_part, options_of, refuse_none
from components.sources.standard import NUMBER, needed_columns, refuse_unreadable_kinds, standard_rows
from components.sources.text import TextLayout, count_rows, scan_text
from components.strict import Strict

KINDS = {".csv": "text", ".tsv": "text", ".txt": "text", ".parquet": "parquet", ".jsonl": "json", ".ndjson": "json"}
SHOWING_LINES = 1_000
LENGTHS = {"%H": timedelta(hours=1), "%d": timedelta(days=1), "%j": timedelta(days=1)}
DIGITS = {"%Y": r"\d{4}", "%y": r"\d{2}", "%m": r"\d{2}", "%d": r"\d{2}", "%H": r"\d{2}", "%j": r"\d{3}"}
SHOWN = 5


@dataclass(frozen=True)
class TableOptions(Strict):
    """How a table is written down.

    separator          between a text table's columns; null for what the file's name says (.csv a comma, .tsv a tab)
    ignored_columns    columns that may stand in the files beside the schema's, separated by commas; "*" for any; null for none
    partition_pattern  the hour or day of a partition in its file's name, such as "%Y-%m-%d", so that only partitions
                       inside the window are fetched; null where names say nothing
    """

    separator: str | None
    ignored_columns: str | None
    partition_pattern: str | None


def _options(request: LogRequest) -> TableOptions:
    options = options_of(request, TableOptions)
    if options.separator is not None and (len(options.separator) != 1 or not options.separator.isascii()):
        raise ConfigError(
            f"logs/{request.log}.yaml source.options.separator must be one ASCII sign, got {options.separator!r}"
        )
    return options


def _ignored(options: TableOptions) -> frozenset[str] | None:
    if options.ignored_columns == "*":
        return None
    return frozenset(name.strip() for name in (options.ignored_columns or "").split(",") if name.strip())


def _way(name: str) -> str:
    way = KINDS.get(kind_of(name))
    if way is None or (way == "parquet" and is_compressed(name)):
        raise ConfigError(
            f"raw_log '{name}': a table ends in one of {sorted(KINDS)}, text ones optionally in .gz or .zst too; rename it"
        )
    return way


def _layout(request: LogRequest, name: str) -> TextLayout:
    options = _options(request)
    separator = options.separator or ("\t" if kind_of(name) == ".tsv" else ",")
    return TextLayout(separator, '"', True, needed_columns(request.schema), _ignored(options))


def _wanted(request: LogRequest, names: tuple[str, ...]) -> tuple[str, ...]:
    refuse_none(request, names)
    for name in names:
        _way(name)
    pattern = _options(request).partition_pattern
    return names if pattern is None else _inside_window(request, names, pattern)


def _inside_window(request: LogRequest, names: tuple[str, ...], pattern: str) -> tuple[str, ...]:
    length = next((length for sign, length in LENGTHS.items() if sign in pattern), None)
    if length is None:
        raise ConfigError(
            f"logs/{request.log}.yaml source.options.partition_pattern '{pattern}' names no hour or day (%H or %d)"
        )
    looks = re.compile("".join(DIGITS.get(part, re.escape(part)) for part in re.split(r"(%[A-Za-z])", pattern)))
    starts: dict[str, datetime] = {}
    for name in names:
        found = looks.search(Path(name).name)
        if found is None:
            raise DataError(
                f"raw_log '{name}': no '{pattern}' in the file's name; correct source.paths or partition_pattern"
            )
        try:
            starts[name] = datetime.strptime(found.group(), pattern).replace(tzinfo=UTC)
        except ValueError as error:
            raise DataError(f"raw_log '{name}': {error}; correct the name or partition_pattern") from error
    window = request.window
    start = _utc(window.start) or min(starts.values())
    end = _utc(window.end) or max(starts.values()) + length
    inside = sorted(
        (name for name in names if starts[name] < end and starts[name] + length > start),
        key=lambda name: (starts[name], name),
    )
    moment, missing = start - (start - datetime(1970, 1, 1, tzinfo=UTC)) % length, []
    there = set(starts.values())
    while moment < end:
        if moment not in there:
            missing.append(moment.strftime(pattern))
        moment += length
    if missing:
        shown = f"{missing[:SHOWN]}{' and more' if len(missing) > SHOWN else ''}"
        raise DataError(
            f"raw_log {request.log}: no such part: {len(missing)} partition(s) of the window {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} "
            f"are missing: {shown}; those there run from {min(there).strftime(pattern)} to {max(there).strftime(pattern)}"
        )
    return tuple(inside)


def _utc(moment: datetime | None) -> datetime | None:
    return moment if moment is None or moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _count(request: LogRequest, file: SourceFile) -> int:
    way = _way(file.name)
    if way == "text":
        return count_rows(file, _layout(request, file.name))
    return (
        _count_json(request, file)
        if way == "json"
        else open_parquet(request.schema, _ignored(_options(request)), file)[2]
    )


def _count_json(request: LogRequest, file: SourceFile) -> int:
    _refuse_columns(request.schema, _ignored(_options(request)), file, _json_columns(file))
    num_rows = sum(1 for line in lines(file) if not line.isspace())
    if num_rows == 0:
        raise DataError(f"raw_log '{file.name}': the file is empty: no rows; its rows were expected")
    return num_rows


def _json_columns(file: SourceFile) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for number, line in enumerate(itertools.islice(lines(file), SHOWING_LINES), start=1):
        found.update(dict.fromkeys(_json_row(file, number, line)))
    return tuple(found)


def _json_row(file: SourceFile, number: int, line: bytes) -> dict[str, object]:
    if line.isspace():
        return {}
    try:
        row = json.loads(line)
    except UnicodeDecodeError as error:
        raise DataError(
            f"raw_log '{file.name}': line {number}: byte 0x{line[error.start]:02x} is not UTF-8; convert the file"
        ) from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"raw_log '{file.name}': line {number} is not JSON ({error}); one object a line was expected"
        ) from error
    except RecursionError as error:
        raise DataError(
            f"raw_log '{file.name}': line {number} is nested too deeply; one flat object a line was expected"
        ) from error
    if not isinstance(row, dict):
        raise DataError(
            f"raw_log '{file.name}': line {number} is a JSON {type(row).__name__}; one object a line was expected"
        )
    return row


def find_json_fault(file: SourceFile) -> DataError | None:
    """Look at each line of a JSON lines file that polars could not read; None where all are well."""
    try:
        for number, line in enumerate(lines(file), start=1):
            _json_row(file, number, line)
    except DataError as fault:
        return fault
    return None


def _refuse_columns(
    schema: LogSchema, ignored: frozenset[str] | None, file: SourceFile, found: tuple[str, ...]
) -> None:
    needed = needed_columns(schema)
    missing = [name for name in needed if name not in found]
    extra = [] if ignored is None else [name for name in found if name not in needed and name not in ignored]
    if missing or extra:
        problems = [
            f"{what} {names[:8]}" for names, what in ((missing, "missing"), (extra, "not in the schema")) if names
        ]
        raise DataError(
            f"raw_log '{file.name}': {len(found)} columns found, {len(needed)} expected; {'; '.join(problems)}; correct the file, the schema or "
            f"source.options.ignored_columns"
        )


def open_parquet(
    schema: LogSchema, ignored: frozenset[str] | None, file: SourceFile
) -> tuple[pl.LazyFrame, dict[str, pl.DataType], int]:
    """A Parquet file's own rows with _number from 0, its columns' types and number of rows; raises DataError where it does not fit."""
    refuse_missing(file)
    try:
        frame = pl.scan_parquet(file.path, row_index_name=NUMBER, glob=False)
        kinds = dict(pl.scan_parquet(file.path, glob=False).collect_schema())
        num_rows = int(frame.select(pl.len()).collect().item())
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(
            f"raw_log '{file.name}': not readable as Parquet ({str(error).splitlines()[0]}); it has {file.path.stat().st_size:,} bytes: get the whole file"
        ) from error
    _refuse_columns(schema, ignored, file, tuple(kinds))
    refuse_unreadable_kinds(file.name, schema, kinds)
    if num_rows == 0:
        raise DataError(f"raw_log '{file.name}': the file is empty: no rows; its rows were expected")
    return frame, kinds, num_rows


def _open_json(
    request: LogRequest, file: SourceFile, scratch: Path
) -> tuple[pl.LazyFrame, dict[str, pl.DataType], int]:
    plain = laid_plain(file, scratch)
    num_rows = _count_json(request, plain)
    kinds: dict[str, pl.DataType] = {name: pl.String() for name in needed_columns(request.schema)}
    return pl.scan_ndjson(plain.path, schema=kinds, row_index_name=NUMBER), kinds, num_rows


def _open_text(
    request: LogRequest, file: SourceFile, scratch: Path
) -> tuple[pl.LazyFrame, dict[str, pl.DataType], int]:
    return scan_text(file, _layout(request, file.name), scratch)


def scan_parquet_partitions(raw_log: RawLog, ignored: frozenset[str]) -> pl.LazyFrame:
    """Standard rows of Parquet partitions that may have the columns `ignored` too; the simulated log reads its own files so."""
    request = raw_log.request
    return _scan_with(raw_log, lambda file: open_parquet(request.schema, ignored, file))


def _scan(raw_log: RawLog, scratch: Path) -> pl.LazyFrame:
    request = raw_log.request

    def open_file(file: SourceFile) -> tuple[pl.LazyFrame, dict[str, pl.DataType], int]:
        way = _way(file.name)
        if way == "text":
            return _open_text(request, file, scratch)
        return (
            _open_json(request, file, scratch)
            if way == "json"
            else open_parquet(request.schema, _ignored(_options(request)), file)
        )

    return _scan_with(raw_log, open_file)


def _scan_with(
    raw_log: RawLog, open_file: Callable[[SourceFile], tuple[pl.LazyFrame, dict[str, pl.DataType], int]]
) -> pl.LazyFrame:
    frames = []
    first_number = 0
    for partition in raw_log.partitions:
        raw, kinds, num_rows = open_file(file_of(raw_log, partition))
        frames.append(
            standard_rows(raw, kinds, raw_log.request.schema, partition.name, partition.part, first_number, ())
        )
        first_number += num_rows
    refuse_none(raw_log.request, tuple(partition.name for partition in raw_log.partitions))
    return pl.concat(frames)


READER = Reader(wanted=_wanted, part=no_part, count=_count, scan=_scan)
