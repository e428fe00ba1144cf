"""Text logs a block of whole lines at a time: each block is proved and read by itself, so that threads share the work.

Numbers are read as numbers at once. A block in which that might say something else than the careful way (a value that is no finite
number, a click that is no small whole number, a field that begins with a space) is read the careful way, as texts that are cast later.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from components.errors import DataError
from components.log import LogSchema
from components.sources.plain import SourceFile
from components.sources.standard import NUMBER
from components.sources.text import TextLayout, count_rows, is_even

# Some ten thousand rows: read in a few hundredths of a second, and a few of them fit into the cache.
BLOCK_BYTES = 1 << 24
_LOOK_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"

Signs = np.ndarray[Any, np.dtype[np.uint8]]


def lines_in_blocks(file: SourceFile, layout: TextLayout) -> Iterator[tuple[bytes, int]]:
    """The lines of an uncompressed file without its header, many at once, and how many they are; raises DataError where there are none."""
    num_lines = 0
    for block in _whole_lines(file, layout.has_header):
        num_here = _count(block, b"\n") + (not block.endswith(b"\n"))
        num_lines += num_here
        yield block, num_here
    if not num_lines:
        count_rows(file, layout)  # which says what is lacking


def quick_kinds(schema: LogSchema) -> dict[str, pl.DataType]:
    """The columns that are read as numbers at once: those of numeric fields, and the click as a small whole number."""
    names = [schema.click, schema.time.column if schema.time else None, schema.impression]
    names += [field.name for field in schema.column_fields]
    kinds: dict[str, pl.DataType] = {
        field.name: pl.Float64() for field in schema.column_fields if field.kind == "numeric"
    }
    return {name: kind for name, kind in {**kinds, schema.click: pl.Int8()}.items() if names.count(name) == 1}


def read_block(
    block: bytes,
    num_lines: int,
    file: SourceFile,
    layout: TextLayout,
    columns: tuple[str, ...],
    quick: dict[str, pl.DataType],
) -> tuple[pl.DataFrame, dict[str, pl.DataType]]:
    """The rows of whole lines with _number from 0 and the columns' types, no text empty and no float but finite; raises DataError.

    columns  of the file, in its own order
    quick    those to be read as numbers where that says the same
    """
    _prove(block, num_lines, file, layout, len(columns))
    texts: dict[str, pl.DataType] = {name: pl.String() for name in columns}
    read = functools.partial(
        pl.read_csv, block, separator=layout.separator, quote_char=None, has_header=False, row_index_name=NUMBER
    )
    if quick and not _may_begin_with_space(block, layout):
        kinds = {name: quick.get(name, kind) for name, kind in texts.items()}
        try:
            rows = read(schema=kinds)
        except pl.exceptions.PolarsError:
            pass  # a value that is no such number, or a line too long
        else:
            if _are_finite(rows, [name for name, kind in quick.items() if kind.is_float()]):
                return rows, kinds
    if not is_even(block, layout, len(columns)):
        _refuse(file, layout)
    return read(schema=texts), texts


def _prove(block: bytes, num_lines: int, file: SourceFile, layout: TextLayout, num_columns: int) -> None:
    """UTF-8, and so many separators in all; a line with too many is refused by the engine, so none has too few."""
    try:
        if not block.isascii():
            block.decode()
    except UnicodeDecodeError:
        _refuse(file, layout)
    if _count(block, layout.separator.encode()) != num_lines * (num_columns - 1):
        _refuse(file, layout)


def _refuse(file: SourceFile, layout: TextLayout) -> None:
    """Raise the DataError that names the line."""
    count_rows(file, layout)
    raise DataError(f"raw_log '{file.name}': the file changed while it was read; run the stage again")


def _may_begin_with_space(block: bytes, layout: TextLayout) -> bool:
    """Whether a field may, before which the engine would skip it in a number (or the mark of UTF-8)."""
    separator = layout.separator.encode()
    # Each is searched for alone first, which is far faster.
    spaces = [space for space in (b" ", b"\t") if space != separator and space in block]
    begins = block.startswith((b" ", b"\t", _BOM))
    return begins or any(before + space in block for space in spaces for before in (separator, b"\n"))


def _are_finite(rows: pl.DataFrame, names: list[str]) -> bool:
    if not names:
        return True
    return bool(rows.select(pl.all_horizontal([pl.col(name).is_finite().all() for name in names])).item())


def _whole_lines(file: SourceFile, has_header: bool) -> Iterator[bytes]:
    with file.path.open("rb") as source:
        if has_header:
            source.readline()
        while block := source.read(BLOCK_BYTES):
            yield block if block.endswith(b"\n") else block + source.readline()


def _count(block: bytes, sign: bytes) -> int:
    """As bytes.count, which holds Python's lock meanwhile."""
    signs: Signs = np.frombuffer(block, np.uint8)
    return sum(
        int(np.count_nonzero(signs[first : first + _LOOK_BYTES] == sign[0]))
        for first in range(0, len(signs), _LOOK_BYTES)
    )
