"""The promises of a log held against exact figures of all its rows; what is broken beyond its limit is refused in words."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import polars as pl

from components.checking.ordering import OrderedRows
from components.checking.params import CheckParams
from components.checking.reading import REASON, Reading
from components.errors import DataError, shortened
from components.log import CheckResult, LogRequest
from components.sources.standard import NUMBER, SOURCE, VALUE, suspect_time_unit

_LONGEST_VALUE = 60
_DECIMAL_COMMA = re.compile(r"[+-]?\d+(\.\d{3})*,\d+")


def refuse_wrong_times(reading: Reading, request: LogRequest) -> None:
    """Raise DataError where a whole partition's times make no sense, with the unit that would fit, or where the window is empty."""
    time = request.schema.time
    if time is None:
        return
    for part in reading.partitions.iter_rows(named=True):
        if part["first_time"] is None or part["num_implausible"] == 0:
            continue
        if part["num_implausible"] + part["num_untimed"] == part["num_read"]:
            words = suspect_time_unit(part["first_time"], part["last_time"], time)
            raise DataError(f"raw_log {part[SOURCE]}: {words}")
    if reading.num_outside and not reading.num_kept:
        first, last = reading.partitions["first_time"].min(), reading.partitions["last_time"].max()
        raise DataError(
            f"raw_log: none of {reading.num_read:,} rows lies in the window from {_moment(request.window.start)} to "
            f"{_moment(request.window.end)}; their times run from {_day(first)} to {_day(last)}; "
            f"correct window.yaml, or schema.time.unit (now {time.unit})"
        )


def refuse_quarantine(reading: Reading, params: CheckParams) -> None:
    """Raise DataError where more rows break a row-level promise than params allow."""
    num_inside = reading.num_read - reading.num_outside
    share = reading.num_quarantined / num_inside if num_inside else 0.0
    if share <= params.max_quarantine_share:
        return
    ranked = sorted(reading.reasons.items(), key=lambda item: (-item[1], item[0]))
    found = "; ".join(f"{num_rows:,} x {reason}" for reason, num_rows in ranked[:5])
    first = pl.scan_parquet(reading.quarantine).filter(pl.col(REASON) == ranked[0][0]).head(1).collect()
    where = f"{first[SOURCE][0]}, row {first[NUMBER][0]:,} (from 0)"
    value = first[VALUE][0]
    if value is not None:
        where += f": {shortened(value, _LONGEST_VALUE)!r}"
        where += ", a decimal comma? write numbers with a point" if _DECIMAL_COMMA.fullmatch(value) else ""
    raise DataError(
        f"raw_log: {reading.num_quarantined:,} of {num_inside:,} rows ({share:.1%}) break a promise "
        f"(at most {params.max_quarantine_share:.1%} may): {found}; the first of them: {where}"
    )


def exact_results(
    reading: Reading, ordered: OrderedRows, request: LogRequest, params: CheckParams
) -> tuple[CheckResult, ...]:
    """Every promise with what all rows say; raises DataError naming partition, field and figures where one is broken."""
    schema = request.schema
    num_kept = reading.num_kept
    results = [
        _result(
            "rows in the clean log, at least",
            None,
            ordered.num_rows,
            params.min_rows,
            ordered.num_rows >= params.min_rows,
        ),
        _result(
            "share of rows that break a row-level promise, at most",
            None,
            reading.num_quarantined / max(reading.num_read - reading.num_outside, 1),
            params.max_quarantine_share,
            True,
        ),
    ]
    if ordered.num_rows < params.min_rows or not ordered.num_rows:
        raise DataError(
            f"raw_log: {ordered.num_rows:,} clean rows of {reading.num_read:,} read (at least {max(params.min_rows, 1):,} "
            f"expected; {reading.num_outside:,} outside the window, {ordered.num_duplicates:,} copies, "
            f"{reading.num_quarantined:,} set aside)"
        )
    for field in schema.column_fields:
        _refuse_missing(reading, field.name, field.max_missing_share, params.min_partition_rows)
        share = int(reading.kept[f"missing_{field.name}"].sum()) / num_kept
        results.append(
            _result(
                "share of rows without a value, at most",
                field.name,
                share,
                field.max_missing_share,
                share <= field.max_missing_share,
            )
        )
    for field in schema.column_fields:
        if field.kind == "numeric":
            smallest, largest = reading.ranges[f"minimum_{field.name}"], reading.ranges[f"maximum_{field.name}"]
            results.append(_result("smallest value kept, at least", field.name, smallest, field.minimum, True))
            results.append(_result("largest value kept, at most", field.name, largest, field.maximum, True))
    rate = ordered.num_clicks / ordered.num_rows
    lowest, highest = params.click_rate_band
    if ordered.num_clicks in (0, ordered.num_rows):
        raise DataError(
            f"raw_log: click '{schema.click}' is {int(rate)} in all of {ordered.num_rows:,} rows; rows of both kinds are needed"
        )
    if not lowest <= rate <= highest:
        raise DataError(
            f"raw_log: click '{schema.click}' is 1 in {rate:.3%} of {ordered.num_rows:,} rows "
            f"({lowest:.3%} to {highest:.3%} promised by check.click_rate_band)"
        )
    results.append(_result("click rate, at least", schema.click, rate, lowest, True))
    results.append(_result("click rate, at most", schema.click, rate, highest, True))
    if ordered.num_repeats is None:
        results.append(
            _result("copies of an impression, dropped", schema.impression, ordered.num_duplicates, None, True)
        )
    else:
        results.append(
            _result("rows that repeat another in every column, counted only", None, ordered.num_repeats, None, True)
        )
    if schema.time is not None:
        results.append(
            _result("rows outside the window, left out", schema.time.column, reading.num_outside, None, True)
        )
    return tuple(results)


def _refuse_missing(reading: Reading, name: str, limit: float, min_partition_rows: int) -> None:
    column = f"missing_{name}"
    for part in reading.kept.iter_rows(named=True):
        share = part[column] / part["num_rows"]
        if share > limit and part["num_rows"] >= min_partition_rows:
            raise DataError(_too_empty(f"raw_log {part[SOURCE]}", name, share, part["num_rows"], limit))
    share = int(reading.kept[column].sum()) / reading.num_kept
    if share > limit:
        raise DataError(_too_empty("raw_log", name, share, reading.num_kept, limit))


def _too_empty(where: str, name: str, share: float, num_rows: int, limit: float) -> str:
    return f"{where}: field '{name}' is empty in {share:.1%} of {num_rows:,} rows (at most {limit:.1%} promised)"


def _result(promise: str, field: str | None, found: float | None, limit: float | None, holds: bool) -> CheckResult:
    return CheckResult(
        promise,
        field,
        None if found is None else float(found),
        None if limit is None else float(limit),
        holds,
        is_exact=True,
    )


def _moment(moment: datetime | None) -> str:
    return "the beginning" if moment is None else moment.isoformat()


def _day(micros: object) -> str:
    assert isinstance(micros, int)
    return datetime.fromtimestamp(micros / 1_000_000, tz=UTC).isoformat(timespec="minutes")
