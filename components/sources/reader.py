"""What each format of `components.sources` must be able to do."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import polars as pl

from components.errors import ConfigError, DataError
from components.log import LogRequest, LogSchema, Partition, RawLog
from components.sources.blocks import lines_in_blocks, quick_kinds, read_block
from components.sources.plain import SourceFile, laid_plain
from components.sources.standard import Fault, refuse_unknown_columns, standard_frame, standard_rows
from components.sources.text import TextLayout, columns_in_file, count_rows, scan_text
from components.strict import Strict, parse

Options = TypeVar("Options")
Piece = Callable[[], pl.DataFrame]

_PIECE_ROWS = 65_536


@dataclass(frozen=True)
class Reader:
    """One format.

    wanted  which of the files found (by name) the window needs, in the order their rows have; refuses options that do not fit
    part    the published split that a file, by name, is; null for logs that are not published in files
    count   the number of rows of one file, once it is proved sound
    scan    the standard columns of all partitions; scratch takes what must be decompressed first
    pieces  the rows of `scan`, some at a time in their order: each is a function that reads them, on any thread; null where
            the rows can only be had one after the other
    """

    wanted: Callable[[LogRequest, tuple[str, ...]], tuple[str, ...]]
    part: Callable[[LogRequest, str], str | None]
    count: Callable[[LogRequest, SourceFile], int]
    scan: Callable[[RawLog, Path], pl.LazyFrame]
    pieces: Callable[[RawLog, Path], Iterator[Piece]] | None = None


@dataclass(frozen=True)
class NoOptions(Strict):
    """For formats that have none; any key is a ConfigError."""


def options_of(request: LogRequest, kind: type[Options]) -> Options:
    """The source's options as `kind`; raises ConfigError naming what is unknown, missing or wrong."""
    return parse(
        kind, request.source.options, f"logs/{request.log}.yaml source.options ({request.source.format})", ConfigError
    )


def file_of(raw_log: RawLog, partition: Partition) -> SourceFile:
    """One partition's file under its own name."""
    return SourceFile(partition.name, raw_log.path_of(partition))


def every_file(request: LogRequest, names: tuple[str, ...]) -> tuple[str, ...]:
    """All files in the order found; what `wanted` is for a format that has neither options nor dates in its names."""
    options_of(request, NoOptions)
    refuse_none(request, names)
    return names


def no_part(_request: LogRequest, _name: str) -> str | None:
    """What `part` is for a log that is not published in splits."""
    return None


def refuse_none(request: LogRequest, names: tuple[str, ...]) -> None:
    """Raise DataError where no file was found at all."""
    if not names:
        raise DataError(
            f"raw_log {request.log}: no file found at {list(request.source.paths)}; at least one was expected"
        )


def fixed_text_reader(format_name: str, layout: TextLayout) -> Reader:
    """The reader of a format whose files all have the same columns, which are the log's own; the schema may leave some out."""

    def count(request: LogRequest, file: SourceFile) -> int:
        refuse_unknown_columns(request.log, request.schema, layout.columns, format_name)
        return count_rows(file, layout)

    def scan(raw_log: RawLog, scratch: Path) -> pl.LazyFrame:
        refuse_unknown_columns(raw_log.request.log, raw_log.request.schema, layout.columns, format_name)
        return scan_text_partitions(raw_log, scratch, layout, lambda raw: raw, ())

    def pieces(raw_log: RawLog, scratch: Path) -> Iterator[Piece]:
        refuse_unknown_columns(raw_log.request.log, raw_log.request.schema, layout.columns, format_name)
        return _text_pieces(raw_log, scratch, layout)

    return Reader(wanted=every_file, part=no_part, count=count, scan=scan, pieces=pieces)


def _text_pieces(raw_log: RawLog, scratch: Path, layout: TextLayout) -> Iterator[Piece]:
    """What `scan_text_partitions` gives, in pieces, of files in which no value is within quotation marks."""
    refuse_none(raw_log.request, tuple(partition.name for partition in raw_log.partitions))
    first_number = 0
    for partition in raw_log.partitions:
        plain = laid_plain(file_of(raw_log, partition), scratch)
        columns = columns_in_file(plain, layout)
        for block, num_lines in lines_in_blocks(plain, layout):
            place = _Place(raw_log.request.schema, partition, plain, layout, columns, first_number)
            yield functools.partial(_read_piece, place, block, num_lines)
            first_number += num_lines


@dataclass(frozen=True)
class _Place:
    """Where a block of lines stands: in which file, with what columns, and the number of its first row."""

    schema: LogSchema
    partition: Partition
    plain: SourceFile
    layout: TextLayout
    columns: tuple[str, ...]
    first_number: int


def _read_piece(place: _Place, block: bytes, num_lines: int) -> pl.DataFrame:
    quick = quick_kinds(place.schema)
    raw, kinds = read_block(block, num_lines, place.plain, place.layout, place.columns, quick)
    partition = place.partition
    return standard_frame(raw, kinds, place.schema, partition.name, partition.part, place.first_number)


def pieces_of(rows: pl.LazyFrame) -> Iterator[Piece]:
    """The rows of a lazy table, some at a time in their order."""
    for frame in rows.collect_batches(chunk_size=_PIECE_ROWS, maintain_order=True):
        yield functools.partial(_given, frame)


def _given(frame: pl.DataFrame) -> pl.DataFrame:
    return frame


def scan_text_partitions(
    raw_log: RawLog,
    scratch: Path,
    layout: TextLayout,
    recast: Callable[[pl.LazyFrame], pl.LazyFrame],
    faults: tuple[Fault, ...],
) -> pl.LazyFrame:
    """Standard rows of text files of one layout; `recast` makes the log's columns of the file's."""
    frames = []
    first_number = 0
    for partition in raw_log.partitions:
        raw, kinds, num_rows = scan_text(file_of(raw_log, partition), layout, scratch)
        frames.append(
            standard_rows(
                recast(raw), kinds, raw_log.request.schema, partition.name, partition.part, first_number, faults
            )
        )
        first_number += num_rows
    refuse_none(raw_log.request, tuple(partition.name for partition in raw_log.partitions))
    return pl.concat(frames)
