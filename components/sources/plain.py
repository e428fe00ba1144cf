"""The bytes of a log's file, decompressed as they stream by; below every text format of `components.sources`.

A gzip or Zstandard stream that ends before its end mark, or does not decompress, is a DataError that names the file.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

from components.errors import DataError

CHUNK_BYTES = 1 << 18  # small enough for a core's cache, as each chunk is looked at several times
COMPRESSIONS = (".gz", ".zst")


@dataclass(frozen=True)
class SourceFile:
    """A file of a log: what people know it by (its name ends in its format, ".csv.gz"), and where its copy lies."""

    name: str
    path: Path


def kind_of(name: str) -> str:
    """The ending that says what stands in a file, compression aside: ".csv" for "2026-03-02.csv.gz"."""
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    return Path(name).suffix.lower()


def is_compressed(name: str) -> bool:
    """The file's name says that its bytes are compressed."""
    return name.endswith(COMPRESSIONS)


def refuse_missing(file: SourceFile) -> None:
    """Raise DataError where a file is not there or holds no bytes."""
    if not file.path.is_file():
        raise DataError(f"raw_log '{file.name}': the file is missing; run fetch again, or take it out of source.paths")
    if file.path.stat().st_size == 0:
        raise DataError(f"raw_log '{file.name}': the file is empty (0 bytes); its rows were expected")


def chunks(file: SourceFile) -> Iterator[bytes]:
    """The plain bytes of a file, a quarter of a mebibyte at a time; raises DataError for one missing, empty, cut off or damaged."""
    refuse_missing(file)
    if file.name.endswith(".gz"):
        yield from _gunzipped(file)
    elif file.name.endswith(".zst"):
        yield from _unzstandard(file)
    else:
        yield from _raw(file.path)


def lines(file: SourceFile) -> Iterator[bytes]:
    """The plain lines of a file, each with its line end; for looking closely, not for speed."""
    rest = b""
    for chunk in chunks(file):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line + b"\n"
    if rest:
        yield rest


def laid_plain(file: SourceFile, scratch: Path) -> SourceFile:
    """The same file uncompressed: itself, or a copy in `scratch` that is written once and used again."""
    if not is_compressed(file.name):
        refuse_missing(file)
        return file
    name = file.name.removesuffix(".gz").removesuffix(".zst")
    place = scratch / f"{file.path.name}.plain"
    if not place.exists():
        scratch.mkdir(parents=True, exist_ok=True)
        unfinished = place.with_suffix(".unfinished")
        with unfinished.open("wb") as target:
            for chunk in chunks(file):
                target.write(chunk)
        unfinished.rename(place)
    return SourceFile(name, place)


def _raw(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as source:
        while chunk := source.read(CHUNK_BYTES):
            yield chunk


def _gunzipped(file: SourceFile) -> Iterator[bytes]:
    num_bytes = 0
    stream = zlib.decompressobj(wbits=31)
    is_open = True
    for packed in _raw(file.path):
        while packed:
            if not is_open:  # another member follows; zero bytes after the last one are padding
                packed = packed.lstrip(b"\0")
                if not packed:
                    break
                stream, is_open = zlib.decompressobj(wbits=31), True
            try:
                plain = stream.decompress(packed, CHUNK_BYTES)
            except zlib.error as error:
                raise _damaged(file, "gzip", num_bytes, str(error)) from error
            num_bytes += len(plain)
            if plain:
                yield plain
            packed = stream.unconsumed_tail
            if stream.eof:
                packed, is_open = stream.unused_data, False
    if is_open:
        raise _cut_off(file, "gzip", num_bytes)


def _unzstandard(file: SourceFile) -> Iterator[bytes]:
    num_bytes = 0
    stream = zstandard.ZstdDecompressor().decompressobj()
    is_open = True
    for packed in _raw(file.path):
        while packed:
            if not is_open:
                stream, is_open = zstandard.ZstdDecompressor().decompressobj(), True
            try:
                plain = stream.decompress(packed)
            except zstandard.ZstdError as error:
                raise _damaged(file, "Zstandard", num_bytes, str(error)) from error
            num_bytes += len(plain)
            if plain:
                yield plain
            packed = b""
            if stream.eof:
                packed, is_open = stream.unused_data, False
    if is_open:
        raise _cut_off(file, "Zstandard", num_bytes)


def _cut_off(file: SourceFile, what: str, num_bytes: int) -> DataError:
    return DataError(
        f"raw_log '{file.name}': the {what} stream is cut off: its {file.path.stat().st_size:,} bytes end without the end mark, "
        f"after {num_bytes:,} plain bytes; get the whole file and run fetch again"
    )


def _damaged(file: SourceFile, what: str, num_bytes: int, reason: str) -> DataError:
    return DataError(
        f"raw_log '{file.name}': not readable as {what} after {num_bytes:,} plain bytes ({reason}); "
        f"get the file anew, or correct the ending of its name if it is not compressed"
    )
