"""A format's own columns become the columns that every raw row has; the last step of each reader in `components.sources`.

_part        String   the published split the row came in; null where the log is not published in files
_source      String   the file's name
_number      Int64    the row's number in source order over all files, from 0
_time        Int64    microseconds since 1970 UTC, clipped to +-2^62; the row's number where the log has no time.
                      Compare it as an integer: a wrong unit puts it beyond what a date can hold.
_click       Int64    as found, so a 2 stays a 2; null where the column is empty
_impression  String   null where the schema declares none
...          String (categorical, "" becomes null) or Float64 (numeric) under each column field's own name
_broken      String   null, or why the row cannot be read: "field 'price' is not a finite number",
                      "click is not a whole number", "time does not fit '%y%m%d%H'", "time is missing"
_value       String   what stands there instead, as it came, where the row is broken
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import NamedTuple

import polars as pl

from components.errors import ConfigError, DataError
from components.log import CLICK, IMPRESSION, PART, TIME, Field, LogSchema, TimeColumn

SOURCE = "_source"
NUMBER = "_number"
BROKEN = "_broken"
VALUE = "_value"

MICROSECONDS_PER = {"seconds": 1e6, "milliseconds": 1e3, "microseconds": 1.0}
ISO = "iso8601"
FARTHEST = 2.0**62
FIRST_PLAUSIBLE = 631_152_000_000_000  # 1990-01-01
LAST_PLAUSIBLE = 4_102_444_800_000_000  # 2100-01-01


class Fault(NamedTuple):
    """One way to break a row: which rows do, why, and what stands there instead."""

    is_broken: pl.Expr
    reason: str | pl.Expr
    value: pl.Expr


def in_words(faults: Iterable[Fault]) -> tuple[pl.Expr, pl.Expr]:
    """The reason, and the value as a text, of the first fault that each row has; null where it has none."""
    reason, value = pl.lit(None, pl.String), pl.lit(None, pl.String)
    for fault in reversed(list(faults)):
        words = pl.lit(fault.reason) if isinstance(fault.reason, str) else fault.reason
        reason = pl.when(fault.is_broken).then(words).otherwise(reason)
        value = pl.when(fault.is_broken).then(fault.value.cast(pl.String)).otherwise(value)
    return reason, value


def needed_columns(schema: LogSchema) -> tuple[str, ...]:
    """The columns that must stand in a log of this schema, each once."""
    named = [schema.click, schema.time.column if schema.time else None, schema.impression]
    return tuple(dict.fromkeys(name for name in (*named, *(field.name for field in schema.column_fields)) if name))


def refuse_unknown_columns(log: str, schema: LogSchema, offered: tuple[str, ...], format_name: str) -> None:
    """Raise ConfigError where the schema names columns that logs of this format do not have."""
    unknown = [name for name in needed_columns(schema) if name not in offered]
    if unknown:
        raise ConfigError(
            f"logs/{log}.yaml schema: {format_name} logs have no column {unknown}; they have {list(offered)}"
        )


def standard_rows(
    raw: pl.LazyFrame,
    kinds: Mapping[str, pl.DataType],
    schema: LogSchema,
    source: str,
    part: str | None,
    first_number: int,
    faults: tuple[Fault, ...],
) -> pl.LazyFrame:
    """Rows of one file with the columns above; `raw` has _number from 0, and `kinds` the type of each column it has.

    faults  the format's own row-level faults, said before those found here
    """
    columns, all_faults = _columns_and_faults(kinds, schema, source, part, first_number, faults, is_cleaned=False)
    return raw.select(*columns, *_words(all_faults))


def standard_frame(
    raw: pl.DataFrame,
    kinds: Mapping[str, pl.DataType],
    schema: LogSchema,
    source: str,
    part: str | None,
    first_number: int,
) -> pl.DataFrame:
    """As `standard_rows`, of rows in memory without empty texts and floats that are not finite; reasons are only made where one is due."""
    columns, all_faults = _columns_and_faults(kinds, schema, source, part, first_number, (), is_cleaned=True)
    is_any_broken = raw.select(pl.any_horizontal([fault.is_broken.any() for fault in all_faults])).item()
    return raw.select(*columns, *_words(all_faults if is_any_broken else ()))


def _words(faults: Iterable[Fault]) -> tuple[pl.Expr, pl.Expr]:
    reason, value = in_words(faults)
    return reason.alias(BROKEN), value.alias(VALUE)


def _columns_and_faults(
    kinds: Mapping[str, pl.DataType],
    schema: LogSchema,
    source: str,
    part: str | None,
    first_number: int,
    faults: tuple[Fault, ...],
    *,
    is_cleaned: bool,
) -> tuple[list[pl.Expr], list[Fault]]:
    """All columns but _broken and _value, and what breaks a row."""
    all_faults = list(faults)
    number = pl.col(NUMBER).cast(pl.Int64) + first_number
    if schema.time is None:
        time = number
    else:
        time = _time(schema.time, kinds[schema.time.column])
        column = pl.col(schema.time.column)
        all_faults += [
            Fault(column.is_null(), "time is missing", column),
            Fault(time.is_null(), f"time does not fit '{schema.time.unit}'", column),
        ]
    click = pl.lit(None, pl.Int64)
    if schema.click:
        click = _click(schema.click, kinds[schema.click])
        is_no_click = click.is_null() & _filled(schema.click, kinds[schema.click])
        all_faults.append(Fault(is_no_click, "click is not a whole number", pl.col(schema.click)))
    values = []
    for field in schema.column_fields:
        if field.kind == "numeric":
            is_finite = is_cleaned and kinds[field.name].is_float()
            value = pl.col(field.name) if is_finite else _number(field)
            if not is_finite and (kinds[field.name] == pl.String or kinds[field.name].is_float()):
                is_no_number = value.is_null() & _filled(field.name, kinds[field.name])
                words = f"field '{field.name}' is not a finite number"
                all_faults.append(Fault(is_no_number, words, pl.col(field.name)))
        else:
            value = _text(field.name, kinds[field.name], is_cleaned)
        values.append(value.alias(field.name))
    impression = (
        pl.lit(None, pl.String)
        if schema.impression is None
        else _text(schema.impression, kinds[schema.impression], is_cleaned)
    )
    columns = [
        pl.lit(part, pl.String).alias(PART),
        pl.lit(source, pl.String).alias(SOURCE),
        number.alias(NUMBER),
        time.alias(TIME),
        click.alias(CLICK),
        impression.alias(IMPRESSION),
        *values,
    ]
    return columns, all_faults


def suspect_time_unit(first: int, last: int, time: TimeColumn) -> str | None:
    """Words on a wrong unit where the times (microseconds) leave the years 1990 to 2100, with the unit that would fit; else None."""
    if first >= FIRST_PLAUSIBLE and last < LAST_PLAUSIBLE:
        return None
    guess = ""
    declared = MICROSECONDS_PER.get(time.unit)
    if declared is not None:
        fitting = [
            unit
            for unit, factor in MICROSECONDS_PER.items()
            if first * factor / declared >= FIRST_PLAUSIBLE and last * factor / declared < LAST_PLAUSIBLE
        ]
        if last >= FARTHEST and time.unit == "seconds":  # clipped, so the figures themselves no longer tell
            fitting = ["microseconds"]
        guess = f"; they would fit as {fitting[0]}" if fitting else ""
    years = [f"{1970 + moment / (365.2425 * 86_400e6):,.0f}" for moment in (first, last)]
    return (
        f"time '{time.column}' read as {time.unit} runs from the year {years[0]} to {years[1]} "
        f"(1990 to 2100 is plausible){guess}; correct schema.time.unit"
    )


def refuse_unreadable_kinds(name: str, schema: LogSchema, kinds: Mapping[str, pl.DataType]) -> None:
    """Raise DataError where a typed file (Parquet) holds a type that no field can take, such as a list."""
    for column in needed_columns(schema):
        if kinds[column].is_nested() or kinds[column] in (pl.Binary, pl.Object):
            raise DataError(
                f"raw_log '{name}': column '{column}' is {kinds[column]}; text, numbers, booleans or times were expected"
            )


def _text(column: str, kind: pl.DataType, is_cleaned: bool) -> pl.Expr:
    text = pl.col(column) if kind == pl.String else pl.col(column).cast(pl.String)
    return text if is_cleaned else pl.when(text != "").then(text)


def _filled(column: str, kind: pl.DataType) -> pl.Expr:
    if kind == pl.String:
        return pl.col(column) != ""
    filled = pl.col(column).is_not_null()
    return filled & pl.col(column).is_not_nan() if kind.is_float() else filled


def _number(field: Field) -> pl.Expr:
    number = pl.col(field.name).cast(pl.Float64, strict=False)
    return pl.when(number.is_finite()).then(number)


def _click(column: str, kind: pl.DataType) -> pl.Expr:
    if not (kind == pl.String or kind.is_float()):
        return pl.col(column).cast(pl.Int64, strict=False)
    number = pl.col(column).cast(pl.Float64, strict=False)
    whole = pl.when(number == number.floor()).then(number).cast(pl.Int64, strict=False)
    if kind != pl.String:
        return whole
    word = pl.col(column).str.to_lowercase()
    return pl.when(word == "true").then(1).when(word == "false").then(0).otherwise(whole)


def _time(time: TimeColumn, kind: pl.DataType) -> pl.Expr:
    column = pl.col(time.column)
    if time.unit in MICROSECONDS_PER:
        if kind.is_temporal():
            raise ConfigError(
                f"schema.time: column '{time.column}' is {kind}, so its unit is '{ISO}', not '{time.unit}'"
            )
        micros = column.cast(pl.Float64, strict=False) * MICROSECONDS_PER[time.unit]
        return micros.clip(-FARTHEST, FARTHEST).round(0).cast(pl.Int64, strict=False)
    if time.unit == ISO:
        return _iso_time(column, kind)
    if "%" not in time.unit:
        raise ConfigError(
            f"schema.time.unit is '{time.unit}'; expected one of {[*MICROSECONDS_PER, ISO]} or a pattern such as '%Y-%m-%d %H:%M:%S'"
        )
    text = column.cast(pl.String)
    if not any(sign in time.unit for sign in ("%H", "%I", "%T", "%R", "%s", "%c", "%X", "%k", "%l", "%+", "%r")):
        return text.str.to_date(time.unit, strict=False).cast(pl.Datetime("us")).dt.epoch("us")
    pattern = time.unit
    if "%H" in pattern and not any(sign in pattern for sign in ("%M", "%T", "%R")):  # an hour alone, as Avazu has it
        text, pattern = text + pl.lit(":00"), pattern + ":%M"
    return text.str.to_datetime(pattern, time_unit="us", strict=False).dt.epoch("us")


def _iso_time(column: pl.Expr, kind: pl.DataType) -> pl.Expr:
    if isinstance(kind, pl.Datetime):
        return (column.dt.convert_time_zone("UTC") if kind.time_zone else column).dt.epoch("us")
    if kind == pl.Date:
        return column.cast(pl.Datetime("us")).dt.epoch("us")
    text = column.cast(pl.String).str.replace(" ", "T", literal=True)
    with_zone = text.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", time_unit="us", strict=False).dt.epoch("us")
    plain = [
        text.str.to_datetime(pattern, time_unit="us", strict=False).dt.epoch("us")
        for pattern in ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M")
    ]
    day = text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us")).dt.epoch("us")
    return reduce(lambda known, other: pl.coalesce(known, other), [*plain, day], with_zone)
