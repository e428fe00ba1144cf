"""The columns that every row carries beside its fields, and moments as `_time` holds them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

ROW = "_row"
TIME = "_time"
CLICK = "_click"
IMPRESSION = "_impression"
PART = "_part"
MICROSECONDS_AN_HOUR = 3_600_000_000
_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970 UTC of a moment; one that names no zone is UTC."""
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MICROSECOND


def moment_of(microseconds: int) -> datetime:
    """The moment, in UTC, so many microseconds after 1970; raises OverflowError where no calendar reaches."""
    return _EPOCH + timedelta(microseconds=microseconds)
