"""The ranker that serves now, pinned with its digest: what a challenger is held against and served rows are watched with.

Stands after `profiling` and `lineage` in the data's way and before `evaluating`; `fetch` makes it from a bundle of the
registry, or as an explicit "none" before the first promotion. Its digests are verified before anything in it is read.

    champion.json   version and digest, or null and null for none
    bundle/         the bundle's files, as they were packed
    terms.json      which bundle was champion from when on; absent where that is not known
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from components.artifact import link_files, write_json
from components.errors import IntegrityError
from components.lineage import read_lineage
from components.manifest import read_guarded_json, verify_manifest
from components.profiling import ReferenceProfile
from components.scoring import Scorer
from components.strict import Strict, parse

SCORER = "scorer"
PROFILE = "profile"
_BUNDLE = "bundle"
_CHAMPION = "champion.json"
_TERMS = "terms.json"


@dataclass(frozen=True)
class Term(Strict):
    """A bundle became champion at `start` (microseconds since 1970, UTC), by promotion or rollback, until the next term starts."""

    version: str
    digest: str
    start: int


@dataclass(frozen=True)
class Champion:
    """The serving scorer, its reference profile and data window; all None together where nothing was promoted yet.

    Two champions are equal when version and digest are: the digest stands for every byte of the bundle.
    train_first_time, train_last_time  of the rows it was trained on, in microseconds; None for a log without time
    folder                             where the bundle's files lie
    terms                              of all champions so far, oldest first; empty where not known
    """

    version: str | None
    digest: str | None
    train_first_time: int | None
    train_last_time: int | None
    scorer: Scorer | None = dataclasses.field(compare=False, repr=False)
    profile: ReferenceProfile | None = dataclasses.field(compare=False, repr=False)
    folder: Path | None = dataclasses.field(compare=False)
    terms: tuple[Term, ...] = dataclasses.field(default=(), compare=False)

    @property
    def is_none(self) -> bool:
        """Nothing was promoted yet."""
        return self.digest is None

    @classmethod
    def none(cls) -> Self:
        """The champion before the first promotion."""
        return cls(None, None, None, None, None, None, None)

    @classmethod
    def from_bundle(cls, folder: Path, version: str, terms: tuple[Term, ...] = ()) -> Self:
        """Open the bundle in `folder`, digests first; raises IntegrityError naming the file that is not as recorded."""
        digest = verify_manifest(folder)
        train = read_lineage(folder).span("train")
        scorer = Scorer.load(folder / SCORER)
        profile = ReferenceProfile.load(folder / PROFILE)
        return cls(version, digest, train.first_time, train.last_time, scorer, profile, folder, terms)

    def save(self, folder: Path) -> None:
        """Write version and digest, and link (or copy) the bundle's files."""
        write_json(folder / _CHAMPION, _Pin(self.version, self.digest))
        if self.folder is not None:
            link_files(self.folder, folder / _BUNDLE)
        if self.terms:
            write_json(folder / _TERMS, _Terms(self.terms))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read back what `save` wrote; raises IntegrityError where the bundle's digest is not the pinned one."""
        path = folder / _CHAMPION
        pin = parse(_Pin, read_guarded_json(path), str(path), IntegrityError)
        if pin.version is None or pin.digest is None:
            if pin.version != pin.digest or (folder / _BUNDLE).exists():
                raise IntegrityError(f"{path}: says neither clearly 'none' nor which bundle; run fetch again")
            return cls.none()
        champion = cls.from_bundle(folder / _BUNDLE, pin.version, _read_terms(folder / _TERMS))
        if champion.digest != pin.digest:
            raise IntegrityError(
                f"{folder / _BUNDLE}: digest {champion.digest}, {_CHAMPION} pins {pin.digest}; run fetch again"
            )
        return champion


def _read_terms(path: Path) -> tuple[Term, ...]:
    if not path.is_file():
        return ()
    return parse(_Terms, read_guarded_json(path), str(path), IntegrityError).terms


@dataclass(frozen=True)
class _Terms(Strict):
    terms: tuple[Term, ...]


@dataclass(frozen=True)
class _Pin(Strict):
    version: str | None
    digest: str | None
