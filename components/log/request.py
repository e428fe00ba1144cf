"""What a run asks of the world: a log, where it lies, what its columns mean, and the window of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from components.log.schema import LogSchema
from components.strict import Strict


@dataclass(frozen=True)
class Window(Strict):
    """Which part of a log a run is about: start <= time < end (UTC; null for open), as known at the moment `as_of`."""

    start: datetime | None
    end: datetime | None
    as_of: datetime | None


@dataclass(frozen=True)
class SourceParams(Strict):
    """Where a log lies and in which format; `options` are the format's own and checked by its reader.

    paths  files, folders or globs, local or s3://; `$CTR_DATA` is the folder of research data; none for "simulated"
    """

    format: Literal["simulated", "table", "criteo", "avazu", "movielens", "libfm"]
    paths: tuple[str, ...]
    options: dict[str, str | int | float | bool | None]


@dataclass(frozen=True)
class LogRequest(Strict):
    """What a run asks of the world: a log by name, where it lies, what its columns mean, and the window."""

    log: str
    source: SourceParams
    schema: LogSchema
    window: Window
