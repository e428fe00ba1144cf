"""A run's workspace in an object store: what a pod pulls, one step run on it, and what it pushes back.

CTR_WORKSPACES (a folder, or s3://bucket/prefix) holds  RUN/order/     params.yaml and window.yaml of the run
                                                        RUN/steps/     a step's entry of dvc.lock each: it is done
                                                        RUN/checkpoints/STEP/  of one that was stopped or killed
and, for all runs together, files/: the DVC remote with everything that steps made. A step's entry is written last, after
what DVC pushed was found in the remote again; so a step that has one is complete, whatever happened to its pod.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components.errors import ConfigError, IntegrityError, OutsideError
from pipeline.on_dvc import run_through_dvc
from pipeline.plan import ARTIFACTS, read_plan
from pipeline.run import Workspace

_CODE = ("components", "pipeline", "logs")
_FILES = ("dvc.yaml", "requirements.lock")
_ORDER = ("params.yaml", "window.yaml")
_REMOTE = "workspaces"


@dataclass(frozen=True)
class RunStore:
    """One run's part of the store: `address` is that of all runs, `run` the run's name."""

    address: str
    run: str

    def order(self, worktree: Path) -> None:
        """Note what the run is to do: its params and window."""
        for name in _ORDER:
            self._put(worktree / name, f"order/{name}")

    def fill(self, folder: Path) -> None:
        """Bring the run's params, window and the entries of all steps that are done into a workspace; point DVC at the remote."""
        for name in _ORDER:
            if not self._get(f"order/{name}", folder / name):
                raise ConfigError(f"{self.address}/{self.run}: no such run; `runs open` makes one")
        entries = {Path(name).stem: self._read(name) for name in self._names("steps")}
        if entries:
            lock = {"schema": "2.0", "stages": {verb: json.loads(entry) for verb, entry in sorted(entries.items())}}
            (folder / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False), "utf-8")
        for words in (
            ["remote", "add", "--local", "--force", _REMOTE, f"{self.address}/files"],
            ["config", "--local", "core.remote", _REMOTE],
        ):
            _dvc(folder, *words)

    def pull(self, folder: Path, artifacts: Sequence[str]) -> None:
        """Bring artifacts that earlier steps made; all of them where none is named."""
        if artifacts or (folder / "dvc.lock").is_file():
            _dvc(folder, "pull", "--quiet", *(str(ARTIFACTS / name) for name in artifacts))

    def push(self, folder: Path, verb: str, artifacts: Sequence[str]) -> None:
        """Push what a step made, look for it there, and only then note the step as done; raises IntegrityError if it is not."""
        places = [str(ARTIFACTS / name) for name in artifacts]
        _dvc(folder, "push", "--quiet", *places)
        missing = _dvc(folder, "status", "--cloud", "--json", *places)
        if json.loads(missing or "{}"):
            raise IntegrityError(f"{self.address}/files: what {verb} pushed is not all there: {missing.strip()}")
        entry = yaml.safe_load((folder / "dvc.lock").read_text("utf-8"))["stages"][verb]
        kept = folder / ".ctr" / "entry.json"
        kept.write_text(json.dumps(entry), "utf-8")
        self._put(kept, f"steps/{verb}.json")

    def keep_checkpoints(self, folder: Path, verb: str) -> None:
        """Copy a step's checkpoints, as they are now, into the store; nothing where it has none."""
        place = _checkpoints(folder, verb)
        for path in sorted(place.rglob("*")) if place.is_dir() else []:
            if path.is_file() and not path.name.endswith(".unfinished"):
                self._put(path, f"checkpoints/{verb}/{path.relative_to(place)}")

    def bring_checkpoints(self, folder: Path, verb: str) -> None:
        """Bring the checkpoints of an earlier try."""
        for name in self._names(f"checkpoints/{verb}"):
            self._get(name, _checkpoints(folder, verb) / Path(name).relative_to(f"checkpoints/{verb}"))

    def forget(self) -> None:
        """Remove the run's own part; what steps made stays in the remote."""
        with _reaching(self.address) as (system, root):
            if system.exists(f"{root}/{self.run}"):
                system.rm(f"{root}/{self.run}", recursive=True)

    def _put(self, path: Path, name: str) -> None:
        with _reaching(self.address) as (system, root):
            target = f"{root}/{self.run}/{name}"
            system.makedirs(target.rpartition("/")[0], exist_ok=True)
            system.put_file(str(path), target)

    def _get(self, name: str, path: Path) -> bool:
        with _reaching(self.address) as (system, root):
            source = f"{root}/{self.run}/{name}"
            if not system.exists(source):
                return False
            path.parent.mkdir(parents=True, exist_ok=True)
            system.get_file(source, str(path))
            return True

    def _read(self, name: str) -> bytes:
        with _reaching(self.address) as (system, root):
            return bytes(system.cat_file(f"{root}/{self.run}/{name}"))

    def _names(self, part: str) -> list[str]:
        """Names below the run of all files in one of its folders."""
        with _reaching(self.address) as (system, root):
            own = f"{root}/{self.run}/"
            return sorted(path.removeprefix(own) for path in system.find(f"{own}{part}"))


def run_step_in_store(home: Path, store: RunStore, verb: str, folder: Path, keep_seconds: float) -> int:
    """Run one step of `dvc.yaml` in `folder`, an empty workspace, with what the store holds; gives the step's exit code.

    Checkpoints go into the store every `keep_seconds` and when the step has ended without success, so that another pod
    resumes from them.
    """
    lay_workspace(home, folder)
    store.fill(folder)
    step = read_plan(folder / "dvc.yaml").step(verb)
    store.pull(folder, step.reads)
    store.bring_checkpoints(folder, verb)
    with _kept(store, folder, verb, keep_seconds):
        code = run_through_dvc(Workspace(folder), verb)
    if code == 0:
        store.push(folder, verb, step.makes)
    else:
        store.keep_checkpoints(folder, verb)
    return code


def lay_workspace(home: Path, folder: Path) -> None:
    """A workspace without git: copies of the code and of the line, and a DVC repository of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _CODE:
        if (home / name).is_dir():
            shutil.copytree(
                home / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
            )
    for name in _FILES:
        if (home / name).is_file():
            shutil.copyfile(home / name, folder / name)
    (folder / ".home").write_text(str(home), "utf-8")
    (folder / ".ctr").mkdir(exist_ok=True)
    if not (folder / ".dvc").is_dir():
        _dvc(folder, "init", "--no-scm", "--quiet")


@contextmanager
def _kept(store: RunStore, folder: Path, verb: str, seconds: float) -> Iterator[None]:
    """Copy checkpoints into the store every so often while inside; a copy that fails is tried again at the next turn."""
    is_over = threading.Event()

    def keep() -> None:
        while not is_over.wait(seconds):
            try:
                store.keep_checkpoints(folder, verb)
            except OutsideError as error:
                print(f"the checkpoint was not kept, tried again in {seconds:g} s: {error}", file=sys.stderr)

    thread = threading.Thread(target=keep, daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _checkpoints(folder: Path, verb: str) -> Path:
    return folder / ".ctr" / "checkpoints" / verb


@contextmanager
def _reaching(address: str) -> Iterator[tuple[Any, str]]:
    """The file system behind an address, and the path there; what it raises becomes OutsideError, a refusal ConfigError."""
    import fsspec
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        system, root = fsspec.core.url_to_fs(address, **({} if "://" not in address else {"use_listings_cache": False}))
        yield system, root.rstrip("/")
    except PermissionError as error:
        raise ConfigError(
            f"{address}: access was refused ({error}); check the credentials in the environment"
        ) from error
    except (OSError, BotoCoreError, ClientError) as error:
        raise OutsideError(f"{address}: the storage did not answer ({error})") from error


def _dvc(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OutsideError(f"{folder}: `dvc {' '.join(arguments)}` failed: {done.stderr.strip()[-1000:]}")
    return done.stdout
