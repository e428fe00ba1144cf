"""What must hold of a log: raw_log -> clean_log, or a DataError that names field and figures.

One streamed pass sorts the rows out (reading), the kept ones are put in order and freed of copies (ordering), exact
figures of all rows are held against the promises (promises), and Great Expectations sees a bounded sample (suite).
"""

from __future__ import annotations

import threading

from components import sources
from components.checking.ordering import order_rows
from components.checking.params import CheckParams
from components.checking.promises import exact_results, refuse_quarantine, refuse_wrong_times
from components.checking.reading import read_log
from components.checking.suite import check_sample, draw_sample, import_great_expectations
from components.errors import ConfigError, DataError
from components.log import CheckReport, CleanLog, LogRequest, RawLog
from components.workbench import Workbench

__all__ = ["CheckParams", "check_log"]

_NUM_STEPS = 4
_LARGE_LOG_ROWS = (
    1_000_000  # read so long that Great Expectations, which takes seconds to import, is imported meanwhile
)


def check_log(raw_log: RawLog, request: LogRequest, params: CheckParams, workbench: Workbench) -> CleanLog:
    """Hold every row to the schema's promises; raises DataError where too many break them, ConfigError for another request."""
    if raw_log.request != request:
        raise ConfigError(f"raw_log was fetched for {_difference(raw_log.request, request)}; run fetch again")
    try:
        return _checked(raw_log, request, params, workbench)
    except DataError as error:
        raise DataError(f"{error}; once the source is mended, fetch it anew: raw_log is a copy") from error


def _checked(raw_log: RawLog, request: LogRequest, params: CheckParams, workbench: Workbench) -> CleanLog:
    folder = workbench.scratch / "clean_log"
    folder.mkdir()
    workbench.progress(0, _NUM_STEPS, "reading")
    plain = workbench.scratch / "plain"
    importing = threading.Thread(target=import_great_expectations, daemon=True)
    with sources.reading(raw_log, plain):
        if sum(partition.num_rows for partition in raw_log.partitions) >= _LARGE_LOG_ROWS:
            importing.start()
        reading = read_log(sources.pieces(raw_log, plain), raw_log, folder)
    refuse_wrong_times(reading, request)
    refuse_quarantine(reading, params)
    workbench.progress(1, _NUM_STEPS, f"{reading.num_read:,} rows read; ordering")
    ordered = order_rows(reading, request.schema, params.sort_rows, folder)
    workbench.progress(2, _NUM_STEPS, "promises over all rows")
    results = exact_results(reading, ordered, request, params)
    workbench.progress(3, _NUM_STEPS, "Great Expectations on a sample")
    sample = draw_sample(ordered.path, ordered.num_rows, params)
    if importing.ident is not None:
        importing.join()
    results += check_sample(sample, request.schema, request.window, params, folder / "html")
    report = CheckReport(
        num_rows_read=reading.num_read,
        num_rows_outside_window=reading.num_outside,
        num_duplicates=ordered.num_duplicates,
        num_quarantined=reading.num_quarantined,
        num_rows=ordered.num_rows,
        num_clicks=ordered.num_clicks,
        first_time=ordered.first_time,
        last_time=ordered.last_time,
        quarantine_reasons=reading.reasons,
        results=results,
    )
    workbench.progress(_NUM_STEPS, _NUM_STEPS, f"{report.num_rows:,} clean rows")
    return CleanLog(request, report, folder)


def _difference(found: LogRequest, wanted: LogRequest) -> str:
    """The first part in which two requests differ, in words."""
    parts = (
        ("log", found.log, wanted.log),
        ("window", found.window, wanted.window),
        ("source", found.source, wanted.source),
    )
    for name, of_found, of_wanted in parts:
        if of_found != of_wanted:
            return f"another {name} than params ask for ({of_found}, asked: {of_wanted})"
    return "another schema than params ask for"
