"""Raw logs as they lie in the world: one file a format; their rows, lazily, under the columns of `components.sources.standard`.

fetch   names = wanted(request, names found); copies those; `partitions(request, files)` proves and counts them
        (a simulated log is made by `simulated.simulate_request` instead)
check   with reading(raw_log, scratch): for piece in pieces(raw_log, scratch): rows = piece() ... on any thread
        or, lazily: rows = scan(raw_log, scratch) ... collect or sink

A fault of a file as a whole (missing, empty, cut off, another separator, a missing or extra column, a byte that is not UTF-8) is a
DataError from `wanted`, `partitions`, `scan` or a piece; one that shows only while rows stream by becomes a DataError in `reading`. A row that
cannot be read is no error but has its reason in _broken; a click of 2 or a time in a wrong unit come through as found, for check to
count (`suspect_time_unit` says which unit would fit). The order of the rows that `scan` yields is not promised: _number is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from components.errors import ConfigError, DataError
from components.log import LogRequest, Partition, RawLog
from components.sources import avazu, criteo, libfm, movielens, simulated, table
from components.sources.plain import SourceFile, kind_of
from components.sources.reader import Piece, Reader, file_of, pieces_of
from components.sources.standard import BROKEN, NUMBER, SOURCE, needed_columns, suspect_time_unit

__all__ = [
    "BROKEN",
    "FORMATS",
    "NUMBER",
    "SOURCE",
    "Piece",
    "SourceFile",
    "needed_columns",
    "partitions",
    "pieces",
    "reading",
    "scan",
    "scan_truth",
    "suspect_time_unit",
    "translate_error",
    "wanted",
]

FORMATS: dict[str, Reader] = {
    "simulated": simulated.READER,
    "table": table.READER,
    "criteo": criteo.READER,
    "avazu": avazu.READER,
    "movielens": movielens.READER,
    "libfm": libfm.READER,
}
OWN_COLUMNS = ("_part", "_source", "_number", "_time", "_click", "_impression", "_broken", "_row")


def wanted(request: LogRequest, names: tuple[str, ...]) -> tuple[str, ...]:
    """Which of the files found (distinct names) the window needs, in source order; raises DataError where one is lacking."""
    _refuse_own_columns(request)
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ConfigError(
            f"logs/{request.log}.yaml source.paths: two files have the same name: {doubled}; a file's name must say which it is"
        )
    return FORMATS[request.source.format].wanted(request, names)


def partitions(request: LogRequest, files: tuple[SourceFile, ...]) -> tuple[Partition, ...]:
    """What the manifest says of each file, proved sound and counted row by row; raises DataError naming file, line and column."""
    reader = FORMATS[request.source.format]
    described = []
    for file in files:
        num_rows = reader.count(request, file)
        with file.path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        described.append(
            Partition(file.name, digest, file.path.stat().st_size, num_rows, reader.part(request, file.name))
        )
    return tuple(described)


def scan(raw_log: RawLog, scratch: Path) -> pl.LazyFrame:
    """All rows of a raw log, lazily, in the columns of `standard`; compressed text is decompressed into `scratch` first."""
    _refuse_own_columns(raw_log.request)
    return FORMATS[raw_log.request.source.format].scan(raw_log, scratch)


def pieces(raw_log: RawLog, scratch: Path) -> Iterator[Piece]:
    """The rows of `scan` as functions that each read some of them, in their order; a function may be called on any thread."""
    _refuse_own_columns(raw_log.request)
    own = FORMATS[raw_log.request.source.format].pieces
    return pieces_of(scan(raw_log, scratch)) if own is None else own(raw_log, scratch)


def scan_truth(raw_log: RawLog) -> pl.LazyFrame | None:
    """The true click probability of each impression (_impression, probability); None for any but a simulated log."""
    if not raw_log.truth:
        return None
    return pl.concat([pl.scan_parquet(raw_log.path_of(partition), glob=False) for partition in raw_log.truth])


@contextmanager
def reading(raw_log: RawLog, scratch: Path) -> Iterator[None]:
    """Work that collects or sinks rows of `raw_log`: what polars raises then becomes a DataError that names the file."""
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        raise translate_error(error, raw_log, scratch) from error


def translate_error(error: BaseException, raw_log: RawLog, scratch: Path) -> DataError:
    """The DataError for what polars raised while rows streamed by; each file is read once more alone to find the one at fault."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    for partition in raw_log.partitions:
        file = file_of(raw_log, partition)
        if raw_log.request.source.format == "table" and kind_of(file.name) in (".jsonl", ".ndjson"):
            fault = table.find_json_fault(file)
            if fault is not None:
                return fault
        if raw_log.request.source.format == "movielens":  # its files are only read together
            continue
        alone = RawLog(raw_log.request, (partition,), (), raw_log.folder)
        try:
            scan(alone, scratch).select(pl.all().null_count()).collect(engine="streaming")
        except DataError as fault:
            return fault
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as own:
            return DataError(
                f"raw_log '{partition.name}': its rows are not readable ({(str(own).splitlines() or [''])[0]}); get the file anew"
            )
    names = [partition.name for partition in raw_log.partitions]
    return DataError(f"raw_log {raw_log.request.log}: its rows are not readable ({reason}); files: {names[:8]}")


def _refuse_own_columns(request: LogRequest) -> None:
    taken = [name for name in needed_columns(request.schema) if name in OWN_COLUMNS]
    doubled = sorted({name for name in request.schema.field_names if request.schema.field_names.count(name) > 1})
    if taken or doubled:
        raise ConfigError(
            f"logs/{request.log}.yaml schema: columns named {taken} are this system's own, fields named twice: {doubled}; rename them"
        )
