"""The bundle's folder: what lies in it, and how it is checked before it is used.

scorer/ profile/                    what serves, and what served rows are held against
evaluation.json *.parquet           the figures, with the slices and the reliability diagram's bins
verdict.json lineage.json schema.json architecture.json
card.md drawing.svg                 for people
manifest.json                       SHA-256 and size of each of these; its own SHA-256 is the bundle's digest
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from components.autopi.architecture import Architecture
from components.champion import PROFILE, SCORER
from components.errors import IntegrityError
from components.evaluating.evaluation import EvaluationFacts
from components.judging import Verdict
from components.lineage import LINEAGE, Lineage, read_lineage
from components.log import LogSchema
from components.manifest import MANIFEST, read_guarded_json, verify_manifest
from components.strict import Strict, parse

CARD = "card.md"
DRAWING = "drawing.svg"
SCHEMA = "schema.json"
ARCHITECTURE = "architecture.json"
EVALUATION = "evaluation.json"
VERDICT = "verdict.json"
TABLES = ("reliability.parquet", "slices.parquet")
FOLDERS = (SCORER, PROFILE)
FILES = (CARD, DRAWING, SCHEMA, ARCHITECTURE, EVALUATION, VERDICT, LINEAGE, *TABLES)


@dataclass(frozen=True)
class BundledArchitecture(Strict):
    """Which ranker serves; `line` and `architecture` are None for a ranker that no search found."""

    ranker: str
    line: str | None
    architecture: Architecture | None


@dataclass(frozen=True)
class Bundle:
    """A closed folder's files by path, its digest, and the two that decide about a promotion; equal byte for byte.

    loaded_from  the folder that it was read from; None while only in memory
    """

    digest: str
    files: Mapping[str, bytes] = dataclasses.field(repr=False)
    verdict: Verdict = dataclasses.field(compare=False, repr=False)
    lineage: Lineage = dataclasses.field(compare=False, repr=False)
    loaded_from: Path | None = dataclasses.field(compare=False)

    @property
    def folder(self) -> Path:
        """Where a loaded bundle's files lie."""
        assert self.loaded_from is not None, "a bundle in memory has no folder before it is saved"
        return self.loaded_from

    @property
    def num_bytes(self) -> int:
        """Of all files together."""
        return sum(len(content) for content in self.files.values())

    def save(self, folder: Path) -> None:
        """Write every file as it was when the bundle was closed."""
        for place, content in self.files.items():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).write_bytes(content)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Verify the folder, then read it; raises IntegrityError naming the file that is not as recorded."""
        digest = verify_bundle(folder)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        return cls(digest, files, _verdict_in(folder), read_lineage(folder), folder)


def verify_bundle(folder: Path) -> str:
    """Recompute every digest, and read every fact strictly; gives the bundle's digest or raises IntegrityError."""
    digest = verify_manifest(folder)
    present = {path.name for path in folder.iterdir()} - {MANIFEST}
    for name in (*FOLDERS, *FILES):
        if name not in present:
            raise IntegrityError(f"{folder / name}: missing, but every bundle has it; pack again")
        if (folder / name).is_dir() != (name in FOLDERS):
            raise IntegrityError(f"{folder / name}: {'a file' if name in FOLDERS else 'a folder'} where none belongs")
    for name in sorted(present - {*FOLDERS, *FILES}):
        raise IntegrityError(f"{folder / name}: no bundle has such a file; it was added")
    read_lineage(folder).span("train")
    _verdict_in(folder)
    for name, kind in ((SCHEMA, LogSchema), (ARCHITECTURE, BundledArchitecture), (EVALUATION, EvaluationFacts)):
        parse(kind, read_guarded_json(folder / name), str(folder / name), IntegrityError)
    return digest


def _verdict_in(folder: Path) -> Verdict:
    return parse(Verdict, read_guarded_json(folder / VERDICT), str(folder / VERDICT), IntegrityError)
