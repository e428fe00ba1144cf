"""Champions: bundles in DVC, named by git tags in GTO's form, in a git repository that only promotions write to.

One artifact name per log: `ctr-ranker-<log>@v1.2.0` registers a version, `ctr-ranker-<log>#prod#3` assigns it. What
is champion is what the remote's refs say, so every act works in a throw-away clone and ends with one atomic push.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from components.artifact import read_json, write_json
from components.champion import Champion
from components.errors import IntegrityError, OutsideError, RaceError
from components.manifest import verify_manifest

STAGE = "prod"
_FIRST_VERSION = "v1.0.0"
_NAME_PREFIX = "ctr-ranker-"
_AUTHOR = ("-c", "user.name=ctr-pipeline", "-c", "user.email=ctr-pipeline@localhost")


@dataclass(frozen=True)
class Version:
    """A registered bundle: the artifact's name, its semantic version, the commit, and the bundle's digest."""

    name: str
    version: str
    commit: str
    digest: str


@dataclass(frozen=True)
class Registry:
    """Where champions are recorded.

    git    path or URL of the bare repository that holds the tags; made if it is a local path that does not exist
    store  the DVC remote that holds the bundles: a local folder or s3://bucket/prefix
    log    which log's champions
    """

    git: str
    store: str
    log: str

    @property
    def name(self) -> str:
        """The artifact's name in the tags."""
        return _NAME_PREFIX + self.log

    def champion(self) -> Version | None:
        """The version assigned to prod, or None before the first promotion; raises OutsideError."""
        if not self._exists():
            return None
        with self._clone() as clone:
            return self._champion_in(clone)

    def fetch_champion(self, target: Path) -> Champion:
        """Bring the champion's bundle into the empty folder `target`, verified; `Champion.none()` before the first."""
        if not self._exists():
            return Champion.none()
        with self._clone() as clone:
            version = self._champion_in(clone)
            if version is None:
                return Champion.none()
            _git(clone, "checkout", "--quiet", version.commit)
            self._pull(clone)
            digest = verify_manifest(clone / self._path)
            if digest != version.digest:
                raise IntegrityError(
                    f"{self.store}: the bundle of {version.name}@{version.version} has digest {digest}, but the tag's commit "
                    f"records {version.digest}; restore the store from a backup or roll back to an older version"
                )
            shutil.copytree(clone / self._path, target / "bundle")
        return Champion.from_bundle(target / "bundle", version.version)

    def promote(self, bundle: Path, expected_champion: str | None, records: dict[str, bytes], bump: str) -> Version:
        """Make `bundle` the champion, or leave everything as it was.

        expected_champion  digest of the bundle that the challenger was judged against; None if there was none
        records            file name -> content, committed beside the bundle (params, window, dvc.yaml, dvc.lock, card)
        bump               "major" (schema), "minor" (architecture) or "patch" (retraining)

        Raises RaceError where another promotion came first, OutsideError where git or the store did not answer.
        """
        digest = verify_manifest(bundle)
        if not self._exists():
            self._create()
        with self._clone() as clone:
            before = self._champion_in(clone)
            if before is not None and before.digest == digest:
                return before
            found = before.digest if before is not None else None
            if found != expected_champion:
                raise RaceError(
                    f"{self.git}: the champion is {found or 'none'}, but the challenger was judged against "
                    f"{expected_champion or 'none'}; fetch and evaluate again"
                )
            self._store(clone, bundle, digest)
            version = self._register(clone, digest, records, bump, is_known=before is not None)
            self._push(clone)
        return version

    @property
    def _path(self) -> str:
        return f"{self.name}/bundle"

    def _exists(self) -> bool:
        return "://" in self.git or Path(self.git, "HEAD").is_file()

    def _create(self) -> None:
        from dvc.repo import Repo

        Path(self.git).mkdir(parents=True, exist_ok=True)
        _git(Path(self.git), "init", "--quiet", "--bare", "--initial-branch=main")
        with tempfile.TemporaryDirectory() as folder:
            clone = Path(folder, "clone")
            _git(Path(folder), "clone", "--quiet", self.git, str(clone))
            Repo.init(str(clone)).close()
            store = self.store if "://" in self.store else str(Path(self.store).absolute())
            with Repo(str(clone)) as repo, repo.config.edit() as config:
                config["core"] = {"analytics": False, "check_update": False, "remote": "store"}
                config["remote"]["store"] = {"url": store}
            _git(clone, "add", "--all")
            _git(clone, *_AUTHOR, "commit", "--quiet", "-m", "An empty registry")
            _git(clone, "push", "--quiet", "origin", "HEAD:main")

    @contextmanager
    def _clone(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="ctr-registry-") as folder:
            clone = Path(folder, "clone")
            _git(Path(folder), "clone", "--quiet", self.git, str(clone))
            yield clone

    def _champion_in(self, clone: Path) -> Version | None:
        from gto.api import find_versions_in_stage
        from gto.exceptions import ArtifactNotFound

        try:
            assigned = find_versions_in_stage(str(clone), self.name, STAGE)
        except ArtifactNotFound:
            return None
        if not assigned:
            return None
        version = str(assigned[0].version)
        commit = _git(clone, "rev-list", "-n", "1", f"{self.name}@{version}").strip()
        record = _git(clone, "show", f"{commit}:{self.name}/champion.json")
        path = clone / ".champion.json"
        path.write_text(record, encoding="utf-8")
        return Version(self.name, version, commit, read_json(path)["digest"])

    def _store(self, clone: Path, bundle: Path, digest: str) -> None:
        """Track the bundle with DVC, push it, and read it back from the store alone."""
        place = clone / self._path
        place.parent.mkdir(exist_ok=True)
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(bundle, place)
        self._in_dvc(clone, "add", self._path)
        self._in_dvc(clone, "push", f"{self._path}.dvc")
        shutil.rmtree(place)
        shutil.rmtree(clone / ".dvc" / "cache", ignore_errors=True)
        self._pull(clone)
        stored = verify_manifest(place)
        if stored != digest:
            raise IntegrityError(f"{self.store}: pushed bundle {digest}, but read back {stored}; nothing was promoted")

    def _pull(self, clone: Path) -> None:
        self._in_dvc(clone, "pull", f"{self._path}.dvc")

    def _in_dvc(self, clone: Path, act: str, target: str) -> None:
        from dvc.exceptions import DvcException
        from dvc.repo import Repo

        logging.getLogger("dvc").setLevel(logging.WARNING)
        try:
            with Repo(str(clone)) as repo:
                getattr(repo, act)(targets=[str(clone / target)])
        except DvcException as error:
            raise OutsideError(f"{self.store}: dvc {act} of {target} failed: {error}; nothing was promoted") from error

    def _register(self, clone: Path, digest: str, records: dict[str, bytes], bump: str, is_known: bool) -> Version:
        import gto.api

        folder = clone / self.name
        for file, content in records.items():
            (folder / file).write_bytes(content)
        write_json(folder / "champion.json", {"digest": digest, "log": self.log})
        _git(clone, "add", "--all")
        _git(clone, *_AUTHOR, "commit", "--quiet", "-m", f"{self.name}: bundle {digest}")
        _git(clone, "config", "user.name", "ctr-pipeline")
        _git(clone, "config", "user.email", "ctr-pipeline@localhost")
        how = {f"bump_{bump}": True} if is_known else {"version": _FIRST_VERSION}
        tag = gto.api.register(str(clone), self.name, "HEAD", message=f"bundle {digest}", **how)
        gto.api.assign(str(clone), self.name, STAGE, version=tag.version, message=f"bundle {digest}")
        commit = _git(clone, "rev-parse", "HEAD").strip()
        return Version(self.name, str(tag.version), commit, digest)

    def _push(self, clone: Path) -> None:
        try:
            _git(clone, "push", "--quiet", "--atomic", "origin", "HEAD:main", "--tags")
        except OutsideError as error:
            if "rejected" in str(error) or "fetch first" in str(error) or "failed to update" in str(error):
                raise RaceError(
                    f"{self.git}: another promotion was pushed first; fetch and evaluate again ({error})"
                ) from error
            raise


def _git(folder: Path, *arguments: str) -> str:
    """Run git; raises OutsideError with what git said."""
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OutsideError(f"{folder}: `git {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout
