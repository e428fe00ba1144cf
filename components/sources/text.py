"""Text logs with one row a line and separated columns; what Criteo, Avazu, MovieLens, libfm and CSV tables share.

polars reads them at full speed but fills short lines up with nulls in silence, so every file is proved first, in one
pass over its bytes: UTF-8 throughout, and a line end after every so many separators. Only a file that fails is looked
at line by line, to name the line; one with quotation marks is read by the csv module, as only that shows its rows.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from components.errors import DataError
from components.sources.plain import CHUNK_BYTES, SourceFile, chunks, laid_plain, lines
from components.sources.standard import NUMBER

WORD_FOR = {"\t": "a tab", ",": "a comma", ";": "a semicolon", "|": "a bar", " ": "a space"}


@dataclass(frozen=True)
class TextLayout:
    """How the columns of a text log stand in its lines.

    columns  the columns in order, or, with a header, those that must be there in any order
    ignored  further columns that a header may have; None for any
    quote    the sign around values that hold separators or line ends; None where values never do
    """

    separator: str
    quote: str | None
    has_header: bool
    columns: tuple[str, ...]
    ignored: frozenset[str] | None


def columns_in_file(file: SourceFile, layout: TextLayout) -> tuple[str, ...]:
    """The file's columns in its own order; raises DataError for a missing, extra or doubled column or another separator."""
    if not layout.has_header:
        return layout.columns
    header = next(lines(file))
    try:
        (found,) = csv.reader(
            [header.decode("utf-8-sig").rstrip("\r\n")], delimiter=layout.separator, quotechar=layout.quote
        )
    except (UnicodeDecodeError, csv.Error, ValueError) as error:
        raise DataError(f"raw_log '{file.name}': line 1 is not readable as a header ({error})") from error
    missing = [name for name in layout.columns if name not in found]
    known = {*layout.columns, *(layout.ignored or ())}
    extra = [] if layout.ignored is None else [name for name in found if name not in known]
    doubled = sorted({name for name in found if found.count(name) > 1})
    if not (missing or extra or doubled):
        return tuple(found)
    problems = [
        f"{len(names)} column{'' if len(names) == 1 else 's'} {what} {names[:8]}"
        for names, what in ((missing, "missing:"), (extra, "too many:"), (doubled, "named twice:"))
        if names
    ]
    advice = _other_separator(header, layout) or "correct the file, or the columns that the schema names"
    raise DataError(
        f"raw_log '{file.name}': the header has {len(found)} columns, {len(layout.columns)} were expected; {'; '.join(problems)}; {advice}"
    )


def count_rows(file: SourceFile, layout: TextLayout) -> int:
    """The number of rows in a file, exact, once it is proved sound; raises DataError naming file, line and column."""
    columns = columns_in_file(file, layout)
    evenness = _Evenness(layout, len(columns))
    has_quotes, is_ascii = False, True
    decoder = codecs.getincrementaldecoder("utf-8")()
    for chunk in chunks(file):
        if not (is_ascii and chunk.isascii()):
            is_ascii = False
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:
                raise _not_utf8(file, layout, columns) from error
        evenness.add(chunk)
        has_quotes = has_quotes or (layout.quote is not None and layout.quote.encode() in chunk)
    if decoder.getstate()[0]:
        raise _not_utf8(file, layout, columns)
    if has_quotes:
        num_lines = sum(1 for _ in _quoted_rows(file, layout, columns))
    else:
        num_lines = evenness.num_lines()
        if not evenness.holds():
            raise _wrong_width(file, layout, columns)
    num_rows = num_lines - layout.has_header
    if num_rows <= 0:
        raise DataError(
            f"raw_log '{file.name}': the file is empty: {num_lines} line(s) and no rows; its rows were expected"
        )
    return num_rows


def is_even(lines: bytes, layout: TextLayout, num_columns: int) -> bool:
    """Whether each of some whole lines has as many columns as it should."""
    evenness = _Evenness(layout, num_columns)
    for first in range(0, len(lines), CHUNK_BYTES):
        evenness.add(lines[first : first + CHUNK_BYTES])
    return evenness.holds()


class _Evenness:
    """Whether a line end stands after every so many separators in bytes that stream by, and nowhere else."""

    def __init__(self, layout: TextLayout, num_columns: int) -> None:
        self._separator = ord(layout.separator)
        self._num_columns = num_columns
        self._num_ends = 0
        self._num_signs = 0
        self._is_even = True
        self._last = b"\n"

    def add(self, chunk: bytes) -> None:
        signs = np.frombuffer(chunk, np.uint8)
        signs = signs[np.flatnonzero((signs == ord("\n")) | (signs == self._separator))]
        is_end = signs == ord("\n")
        num_ends = int(np.count_nonzero(is_end))
        first = self._num_columns - 1 - self._num_signs % self._num_columns
        self._is_even = self._is_even and np.count_nonzero(is_end[first :: self._num_columns]) == num_ends
        self._num_ends += num_ends
        self._num_signs += len(signs)
        self._last = chunk[-1:]

    def num_lines(self) -> int:
        return self._num_ends + (self._last != b"\n")

    def holds(self) -> bool:
        return self._is_even and self._num_signs + (self._last != b"\n") == self.num_lines() * self._num_columns


def scan_text(file: SourceFile, layout: TextLayout, scratch: Path) -> tuple[pl.LazyFrame, dict[str, pl.DataType], int]:
    """The rows of a file that was proved sound, all columns String, with _number from 0; the columns' types; and the number of rows."""
    plain = laid_plain(file, scratch)
    num_rows = count_rows(SourceFile(plain.name, plain.path), layout)
    columns = columns_in_file(plain, layout)
    frame = pl.scan_csv(
        plain.path,
        separator=layout.separator,
        quote_char=layout.quote,
        has_header=layout.has_header,
        schema={name: pl.String() for name in columns},
        row_index_name=NUMBER,
        glob=False,
    )
    return frame, {name: pl.String() for name in columns}, num_rows


def _quoted_rows(file: SourceFile, layout: TextLayout, columns: tuple[str, ...]) -> Iterator[list[str]]:
    reader = csv.reader(
        (line.decode() for line in lines(file)), delimiter=layout.separator, quotechar=layout.quote, strict=True
    )
    try:
        for row in reader:
            if len(row) != len(columns):
                raise DataError(
                    f"raw_log '{file.name}': line {reader.line_num} has {len(row)} columns where {len(columns)} were expected"
                    f"{_first_lacking(row, columns)}; correct the file or schema and source"
                )
            yield row
    except csv.Error as error:
        raise DataError(
            f"raw_log '{file.name}': line {reader.line_num} is not readable ({error}); is a quotation mark left open?"
        ) from error


def _first_lacking(row: list[str], columns: tuple[str, ...]) -> str:
    return f", column '{columns[len(row)]}' is lacking" if len(row) < len(columns) else ""


def _wrong_width(file: SourceFile, layout: TextLayout, columns: tuple[str, ...]) -> DataError:
    separator = layout.separator.encode()
    first: tuple[int, list[str], bytes] | None = None
    num_wrong, num_lines = 0, 0
    for number, line in enumerate(lines(file), start=1):
        num_lines += 1
        if line.count(separator) != len(columns) - 1:
            num_wrong += 1
            first = first or (number, line.decode().rstrip("\r\n").split(layout.separator), line)
    assert first is not None, "only called where a line is known to be uneven"
    number, values, line = first
    advice = _other_separator(line, layout) or "correct the file or schema and source"
    return DataError(
        f"raw_log '{file.name}': line {number} has {len(values)} columns where {len(columns)} were expected"
        f"{_first_lacking(values, columns)} ({num_wrong:,} of {num_lines:,} lines are so); {advice}"
    )


def _other_separator(line: bytes, layout: TextLayout) -> str | None:
    counts = {sign: line.count(sign.encode()) for sign in WORD_FOR if sign != layout.separator}
    best = max(counts, key=lambda sign: counts[sign])
    if layout.separator.encode() in line or counts[best] == 0:
        return None
    expected = WORD_FOR.get(layout.separator, repr(layout.separator))
    return f"no line should lack {expected}, but this one seems separated by {WORD_FOR[best]}: correct the separator or the file"


def _not_utf8(file: SourceFile, layout: TextLayout, columns: tuple[str, ...]) -> DataError:
    for number, line in enumerate(lines(file), start=1):
        try:
            line.decode()
        except UnicodeDecodeError as error:
            place = line[: error.start].count(layout.separator.encode())
            column = columns[place] if place < len(columns) else f"number {place + 1}"
            return DataError(
                f"raw_log '{file.name}': line {number}, column '{column}': byte 0x{line[error.start]:02x} is not UTF-8; "
                f"convert the file to UTF-8"
            )
    raise AssertionError("only called where a byte is not UTF-8")
