"""What a row is: the schema that people write, and the raw, clean and served logs that hold the rows.

Inside the system every row carries, beside its fields under their own names, the columns

    _row         Int64   the row's number in the clean log (after sorting by time), from 0
    _time        Int64   microseconds since 1970 UTC; the source's row number where the log has no time
    _click       Int8    0 or 1
    _impression  String  the impression's key; null where the schema declares none

Categorical fields are String, numeric ones Float64; a missing value is null in both.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from components.artifact import link_files, read_json, write_json
from components.errors import IntegrityError
from components.strict import Strict, parse

if TYPE_CHECKING:
    import polars as pl

ROW = "_row"
TIME = "_time"
CLICK = "_click"
IMPRESSION = "_impression"
UNREADABLE = "unreadable.json"
MICROSECONDS_AN_HOUR = 3_600_000_000


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
    """Where a row's time stands, and how: "s", "ms" or "us" since 1970 UTC, "iso" (ISO 8601), or a strftime pattern."""

    column: str
    unit: str


@dataclass(frozen=True)
class LogSchema(Strict):
    """What a log's columns mean; written by people in logs/<name>.yaml.

    click       the column that holds 0 or 1
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


@dataclass(frozen=True)
class Partition(Strict):
    """One file of a raw log as it was fetched.

    name    what people know it by, such as "2026-03-02.parquet" or "train.libfm.gz"
    sha256  of its bytes; the copy lies in files/<sha256>
    part    its published split ("train", "valid", "test") where the log is published in files, else null
    """

    name: str
    sha256: str
    num_bytes: int
    num_rows: int
    part: str | None


@dataclass(frozen=True)
class RawLog:
    """A manifest of fetched files beside a copy of each, named by its digest; read lazily by `components.sources`.

    truth names the files of true click probabilities, which only the simulated log has (_impression, probability).
    """

    request: LogRequest
    partitions: tuple[Partition, ...]
    truth: tuple[Partition, ...]
    folder: Path = dataclasses.field(compare=False)

    def path_of(self, partition: Partition) -> Path:
        """Where the copy of one partition lies."""
        return self.folder / "files" / partition.sha256

    def save(self, folder: Path) -> None:
        """Write the manifest and link (or copy) the files."""
        write_json(
            folder / "manifest.json",
            {"request": self.request, "partitions": self.partitions, "truth": self.truth},
        )
        link_files(self.folder / "files", folder / "files")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the manifest; raises IntegrityError where a file it names is absent or has another size."""
        content = parse(_Manifest, read_json(folder / "manifest.json"), str(folder / "manifest.json"), IntegrityError)
        raw_log = cls(content.request, content.partitions, content.truth, folder)
        for partition in (*raw_log.partitions, *raw_log.truth):
            path = raw_log.path_of(partition)
            if not path.is_file() or path.stat().st_size != partition.num_bytes:
                raise IntegrityError(
                    f"{path}: expected the {partition.num_bytes:,} bytes of '{partition.name}'; run fetch again"
                )
        return raw_log


@dataclass(frozen=True)
class _Manifest(Strict):
    request: LogRequest
    partitions: tuple[Partition, ...]
    truth: tuple[Partition, ...]


@dataclass(frozen=True)
class CleanLog:
    """Rows that hold every promise of the schema, sorted by time (ties in source order), and the account of the others.

    rows.parquet        _row, _time, _click, _impression and the column fields; `part` too for logs published in files
    quarantine.parquet  the raw row's source, number and `reason` for each row that broke a row-level promise
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
class Unreadable(Strict):
    """Lines of a served log that a crash tore."""

    num_lines: int


@dataclass(frozen=True)
class ServedLog:
    """Rows that were scored for the world, with their scores and the clicks joined later (null until then).

    rows.parquet: _impression, _time, _click (nullable), the column fields, score (Float64), bundle (String, its digest)
    An empty table with these columns where nothing was served in the window.
    unreadable.json: how many lines could not be read back; absent where there are none
    """

    request: LogRequest
    folder: Path = dataclasses.field(compare=False)

    def scan(self) -> pl.LazyFrame:
        """The served rows, lazily."""
        import polars as pl

        return pl.scan_parquet(self.folder / "rows.parquet")

    @property
    def num_unreadable(self) -> int:
        """Lines of the window that were torn and are no rows of the table; raises IntegrityError."""
        path = self.folder / UNREADABLE
        return parse(Unreadable, read_json(path), str(path), IntegrityError).num_lines if path.is_file() else 0

    def save(self, folder: Path) -> None:
        """Write the request and link (or copy) the table."""
        write_json(folder / "request.json", self.request)
        link_files(self.folder, folder, but={"request.json"})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the request; the table stays on disk."""
        request = parse(LogRequest, read_json(folder / "request.json"), str(folder / "request.json"), IntegrityError)
        if not (folder / "rows.parquet").is_file():
            raise IntegrityError(f"{folder / 'rows.parquet'}: the file is missing; run fetch again")
        return cls(request, folder)
