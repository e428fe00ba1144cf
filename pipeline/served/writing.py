"""Rows on their way to the disk: appended line by line while requests are answered, or a scored log whole."""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
import uuid
from pathlib import Path

import polars as pl

from components.artifact import flush, write_table
from components.log import CLICK, MICROSECONDS_AN_HOUR, TIME, LogSchema, moment_of
from components.profiling.binning import Floats
from pipeline.served.columns import served_schema, served_table

_MICROSECONDS_A_DAY = 24 * MICROSECONDS_AN_HOUR


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
            start = moment_of(int(str(hour)) * MICROSECONDS_AN_HOUR)
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
            flush(path.parent)
        if is_new_folder:
            flush(self._folder)


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

    @property
    def files(self) -> str:
        """What finds the files that are written: a pattern for globs."""
        return f"{self._folder}/*/{self._name}-*.parquet"

    def append(self, rows: pl.DataFrame, scores: Floats) -> None:
        """Write one chunk of rows (_impression, _time, _click, column fields); each file appears whole."""
        table = served_table(rows, scores, self._digest, self._schema)
        for (day,), part in table.group_by([pl.col(TIME) // _MICROSECONDS_A_DAY], maintain_order=True):
            place = self._folder / f"{moment_of(int(str(day)) * _MICROSECONDS_A_DAY):%Y-%m-%d}"
            place.mkdir(parents=True, exist_ok=True)
            path = place / f"{self._name}-{self._num_chunks:05d}.parquet"
            hidden = place / f".{path.name}.{os.getpid()}"
            write_table(hidden, part)
            flush(hidden)
            hidden.rename(path)
            flush(place)
            self._earlier.discard(path)
        self._num_chunks += 1

    def close(self) -> None:
        """Remove what an earlier scoring of the same log wrote beyond this one."""
        for path in self._earlier:
            path.unlink()
