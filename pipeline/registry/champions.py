"""Acts on champions: promote, assign, hold and release. Each works in a throw-away clone and ends with one atomic push."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from components.artifact import write_json
from components.errors import IntegrityError, OutsideError, RaceError
from components.manifest import verify_manifest
from pipeline.registry import bundles, tags
from pipeline.registry.clone import Clone, make_local
from pipeline.registry.reading import HOLD, Champions
from pipeline.registry.records import PROD, RECORD_FORMAT, Bump, Challenger, Hold, Record, Refused, Version
from pipeline.registry.signing import SIGNATURE, sign
from pipeline.registry.store import Store

COLLECTING = "collecting.json"
_MENDS = 2  # of the list of a bundle's files, and then of the files that it names


@dataclass(frozen=True)
class Registry(Champions):
    """The registry for those who change it, too."""

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
            return self.assign_in(clone, version, stage, why, hold)

    def assign_in(self, clone: Clone, version: str, stage: str, why: str, hold: str | None) -> Version:
        """Assign as what was read in this clone says; RaceError where another act was pushed since it was made."""
        found = self.registered(clone, version)
        self.bring(clone, found, clone.folder.parent / "asked")
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
                f"{challenger.judged_against or 'none'}; pin today's (python -m pipeline fetch --only champion), evaluate against "
                "it (dvc repro, or another run under Airflow) and promote again: on a laptop `make judge-anew` does all three"
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
        registrations = [event for event in self.events(clone) if event.kind == "register"]
        found = clone.saying([event.commit for event in registrations], _registering(self.name, digest))
        known = [event.version for event in registrations if event.commit in found]
        return self.registered(clone, known[-1]) if known else None

    def _next(self, clone: Clone, bump: Bump) -> str:
        champion = tags.assigned(clone.folder, self.name, PROD)
        return tags.next_version([one.version for one in self.events(clone) if one.kind == "register"], champion, bump)

    def _push_and_read_back(self, clone: Clone, store: Store, bundle: Path, digest: str) -> None:
        """Push the bundle until the store gives back the same bytes: what an interrupted push left damaged, once more."""
        with self._effect("push bundle"):
            md5 = bundles.push_bundle(clone.folder, store.url, self.name, bundle)
        with self._effect("read back"):
            for _ in range(_MENDS):
                try:
                    self._read_back(clone, store, md5, digest)
                except IntegrityError:
                    store.remove_damaged(md5, clone.folder.parent)
                    bundles.push_bundle(clone.folder, store.url, self.name, bundle)
                else:
                    return
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
            (folder / SIGNATURE).write_bytes(sign(challenger.bundle, self.keys.private))
        with self._effect("commit"):
            commit = clone.commit(_registering(self.name, digest))
        version = self._next(clone, challenger.bump)
        with self._effect("register"):
            registered = tags.register(clone.folder, self.name, version, why)
        with self._effect("assign"):
            tags.wait_for_the_clock(self.events(clone), self.params.clock_wait_seconds)
            assigned = tags.assign(clone, self.name, stage, version, why)
        with self._effect("push refs"):
            clone.push((registered, assigned))
        return Version(self.name, version, commit, digest)

    def _assign(self, clone: Clone, version: str, stage: str, why: str) -> Version:
        with self._effect("assign"):
            tags.wait_for_the_clock(self.events(clone), self.params.clock_wait_seconds)
            assigned = tags.assign(clone, self.name, stage, version, why)
        self._commit_and_push(clone, f"{self.name}: {version} to {stage}: {why}", (assigned,))
        return self.registered(clone, version)

    def _commit_and_push(self, clone: Clone, message: str, assigned: tuple[str, ...]) -> None:
        with self._effect("commit"):
            clone.commit(message)
        with self._effect("push refs"):
            clone.push(assigned)

    def _make(self) -> None:
        if not self.exists():
            with self._effect("make registry"):
                make_local(Path(self.git).absolute(), self.params.git_timeout_seconds)

    @contextmanager
    def _effect(self, name: str) -> Iterator[None]:
        self.observe(f"before {name}")
        yield
        self.observe(f"after {name}")


def _registering(name: str, digest: str) -> str:
    return f"{name}: bundle {digest}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _moment(microseconds: int) -> str:
    return datetime.fromtimestamp(microseconds / 1e6, UTC).isoformat(timespec="seconds")
