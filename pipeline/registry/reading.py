"""Reading champions: a throw-away clone's tags and commits, and bundles out of the store, verified before they are used.

One artifact name per log: `ctr-ranker-<log>@v1.2.0` registers a version, `ctr-ranker-<log>#prod#3` assigns it, and the
commit of a version holds the bundle's .dvc file and what it came from. What is champion is what the remote's refs say.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components.errors import ConfigError, IntegrityError
from components.manifest import verify_manifest
from components.strict import parse
from pipeline.registry import bundles, tags
from pipeline.registry.clone import Clone, cloned, git
from pipeline.registry.records import PROD, STAGES, Event, Hold, Keys, Observe, Record, RegistryParams, Version
from pipeline.registry.signing import SIGNATURE, check_signature
from pipeline.registry.store import Store, store_at

if TYPE_CHECKING:
    from components.champion import Champion, Term

NAME_PREFIX = "ctr-ranker-"
HOLD = "hold.json"
_MICROSECONDS = 1_000_000


@dataclass(frozen=True)
class Champions:
    """Where champions are recorded.

    git      path or URL of the bare repository that holds the tags; made if it is a local path that does not exist
    store    the DVC remote that holds the bundles: a local folder or s3://bucket/prefix
    log      which log's champions
    scratch  a folder for throw-away clones
    keys     whether bundles are signed, and whether signatures are asked for
    observe  told before and after each effect
    """

    git: str
    store: str
    log: str
    scratch: Path
    params: RegistryParams
    keys: Keys
    observe: Observe

    @property
    def name(self) -> str:
        """The artifact's name in the tags."""
        return NAME_PREFIX + self.log

    @property
    def branch(self) -> str:
        """The branch that this log's acts race for."""
        return f"champions/{self.log}"

    def bundles(self) -> Store:
        """This log's part of the store."""
        return store_at(self.store, self.name, self.params)

    def champion(self, stage: str = PROD) -> Version | None:
        """The version assigned to a stage, or None before the first; raises OutsideError."""
        if not self.exists():
            return None
        with self.cloned() as clone:
            return self.assigned(clone, stage)

    def fetch_champion(self, target: Path) -> Champion:
        """Bring the champion's bundle into the empty folder `target`, verified; `Champion.none()` before the first."""
        from components.champion import Champion

        if not self.exists():
            return Champion.none()
        with self.cloned() as clone:
            version = self.assigned(clone, PROD)
            if version is None:
                return Champion.none()
            self.bring(clone, version, target / "bundle")
            terms = self.terms(clone, version)
        return Champion.from_bundle(target / "bundle", version.version, terms)

    def fetch(self, version: str, target: Path) -> Version:
        """Bring a registered version's bundle into the new folder `target`, verified; raises ConfigError, IntegrityError."""
        with self.cloned() as clone:
            found = self.registered(clone, version)
            self.bring(clone, found, target)
        return found

    def exists(self) -> bool:
        """The git repository is there (or is a URL, which says so when it is asked)."""
        return "://" in self.git or Path(self.git, "HEAD").is_file()

    def refs(self) -> str:
        """This log's branch and assignments as the remote has them: another text after every act that became visible."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        wanted = (f"refs/heads/{self.branch}", f"refs/tags/{self.name}#*")
        return git(self.scratch, self.params.git_timeout_seconds, "ls-remote", "--", self._origin, *wanted)

    @property
    def _origin(self) -> str:
        return self.git if "://" in self.git else str(Path(self.git).absolute())

    @contextmanager
    def cloned(self) -> Iterator[Clone]:
        """A throw-away clone; raises ConfigError where there is no registry yet."""
        if not self.exists():
            raise ConfigError(f"{self.git}: no registry there yet; `promote` makes it, or set CTR_REGISTRY")
        with cloned(self._origin, self.branch, self.scratch, self.params.git_timeout_seconds) as clone:
            tags.leave_what_gto_asks_for(clone, self.name)
            yield clone

    def events(self, clone: Clone) -> list[Event]:
        """Every registration and assignment, oldest first."""
        return tags.events(clone, self.name)

    def assigned(self, clone: Clone, stage: str) -> Version | None:
        """The version in a stage, as the clone's tags say."""
        if stage not in STAGES:
            raise ConfigError(f"no stage '{stage}'; there are {list(STAGES)}")
        version = tags.assigned(clone.folder, self.name, stage)
        return self.registered(clone, version) if version is not None else None

    def registered(self, clone: Clone, version: str) -> Version:
        """A registered version; raises ConfigError where there is none of that number."""
        tags.number_of(version)
        known = {event.version: event for event in self.events(clone) if event.kind == "register"}
        if version not in known:
            raise ConfigError(f"{self.name} has no {version}; there are {list(known)}")
        commit = known[version].commit
        return Version(self.name, version, commit, self.record(clone, commit).digest)

    def version_of(self, clone: Clone, digest: str) -> Version:
        """The registered version of a bundle; raises IntegrityError where no tag names it."""
        for event in self.events(clone):
            if event.kind == "register" and self.record(clone, event.commit).digest == digest:
                return Version(self.name, event.version, event.commit, digest)
        raise IntegrityError(f"{self.git}: no tag of {self.name} names bundle {digest}")

    def terms(self, clone: Clone, champion: Version) -> tuple[Term, ...]:
        """Which bundle was champion from when on, oldest first, as the assignments' tags say.

        Empty where somebody unassigned with plain GTO, so that the last of them is not the champion's.
        """
        from components.champion import Term

        assigned = [event for event in self.events(clone) if event.kind == "assign" and event.stage == PROD]
        if not assigned or assigned[-1].version != champion.version:
            return ()
        digests = {commit: self.record(clone, commit).digest for commit in {event.commit for event in assigned}}
        return tuple(Term(event.version, digests[event.commit], event.seconds * _MICROSECONDS) for event in assigned)

    def record(self, clone: Clone, commit: str) -> Record:
        """What a version's commit says of its bundle; raises IntegrityError."""
        where = f"{self.git} {commit}:{self.name}/champion.json"
        text = clone.read(commit, f"{self.name}/champion.json")
        if text is None:
            raise IntegrityError(f"{where}: missing; the tag was not made by a promotion")
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise IntegrityError(f"{where}: not readable as JSON ({error})") from error
        return parse(Record, content, where, IntegrityError)

    def hold_in(self, clone: Clone) -> Hold | None:
        """The hold of the branch's head, if there is one."""
        path = clone.folder / HOLD
        if not path.is_file():
            return None
        return parse(Hold, json.loads(path.read_text(encoding="utf-8")), str(path), IntegrityError)

    def pushed_md5(self, clone: Clone, commit: str) -> str:
        """The MD5 under which DVC pushed the bundle of a version's commit."""
        where = f"{self.name}/bundle.dvc"
        return bundles.pushed_md5(clone.read(commit, where) or "", f"{self.git} {commit}:{where}")

    def bring(self, clone: Clone, version: Version, target: Path) -> None:
        """Copy a version's bundle out of the store; raises IntegrityError where it is not what was promoted."""
        store = self.bundles()
        store.check()
        store.bring(self.pushed_md5(clone, version.commit), target)
        digest = verify_manifest(target)
        if digest != version.digest:
            raise IntegrityError(
                f"{store.url}: the bundle of {version.name}@{version.version} has digest {digest}, but the tag's commit "
                f"records {version.digest}; restore the store from a backup or roll back to an older version"
            )
        if self.keys.public is not None:
            signature = clone.read(version.commit, f"{self.name}/{SIGNATURE}")
            check_signature(
                target,
                signature.encode() if signature is not None else None,
                self.keys.public,
                f"{self.name}@{version.version}",
            )
