"""Champions of one log: who they are, how one is made, and how to go back. Every act ends with one atomic push.

One artifact name per log: `ctr-ranker-<log>@v1.2.0` registers a version, `ctr-ranker-<log>#prod#3` assigns it, and the
commit of a version holds the bundle's .dvc file and what it came from. What is champion is what the remote's refs say.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from components.artifact import write_json
from components.errors import ConfigError, IntegrityError, OutsideError, RaceError
from components.manifest import verify_manifest
from components.strict import parse
from pipeline.registry import bundles, tags
from pipeline.registry.clone import Clone, cloned, make_local
from pipeline.registry.records import (
    PROD,
    RECORD_FORMAT,
    STAGES,
    Bump,
    Challenger,
    Event,
    Hold,
    Keys,
    Observe,
    Record,
    Refused,
    RegistryParams,
    Version,
)
from pipeline.registry.signing import check_signature, sign
from pipeline.registry.store import Store, store_at

if TYPE_CHECKING:
    from components.champion import Champion

NAME_PREFIX = "ctr-ranker-"
HOLD = "hold.json"
COLLECTING = "collecting.json"
_SIGNATURE = "bundle.sig"


@dataclass(frozen=True)
class Registry:
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
            self._bring(clone, version, target / "bundle")
        return Champion.from_bundle(target / "bundle", version.version)

    def fetch(self, version: str, target: Path) -> Version:
        """Bring a registered version's bundle into the new folder `target`, verified; raises ConfigError, IntegrityError."""
        with self.cloned() as clone:
            found = self.registered(clone, version)
            self._bring(clone, found, target)
        return found

    def promote(self, challenger: Challenger, stage: str = PROD) -> Version:
        """Make the challenger's bundle the champion (or assign it to another stage), or leave everything as it was.

        Raises RaceError where another promotion came first, Refused where the gate says no, OutsideError where git or
        the store did not answer, ConfigError where they may not be used.
        """
        digest = verify_manifest(challenger.bundle)
        self._make()
        with self.cloned() as clone:
            done = self._examine(clone, challenger, digest, stage)
            if done is not None:
                return done
            store = self.bundles()
            store.check()
            bundles.make_dvc(clone.folder, store.url, self.name)
            clone.refuse_if_overtaken()
            self._push_and_read_back(clone, store, challenger.bundle, digest)
            clone.refuse_if_overtaken()
            return self._record(clone, challenger, digest, stage)

    def examine(self, challenger: Challenger, stage: str = PROD) -> str:
        """Which version `promote` would make of the challenger; raises what `promote` would, and changes nothing."""
        digest = verify_manifest(challenger.bundle)
        if not self.exists():
            if challenger.judged_against is not None:
                raise RaceError(f"{self.git}: there is no champion, but the challenger was judged against one")
            return tags.next_version((), None, challenger.bump)
        with self.cloned() as clone:
            done = self._examine(clone, challenger, digest, stage) or self._registered_as(clone, digest)
            return done.version if done is not None else self._next(clone, challenger.bump)

    def assign(self, version: str, stage: str, why: str, hold: str | None) -> Version:
        """Assign a registered version to a stage, for a rollback; with `hold`, no promotion until `release`."""
        with self.cloned() as clone:
            found = self.registered(clone, version)
            clone_store = self.bundles()
            clone_store.check()
            self._bring(clone, found, clone.folder.parent / "asked")
            if hold is not None:
                write_json(clone.folder / HOLD, Hold(hold, _now()))
            return self._assign(clone, found.version, stage, why)

    def hold(self, reason: str) -> None:
        """No promotion to prod until `release`."""
        self._make()
        with self.cloned() as clone:
            write_json(clone.folder / HOLD, Hold(reason, _now()))
            self._commit_and_push(clone, f"{self.name}: held: {reason}", ())

    def release(self) -> Hold | None:
        """End a hold; gives it, or None where there was none."""
        if not self.exists():
            return None
        with self.cloned() as clone:
            found = self.hold_in(clone)
            if found is not None:
                (clone.folder / HOLD).unlink()
                self._commit_and_push(clone, f"{self.name}: released", ())
            return found

    def exists(self) -> bool:
        """The git repository is there (or is a URL, which says so when it is asked)."""
        return "://" in self.git or Path(self.git, "HEAD").is_file()

    @contextmanager
    def cloned(self) -> Iterator[Clone]:
        """A throw-away clone; raises ConfigError where there is no registry yet."""
        if not self.exists():
            raise ConfigError(f"{self.git}: no registry there yet; `promote` makes it, or set CTR_REGISTRY")
        origin = self.git if "://" in self.git else str(Path(self.git).absolute())
        with cloned(origin, self.branch, self.scratch, self.params.git_timeout_seconds) as clone:
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

    def _examine(self, clone: Clone, challenger: Challenger, digest: str, stage: str) -> Version | None:
        """Give the version if all is done already; raise where the challenger may not be promoted."""
        before = self.assigned(clone, stage)
        if before is not None and before.digest == digest:
            return before
        champion = before if stage == PROD else self.assigned(clone, PROD)
        found = champion.digest if champion is not None else None
        if found != challenger.judged_against:
            raise RaceError(
                f"{self.git}: the champion is {found or 'none'}, but the challenger was judged against "
                f"{challenger.judged_against or 'none'}; fetch and evaluate again"
            )
        held = self.hold_in(clone)
        if held is not None and stage == PROD:
            raise Refused(
                f"{self.name} is held since {held.since}: {held.reason}; the champion stays until `python -m pipeline release`"
            )
        if champion is not None:
            last = self.record(clone, champion.commit).data_last_time
            if last is not None and challenger.data_last_time is not None and challenger.data_last_time < last:
                raise Refused(
                    f"the challenger's data ends {_moment(challenger.data_last_time)}, before that of the champion "
                    f"{champion.version}, {_moment(last)}; the champion stays"
                )
        if (clone.folder / COLLECTING).exists():
            raise OutsideError(
                f"{self.store}: `gc` is tidying up; try again later, or run `gc` again if it was stopped"
            )
        return None

    def _registered_as(self, clone: Clone, digest: str) -> Version | None:
        """The newest version whose bundle this is: rolled back from, in another stage, or left by a promotion that died."""
        for event in reversed(self.events(clone)):
            if event.kind == "register" and self.record(clone, event.commit).digest == digest:
                return self.registered(clone, event.version)
        return None

    def _next(self, clone: Clone, bump: Bump) -> str:
        champion = tags.assigned(clone.folder, self.name, PROD)
        return tags.next_version([one.version for one in self.events(clone) if one.kind == "register"], champion, bump)

    def _push_and_read_back(self, clone: Clone, store: Store, bundle: Path, digest: str) -> None:
        """Push the bundle until the store gives back the same bytes: what an interrupted push left damaged, once more."""
        with self._effect("push bundle"):
            md5 = bundles.push_bundle(clone.folder, store.url, self.name, bundle)
        try:
            with self._effect("read back"):
                self._read_back(clone, store, md5, digest)
        except IntegrityError:
            store.remove_damaged(md5, clone.folder.parent)
            bundles.push_bundle(clone.folder, store.url, self.name, bundle)
            self._read_back(clone, store, md5, digest)

    def _read_back(self, clone: Clone, store: Store, md5: str, digest: str) -> None:
        place = clone.folder.parent / "read-back"
        shutil.rmtree(place, ignore_errors=True)
        store.bring(md5, place)
        stored = verify_manifest(place)
        shutil.rmtree(place)
        if stored != digest:
            raise IntegrityError(f"{store.url}: pushed bundle {digest}, but read back {stored}; nothing was promoted")

    def _record(self, clone: Clone, challenger: Challenger, digest: str, stage: str) -> Version:
        """Commit, register and assign in the clone, then push all of it at once."""
        known = self._registered_as(clone, digest)
        why = "; ".join(challenger.why) or f"bundle {digest}"
        if known is not None:
            return self._assign(clone, known.version, stage, why)
        folder = clone.folder / self.name
        shutil.rmtree(clone.folder / "project", ignore_errors=True)
        for old in folder.iterdir():
            if old.name not in ("bundle.dvc", ".gitignore"):
                old.unlink()
        for path, content in challenger.records.items():
            (clone.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (clone.folder / path).write_bytes(content)
        record = Record(
            format=RECORD_FORMAT,
            log=self.log,
            digest=digest,
            judged_against=challenger.judged_against,
            data_first_time=challenger.data_first_time,
            data_last_time=challenger.data_last_time,
            why=challenger.why,
        )
        write_json(folder / "champion.json", record)
        if self.keys.private is not None:
            (folder / _SIGNATURE).write_bytes(sign(challenger.bundle, self.keys.private))
        with self._effect("commit"):
            commit = clone.commit(f"{self.name}: bundle {digest}")
        version = self._next(clone, challenger.bump)
        with self._effect("register"):
            registered = tags.register(clone.folder, self.name, version, why)
        with self._effect("assign"):
            tags.wait_for_the_clock(self.events(clone), self.params.clock_wait_seconds)
            assigned = tags.assign(clone.folder, self.name, stage, version, why)
        with self._effect("push refs"):
            clone.push((registered, assigned))
        return Version(self.name, version, commit, digest)

    def _assign(self, clone: Clone, version: str, stage: str, why: str) -> Version:
        with self._effect("assign"):
            tags.wait_for_the_clock(self.events(clone), self.params.clock_wait_seconds)
            assigned = tags.assign(clone.folder, self.name, stage, version, why)
        self._commit_and_push(clone, f"{self.name}: {version} to {stage}: {why}", (assigned,))
        return self.registered(clone, version)

    def _commit_and_push(self, clone: Clone, message: str, assigned: tuple[str, ...]) -> None:
        with self._effect("commit"):
            clone.commit(message)
        with self._effect("push refs"):
            clone.push(assigned)

    def _bring(self, clone: Clone, version: Version, target: Path) -> None:
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
            signature = clone.read(version.commit, f"{self.name}/{_SIGNATURE}")
            check_signature(
                target,
                signature.encode() if signature is not None else None,
                self.keys.public,
                f"{self.name}@{version.version}",
            )

    def _make(self) -> None:
        if not self.exists():
            with self._effect("make registry"):
                make_local(Path(self.git).absolute(), self.params.git_timeout_seconds)

    @contextmanager
    def _effect(self, name: str) -> Iterator[None]:
        self.observe(f"before {name}")
        yield
        self.observe(f"after {name}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _moment(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="seconds")
