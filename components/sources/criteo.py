"""Criteo's display advertising log: 40 tab-separated columns without header; click, 13 counts, 26 hashed categories; no time.

https://www.kaggle.com/c/criteo-display-ad-challenge: rows stand in the order of time, so their order is the log's time.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from components.log import LogRequest, RawLog
from components.sources.plain import SourceFile
from components.sources.reader import Reader, every_file, no_part, scan_text_partitions
from components.sources.standard import refuse_unknown_columns
from components.sources.text import TextLayout, count_rows

COLUMNS = ("click", *(f"I{number}" for number in range(1, 14)), *(f"C{number}" for number in range(1, 27)))
LAYOUT = TextLayout(separator="\t", quote=None, has_header=False, columns=COLUMNS, ignored=frozenset())


def _count(request: LogRequest, file: SourceFile) -> int:
    refuse_unknown_columns(request.log, request.schema, COLUMNS, "criteo")
    return count_rows(file, LAYOUT)


def _scan(raw_log: RawLog, scratch: Path) -> pl.LazyFrame:
    refuse_unknown_columns(raw_log.request.log, raw_log.request.schema, COLUMNS, "criteo")
    return scan_text_partitions(raw_log, scratch, LAYOUT, lambda raw: raw, ())


READER = Reader(wanted=every_file, part=no_part, count=_count, scan=_scan)
