"""Raw row -> score: the scorer, exported and torch-free; it stands after the calibrator and is what is served.

A scorer is everything a score needs: schema, encoder, the ranker as ONNX, calibrator. One row or a thousand get the same
score to 1e-12: the export sums in float64, and only the order of its sums may change with the number of rows; no
calibrator makes more of that than its bounded slope. Importing this module never imports torch.
Shape letters: R rows of a table, F fields.
"""

from __future__ import annotations

import datetime
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import onnxruntime
import polars as pl
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_errors

from components.artifact import read_json, write_json
from components.calibrating import Calibrator, Floats
from components.encoding import Encoder
from components.errors import DataError, IntegrityError, shortened
from components.log import IMPRESSION, TIME, LogSchema, microseconds
from components.strict import Strict, parse

ONNX_IDS = "ids"
ONNX_LOGITS = "logits"

_EARLIEST_TIME = 10**14
"""Microseconds up to 3 March 1973: an integer time below it was meant as seconds or milliseconds."""


@dataclass(frozen=True)
class ScorerFacts(Strict):
    """What is known of the ranker inside, and how it is run.

    num_parameters            trained numbers beside the embeddings
    num_embedding_parameters  trained numbers of the embeddings
    num_flops_per_row         floating point operations of matrix products and convolutions for one row
    num_threads, batch_rows   of one scoring session; see CalibrateParams
    """

    ranker: str
    num_parameters: int
    num_embedding_parameters: int
    num_flops_per_row: int
    negative_keep_rate: float
    num_threads: int
    batch_rows: int


@dataclass(frozen=True)
class _ScorerFile(Strict):
    schema: LogSchema
    facts: ScorerFacts


@dataclass(frozen=True, eq=False)
class Scorer:
    """Everything between a raw row and its score; `onnx` takes ids (R, F) int32 and gives logits (R,)."""

    schema: LogSchema
    encoder: Encoder
    calibrator: Calibrator
    onnx: bytes
    facts: ScorerFacts

    def score(self, rows: pl.DataFrame) -> Floats:
        """Score rows that have `_time` and the schema's column fields: (R,) float64, strictly within (0, 1)."""
        return self.calibrator.apply(self.logits_of_rows(rows))

    def logits_of_rows(self, rows: pl.DataFrame) -> Floats:
        """Give the ranker's logits (R,) of raw rows, `batch_rows` at a time."""
        parts = [
            self.logits(self.encoder.encode(rows[start:stop]))
            for start, stop in _batches(len(rows), self.facts.batch_rows)
        ]
        return np.concatenate([np.empty(0), *parts])

    def logits(self, ids: np.ndarray[Any, Any]) -> Floats:
        """Give the ranker's logits (R,) of encoded rows (R, F), `batch_rows` at a time."""
        logits_r = np.empty(len(ids))
        for start, stop in _batches(len(ids), self.facts.batch_rows):
            part = np.ascontiguousarray(ids[start:stop], dtype=np.int32)
            logits_r[start:stop] = self._session.run([ONNX_LOGITS], {ONNX_IDS: part})[0]
        return logits_r

    def warm_up(self) -> None:
        """Build the session and score one row without values, so that the first real row does not wait for it."""
        empty = {
            field.name: _column(field.name, [None], field.kind == "numeric") for field in self.schema.column_fields
        }
        self.score(pl.DataFrame({TIME: pl.Series([_EARLIEST_TIME], dtype=pl.Int64), **empty}))

    @functools.cached_property
    def _session(self) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.facts.num_threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            return onnxruntime.InferenceSession(self.onnx, options, providers=["CPUExecutionProvider"])
        except _RUNTIME_REFUSES as error:
            raise IntegrityError(
                f"the scorer's ranker.onnx is no model that the ONNX runtime takes: {error}"
            ) from error

    def __eq__(self, other: object) -> bool:
        """Equal in all that determines a score; the session is none of it."""
        return isinstance(other, Scorer) and self.equals(other)

    def equals(self, other: Scorer) -> bool:
        """Say whether both have the same schema, facts, calibrator, encoder and ONNX bytes."""
        return (
            self.schema == other.schema
            and self.facts == other.facts
            and self.calibrator == other.calibrator
            and self.encoder == other.encoder
            and self.onnx == other.onnx
        )

    def save(self, folder: Path) -> None:
        """Write scorer.json, ranker.onnx and the folders encoder/ and calibrator/."""
        write_json(folder / "scorer.json", _ScorerFile(self.schema, self.facts))
        (folder / "ranker.onnx").write_bytes(self.onnx)
        for name, part in (("encoder", self.encoder), ("calibrator", self.calibrator)):
            (folder / name).mkdir()
            part.save(folder / name)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read back what `save` wrote; the ONNX session is built at the first score or `warm_up`."""
        content = parse(_ScorerFile, read_json(folder / "scorer.json"), str(folder / "scorer.json"), IntegrityError)
        try:
            onnx = (folder / "ranker.onnx").read_bytes()
        except OSError as error:
            raise IntegrityError(
                f"{folder / 'ranker.onnx'}: not readable ({error}); run the calibrate stage again"
            ) from error
        encoder, calibrator = Encoder.load(folder / "encoder"), Calibrator.load(folder / "calibrator")
        return cls(content.schema, encoder, calibrator, onnx, content.facts)


_RUNTIME_REFUSES = tuple(
    getattr(runtime_errors, name)
    for name in ("Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf", "NotImplemented")
)


def _batches(num_rows: int, batch_rows: int) -> Iterator[tuple[int, int]]:
    for start in range(0, num_rows, batch_rows):
        yield start, min(start + batch_rows, num_rows)


def rows_from_records(records: Sequence[object], schema: LogSchema) -> pl.DataFrame:
    """Make rows of JSON objects whose keys are the log's own column names; raises DataError naming row and field.

    Every column is a key: the fields, the time where the log has one, the impression where the schema declares one. A value
    that is missing is an explicit null; a key that is missing or unknown is an error, because a client that leaves a field
    out, or misspells it, would otherwise be served wrong scores in silence. Categorical values are text, as the log holds
    them; numeric ones are finite numbers; a time is ISO 8601 text (UTC where it names no zone) or microseconds since 1970.
    Gives `_impression` (null where the schema declares none), `_time` (0 for a log without time) and the column fields.
    """
    time_key = schema.time.column if schema.time is not None else None
    names = [field.name for field in schema.column_fields]
    known = {*names, *((time_key,) if time_key else ()), *((schema.impression,) if schema.impression else ())}
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            raise DataError(f"row {number}: a JSON object with the row's columns is expected, got {_shown(record)}")
        if record.keys() != known:
            missing, unknown = sorted(known - record.keys()), sorted(str(key) for key in record.keys() - known)
            words = [
                f"field {missing} missing (send null for no value)" if missing else "",
                f"field {unknown} unknown" if unknown else "",
            ]
            raise DataError(
                f"row {number}: {', '.join(part for part in words if part)}; the columns are {sorted(known)}"
            )
    rows: list[dict[str, Any]] = [dict(record) for record in records if isinstance(record, dict)]
    columns: dict[str, pl.Series] = {}
    impressions = [
        _text(row[schema.impression], n, schema.impression) if schema.impression else None for n, row in enumerate(rows)
    ]
    columns[IMPRESSION] = _column(schema.impression or IMPRESSION, impressions, is_numeric=False)
    times = [_time(row[time_key], number, time_key) if time_key else 0 for number, row in enumerate(rows)]
    columns[TIME] = pl.Series(TIME, times, dtype=pl.Int64)
    for field in schema.column_fields:
        is_numeric = field.kind == "numeric"
        read = _number if is_numeric else _text
        columns[field.name] = _column(
            field.name, [read(row[field.name], n, field.name) for n, row in enumerate(rows)], is_numeric
        )
    return pl.DataFrame(columns)


def _column(name: str, values: list[Any], is_numeric: bool) -> pl.Series:
    return pl.Series(name, values, dtype=pl.Float64 if is_numeric else pl.String)


def _text(value: object, number: int, name: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise DataError(f"row {number}: field '{name}' is text, as the log holds it; got {_shown(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"row {number}: field '{name}' is not valid Unicode text ({error.reason}): {_shown(value)}"
        ) from error
    return value


def _number(value: object, number: int, name: str) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DataError(f"row {number}: field '{name}' is a number or null; got {_shown(value)}")
    try:
        converted = float(value)
    except OverflowError:
        converted = math.inf
    if not math.isfinite(converted):
        raise DataError(f"row {number}: field '{name}' is a finite number or null; got {_shown(value)}")
    return converted


def _time(value: object, number: int, name: str) -> int:
    expected = f"row {number}: field '{name}' is the row's time, ISO 8601 text or whole microseconds since 1970 UTC"
    if isinstance(value, int) and not isinstance(value, bool):
        if not _EARLIEST_TIME <= value < 2**63:
            raise DataError(f"{expected}; {_shown(value)} would be before 1973 or beyond all dates: is it in seconds?")
        return value
    if not isinstance(value, str):
        raise DataError(f"{expected}; got {_shown(value)}")
    try:
        moment = datetime.datetime.fromisoformat(value)
    except ValueError as error:
        raise DataError(f"{expected}; got {_shown(value)}") from error
    return microseconds(moment)


def _shown(value: object) -> str:
    """Show a value, but not a megabyte of it."""
    try:
        words = repr(value)
    except ValueError:
        words = "a number of thousands of digits"
    return shortened(words, 80)
