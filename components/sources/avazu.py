"""Avazu's mobile advertising log: 24 comma-separated columns with a header; `hour` is the time as %y%m%d%H, `id` the impression.

https://www.kaggle.com/c/avazu-ctr-prediction
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from components.log import LogRequest, RawLog
from components.sources.plain import SourceFile
from components.sources.reader import Reader, every_file, no_part, scan_text_partitions
from components.sources.standard import refuse_unknown_columns
from components.sources.text import TextLayout, count_rows

COLUMNS = (
    *("id", "click", "hour", "C1", "banner_pos"),
    *("site_id", "site_domain", "site_category", "app_id", "app_domain", "app_category"),
    *("device_id", "device_ip", "device_model", "device_type", "device_conn_type"),
    *(f"C{number}" for number in range(14, 22)),
)
LAYOUT = TextLayout(separator=",", quote=None, has_header=True, columns=COLUMNS, ignored=frozenset())


def _count(request: LogRequest, file: SourceFile) -> int:
    refuse_unknown_columns(request.log, request.schema, COLUMNS, "avazu")
    return count_rows(file, LAYOUT)


def _scan(raw_log: RawLog, scratch: Path) -> pl.LazyFrame:
    refuse_unknown_columns(raw_log.request.log, raw_log.request.schema, COLUMNS, "avazu")
    return scan_text_partitions(raw_log, scratch, LAYOUT, lambda raw: raw, ())


READER = Reader(wanted=every_file, part=no_part, count=_count, scan=_scan)
