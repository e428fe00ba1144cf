"""The artifact clean_log, which `check` makes: the rows that keep every promise, and the account of the others."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from components.artifact import link_files, read_json, write_json
from components.errors import IntegrityError
from components.log.request import LogRequest
from components.log.schema import LogSchema
from components.strict import Strict, parse

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class CheckResult(Strict):
    """One promise and what was found: `found` and `limit` in the words of `promise`."""

    promise: str
    field: str | None
    found: float | None
    limit: float | None
    holds: bool
    is_exact: bool


@dataclass(frozen=True)
class CheckReport(Strict):
    """The account of a check: rows read = rows kept + outside the window + duplicates dropped + quarantined."""

    num_rows_read: int
    num_rows_outside_window: int
    num_duplicates: int
    num_quarantined: int
    num_rows: int
    num_clicks: int
    first_time: int | None
    last_time: int | None
    quarantine_reasons: dict[str, int]
    results: tuple[CheckResult, ...]


@dataclass(frozen=True)
class CleanLog:
    """Rows that hold every promise of the schema, sorted by time (ties in source order), and the account of the others.

    rows.parquet        _row, _time, _click, _impression and the column fields; _part too for logs published in files
    quarantine.parquet  _source, _number, _reason, the broken _value and the raw row's fields for each row that broke a row-level promise
    report.json         counts and figures of every check, exact and sampled
    html/               Great Expectations' Data Docs (rendered beside, not part of equality)
    """

    request: LogRequest
    report: CheckReport
    folder: Path = dataclasses.field(compare=False)

    @property
    def schema(self) -> LogSchema:
        """What the columns mean."""
        return self.request.schema

    def scan(self) -> pl.LazyFrame:
        """The clean rows, lazily, in time order."""
        import polars as pl

        return pl.scan_parquet(self.folder / "rows.parquet")

    def scan_quarantine(self) -> pl.LazyFrame:
        """The rows that were set aside, lazily, each with its reason."""
        import polars as pl

        return pl.scan_parquet(self.folder / "quarantine.parquet")

    def save(self, folder: Path) -> None:
        """Write the account and link (or copy) the tables."""
        write_json(folder / "request.json", self.request)
        write_json(folder / "report.json", self.report)
        link_files(self.folder, folder, but={"request.json", "report.json"})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the account; the tables stay on disk."""
        request = parse(LogRequest, read_json(folder / "request.json"), str(folder / "request.json"), IntegrityError)
        report = parse(CheckReport, read_json(folder / "report.json"), str(folder / "report.json"), IntegrityError)
        for name in ("rows.parquet", "quarantine.parquet"):
            if not (folder / name).is_file():
                raise IntegrityError(f"{folder / name}: the file is missing; run the check stage again")
        return cls(request, report, folder)
