"""Running one stage: load what its signature names, call it, and show its artifact whole or not at all.

An artifact is written into a hidden folder, flushed to disk, and exchanged with the old one in a single system call
(renameat2 with RENAME_EXCHANGE), so whoever looks sees the last good artifact until the new one is complete.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from components.artifact import flush
from components.errors import ConfigError, IntegrityError, OutsideError, Stopped
from components.workbench import Progress, Workbench

if TYPE_CHECKING:  # a task that only starts a stage needs neither tables nor params, whose import takes half a second
    from components.artifact import Artifact
    from pipeline.params import Settings
    from pipeline.stage import Stage

A = TypeVar("A", bound="Artifact")

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


@dataclass(frozen=True)
class RunOptions:
    """How, not what: none of these may change an artifact's bytes but `limit_batches`, which the artifact records."""

    device: Literal["auto", "cpu", "cuda"]
    resume: Literal["auto", "never", "always"]
    limit_batches: int | None
    progress: Progress
    cores: int


@dataclass(frozen=True)
class Workspace:
    """Where one run's artifacts lie, artifacts/<name>; beside them .ctr/ with scratch, checkpoints and exit codes."""

    root: Path

    def folder(self, artifact: str) -> Path:
        """Where an artifact lies, whether or not it is there."""
        return self.root / "artifacts" / artifact

    def state(self, name: str) -> Path:
        """A folder of the shell's own beside the artifacts, made if absent."""
        folder = self.root / ".ctr" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def read(self, artifact: str, kind: type[A]) -> A:
        """Load an artifact; raises ConfigError where it is absent, saying what makes it."""
        folder = self.folder(artifact)
        while True:
            if not folder.is_dir():
                raise ConfigError(
                    f"{folder}: '{artifact}' is not there yet; run the stage that makes it, or `dvc repro`"
                )
            before = _identity(folder)
            try:
                content = kind.load(folder)
            except (IntegrityError, FileNotFoundError):
                if _is_still(folder, before):
                    raise
                continue
            if _is_still(folder, before):
                return content

    def write(self, artifact: str, content: Artifact) -> None:
        """Save an artifact so that it is seen whole or not at all; raises OutsideError where the disk refuses."""
        place = self.folder(artifact)
        place.parent.mkdir(parents=True, exist_ok=True)
        hidden = place.parent / f".{artifact}.{os.getpid()}"
        try:
            remove_leavings_of_the_dead(place.parent, f".{artifact}.")
            shutil.rmtree(hidden, ignore_errors=True)
            hidden.mkdir()
            content.save(hidden)
            flush_folder(hidden)
            put_in_place(hidden, place)
        except OSError as error:
            raise OutsideError(
                f"{place}: could not be written ({error.strerror or error}); the earlier artifact stays; "
                "free space or repair the disk, then run the stage again"
            ) from error
        finally:
            shutil.rmtree(hidden, ignore_errors=True)


def _identity(folder: Path) -> tuple[int, int]:
    """What tells a folder from the one that takes its place: an inode number alone may be used again at once."""
    status = folder.stat()
    return status.st_ino, status.st_ctime_ns


def _is_still(folder: Path, identity: tuple[int, int]) -> bool:
    """The folder was not exchanged since (a reader may have seen a mixture if it was)."""
    return folder.is_dir() and _identity(folder) == identity


def remove_leavings_of_the_dead(folder: Path, prefix: str) -> None:
    """Remove what killed processes left in `folder` under names of `prefix` and their process number."""
    for left in folder.glob(f"{prefix}*"):
        process = left.name.removeprefix(prefix)
        if process.isdigit() and not Path("/proc", process).exists():
            shutil.rmtree(left, ignore_errors=True)


def flush_folder(folder: Path) -> None:
    """Flush every file and folder below `folder`, and itself, to disk."""
    for directory, _, files in os.walk(folder, topdown=False):
        for name in files:
            flush(Path(directory) / name)
        flush(Path(directory))


def put_in_place(new: Path, place: Path) -> None:
    """Make `new` appear at `place`, at once and whole, what was there at `new`. Both on one file system."""
    if place.exists():
        _exchange(new, place)
    else:
        new.rename(place)
    flush(place.parent)


def _exchange(one: Path, other: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    if done != 0:
        number = ctypes.get_errno()
        if number in (errno.EINVAL, errno.ENOSYS):
            raise OSError(number, "this file system cannot exchange two folders; keep artifacts on ext4, xfs or btrfs")
        raise OSError(number, os.strerror(number))


class _StopAtOnce(BaseException):
    """Ends the work where it stands. No Exception, because libraries take those for their own: torch's export, stopped by one,
    raised an error of its own in its place, and so told the scheduler that nothing would be mended by another try."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class StopFlag:
    """Remembers the signal that asked to stop.

    A stage that asks (it keeps checkpoints) is left to end its step; one that never asks is ended where it stands,
    which is safe because nothing of it is visible before `Workspace.write` exchanges the folders.
    """

    def __init__(self) -> None:
        self._number: int | None = None
        self._is_asked = False

    def __call__(self) -> int | None:
        self._is_asked = True
        return self._number

    def receive(self, number: int, _frame: FrameType | None) -> None:
        """The signal handler."""
        self._number = number
        if not self._is_asked:
            raise _StopAtOnce(number)


@contextmanager
def stop_signals(flag: StopFlag) -> Iterator[None]:
    """Send SIGTERM and SIGINT to the flag while inside; raises Stopped for work that is ended where it stands."""
    before = {number: signal.signal(number, flag.receive) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except _StopAtOnce as stop:
        raise Stopped(stop.number, "before the stage had anything to keep") from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def workbench_for(verb: str, workspace: Workspace, options: RunOptions, stop: StopFlag) -> Iterator[Workbench]:
    """Lend a stage its workplace; the scratch folder of this and of killed earlier runs is removed."""
    scratch = workspace.state("scratch") / f"{verb}.{os.getpid()}"
    remove_leavings_of_the_dead(scratch.parent, f"{verb}.")
    scratch.mkdir(parents=True)
    try:
        yield Workbench(
            scratch=scratch,
            checkpoints=workspace.state("checkpoints") / verb,
            progress=options.progress,
            device=options.device,
            resume=options.resume,
            limit_batches=options.limit_batches,
            stop_signal=stop,
            cores=options.cores,
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def run_stage(stage: Stage, workspace: Workspace, settings: Settings, options: RunOptions) -> None:
    """Load what `stage` reads, call it, and put its artifact in place of the old one."""
    types = stage.imported()  # seconds, in which it may be killed or stopped too
    stop = StopFlag()
    with stop_signals(stop), workbench_for(stage.verb, workspace, options, stop) as workbench:
        arguments: dict[str, Any] = {name: workspace.read(name, types[name]) for name in stage.reads}
        if stage.params is not None:
            arguments["params"] = settings.section(stage.verb, types["params"])
        if "request" in stage.lent:
            arguments["request"] = settings.request()
        if "workbench" in stage.lent:
            arguments["workbench"] = workbench
        workspace.write(stage.makes, stage.function(**arguments))
