"""What a log's columns mean, in the words of the people who own the log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from components.strict import Strict


@dataclass(frozen=True)
class Field(Strict):
    """One input column of the rankers.

    kind              "categorical", "numeric", or made from the row's time: "hour" (0-23 UTC), "weekday" (1 = Monday)
    buckets           for numeric fields "quantiles" (of train) or "squared_log" (Criteo: floor(log(x)^2), x > 2); else null
    max_missing_share promised upper bound of the share of rows without a value
    minimum, maximum  promised range of a numeric field, inclusive; null for none
    """

    name: str
    kind: Literal["categorical", "numeric", "hour", "weekday"]
    buckets: Literal["quantiles", "squared_log"] | None
    max_missing_share: float
    minimum: float | None
    maximum: float | None

    @property
    def is_from_time(self) -> bool:
        """The field is computed from the row's time and is no column of the raw log."""
        return self.kind in ("hour", "weekday")


@dataclass(frozen=True)
class TimeColumn(Strict):
    """Where a row's time stands, and how: "seconds", "milliseconds" or "microseconds" since 1970 UTC, "iso8601", or a strftime pattern."""

    column: str
    unit: str


@dataclass(frozen=True)
class LogSchema(Strict):
    """What a log's columns mean; written by people in logs/<name>.yaml.

    click       the column that holds 0 or 1; empty for a table of rows that nobody has seen yet, which only `score` reads
    time        null for a log without time: then the order of rows is its time
    impression  the column with an impression's key; null where there is none (duplicates are then only counted)
    user, item  the fields that name the two entities; null where there are none
    """

    click: str
    time: TimeColumn | None
    impression: str | None
    user: str | None
    item: str | None
    fields: tuple[Field, ...]

    @property
    def column_fields(self) -> tuple[Field, ...]:
        """The fields that are columns of the log, in schema order."""
        return tuple(field for field in self.fields if not field.is_from_time)

    @property
    def field_names(self) -> tuple[str, ...]:
        """All F field names, in schema order."""
        return tuple(field.name for field in self.fields)
