"""The artifact raw_log, which `fetch` makes: the files of a log as they were, each known by its digest."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from components.artifact import link_files, read_json, write_json
from components.errors import IntegrityError
from components.log.request import LogRequest
from components.strict import Strict, parse


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
