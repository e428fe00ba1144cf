"""libFM's sparse text as Frappe's research split has it: "-1 317:1 2410:1 ...", a label, then one index:1 a field, in schema order.

A value is the feature's index as text. The label -1 or 0 is no click, 1 a click. Where a log is published in files
(options train, valid, test), each row keeps the part it came in.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from components.errors import ConfigError, DataError
from components.log import LogRequest, LogSchema, RawLog
from components.sources.plain import SourceFile
from components.sources.reader import Reader, options_of, refuse_none, scan_text_partitions
from components.sources.standard import Fault
from components.sources.text import TextLayout, count_rows
from components.strict import Strict

PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class LibfmOptions(Strict):
    """Which file is which published split, by file name; null in all three for a log that is not published so."""

    train: str | None
    valid: str | None
    test: str | None


def _options(request: LogRequest) -> LibfmOptions:
    options = options_of(request, LibfmOptions)
    named = [options.train, options.valid, options.test]
    if any(named) and (None in named or len(set(named)) < len(named)):
        raise ConfigError(
            f"logs/{request.log}.yaml source.options: train, valid and test must be three files or all null, got {named}"
        )
    return options


def _wanted(request: LogRequest, names: tuple[str, ...]) -> tuple[str, ...]:
    options = _options(request)
    refuse_none(request, names)
    if options.train is None:
        return names
    published = tuple(name for name in (options.train, options.valid, options.test) if name)
    absent = [name for name in published if name not in names]
    unnamed = [name for name in names if name not in published]
    if absent:
        raise DataError(
            f"raw_log {request.log}: no such part: {absent}; found {list(names)}; see source.options and source.paths"
        )
    if unnamed:
        raise DataError(
            f"raw_log {request.log}: {unnamed} is none of the published parts {list(published)}; see source.options and source.paths"
        )
    return published


def _part(request: LogRequest, name: str) -> str | None:
    options = _options(request)
    return {options.train: "train", options.valid: "valid", options.test: "test"}.get(name) if options.train else None


def _layout(request: LogRequest) -> TextLayout:
    schema: LogSchema = request.schema
    if schema.time is not None or schema.impression is not None:
        raise ConfigError(
            f"logs/{request.log}.yaml schema: a libfm log has neither time nor impression; both must be null"
        )
    numeric = [field.name for field in schema.column_fields if field.kind == "numeric"]
    if numeric:
        raise ConfigError(
            f"logs/{request.log}.yaml schema: libfm fields are feature indices, so categorical; {numeric} are numeric"
        )
    columns = (schema.click, *(field.name for field in schema.column_fields))
    return TextLayout(separator=" ", quote=None, has_header=False, columns=columns, ignored=frozenset())


def _count(request: LogRequest, file: SourceFile) -> int:
    return count_rows(file, _layout(request))


def _scan(raw_log: RawLog, scratch: Path) -> pl.LazyFrame:
    layout = _layout(raw_log.request)
    click, *fields = layout.columns
    marked = [f"_is_index {name}" for name in fields]

    def recast(raw: pl.LazyFrame) -> pl.LazyFrame:
        return raw.with_columns(
            pl.col(click).replace("-1", "0"),
            *(pl.col(name).str.contains(r"^\d+:1$").alias(mark) for name, mark in zip(fields, marked, strict=True)),
            *(pl.col(name).str.strip_suffix(":1") for name in fields),
        )

    faults = tuple(
        Fault(pl.col(mark).not_().fill_null(True), f"field '{name}' is not index:1", pl.col(name))
        for name, mark in zip(fields, marked, strict=True)
    )
    return scan_text_partitions(raw_log, scratch, layout, recast, faults)


READER = Reader(wanted=_wanted, part=_part, count=_count, scan=_scan)
