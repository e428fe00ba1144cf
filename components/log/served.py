"""The artifact served_log, which `fetch` makes: rows with the scores that the world was given, and the clicks since."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from components.artifact import link_files, read_json, write_json
from components.errors import IntegrityError
from components.log.request import LogRequest
from components.strict import Strict, parse

if TYPE_CHECKING:
    import polars as pl

SERVED_SCORE = "score"
SERVED_BUNDLE = "bundle"
UNREADABLE = "unreadable.json"


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
