"""A throw-away clone of the registry's git repository, and the one push that makes an act be seen.

An act works on a clone of its own, so nothing half done is ever seen, and ends with one atomic push of branch and tags.
The branch (one a log) is what two acts race for: whoever pushes second is rejected. git makes each ref's change durable
one after the other, so a machine that dies within the push may leave some of them: `Registry` goes on from any such state.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from components.errors import OutsideError, RaceError
from pipeline.run import remove_leavings_of_the_dead

_IDENTITY = {"user.name": "ctr-pipeline", "user.email": "ctr-pipeline@localhost"}
_SETTINGS = ("commit.gpgSign=false", "tag.gpgSign=false", "gc.auto=0", "core.hooksPath=/dev/null")
_STALE_LOCK_SECONDS = 10.0  # git holds the lock of a ref for milliseconds; an older one was left by a killed push
_SCRATCH = ".registry-"
_TAG = "%(refname:short)%00%(objectname)%00%(*objectname)%00%(taggerdate:unix)%00%(taggername)%00%(contents:subject)"
_OF_OTHERS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
_README = """\
# Champions

Written by `python -m pipeline promote` only. Branch `champions/LOG` and the tags `ctr-ranker-LOG@vX.Y.Z` (a bundle is
registered) and `ctr-ranker-LOG#prod#N` (it is assigned) say what serves; plain `gto show`, `gto history`,
`dvc get` and `dvc artifacts get` read them.
"""


@dataclass(frozen=True)
class Tag:
    """A tag as git tells it: its object, its commit, second (UTC), tagger and first line; empty for a plain tag."""

    name: str
    object: str
    commit: str
    seconds: str
    by: str
    why: str


@dataclass(frozen=True)
class Clone:
    """Where the clone lies, the branch that the act will push, and what the origin had when it was cloned.

    base  the branch's commit, None where there was no such branch
    tags  of the whole registry; the clone itself may hold fewer
    """

    folder: Path
    origin: str
    branch: str
    base: str | None
    tags: tuple[Tag, ...]
    timeout_seconds: float

    def git(self, *arguments: str) -> str:
        """Run git here; raises OutsideError with what git said."""
        return git(self.folder, self.timeout_seconds, *arguments)

    def read(self, commit: str, path: str) -> str | None:
        """A file of a commit, or None where the commit has none of that name."""
        if not self.git("ls-tree", commit, "--", path).strip():
            return None
        return self.git("show", f"{commit}:{path}")

    def saying(self, commits: Sequence[str], message: str) -> set[str]:
        """Those of `commits` whose message holds this text."""
        if not commits:
            return set()
        choice = ("--no-walk=unsorted", "--fixed-strings", f"--grep={message}")
        return set(self.git("log", "--format=%H", *choice, *commits, "--").split())

    def commit(self, message: str) -> str:
        """Commit all that lies here, or that nothing changed."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD").strip()

    def refuse_if_overtaken(self) -> None:
        """Raise RaceError where another act was pushed since this clone was made: cheap, before what is not."""
        if self._remote_refs(f"refs/heads/{self.branch}").get(f"refs/heads/{self.branch}") != self.base:
            raise RaceError(f"{self.origin}: another promotion was pushed first; fetch and evaluate again")

    def push(self, tags: Sequence[str]) -> None:
        """Show the branch and these tags to the world, all or none; raises RaceError or OutsideError."""
        refs = [f"HEAD:refs/heads/{self.branch}", *(f"refs/tags/{tag}" for tag in tags)]
        with _only_pusher(self.origin, self.branch, tags) as lock:
            try:
                git(self.folder, self.timeout_seconds, "push", "--quiet", "--atomic", "origin", *refs, keeps=lock)
            except OutsideError as error:
                self._say_why(error, tags)

    def _say_why(self, error: OutsideError, tags: Sequence[str]) -> None:
        """Ask the remote what became of a push that failed: perhaps only the answer was lost."""
        head = f"refs/heads/{self.branch}"
        wanted = {head: self.git("rev-parse", "HEAD").strip()}
        wanted |= {f"refs/tags/{tag}": self.git("rev-parse", f"refs/tags/{tag}").strip() for tag in tags}
        found = self._remote_refs(*wanted)
        if found == wanted:
            return
        if found.get(head) not in (self.base, wanted[head]) or any(
            found.get(ref, own) != own for ref, own in wanted.items() if ref != head
        ):
            raise RaceError(f"{self.origin}: another promotion was pushed first; fetch and evaluate again") from error
        raise error

    def _remote_refs(self, *refs: str) -> dict[str, str]:
        lines = self.git("ls-remote", "origin", *refs).splitlines()
        found = {ref: commit for commit, ref in (line.split("\t") for line in lines)}
        return {ref: found[ref] for ref in refs if ref in found}


@contextmanager
def cloned(origin: str, branch: str, scratch: Path, timeout_seconds: float) -> Iterator[Clone]:
    """A clone of `origin` on `branch` (which may not exist yet), removed afterwards."""
    with _removed_afterwards(scratch) as place:
        shared = () if "://" in origin else ("--shared",)
        identity = [part for key, value in _IDENTITY.items() for part in ("--config", f"{key}={value}")]
        git(place, timeout_seconds, "clone", "--quiet", "--no-checkout", *shared, *identity, "--", origin, "clone")
        folder = place / "clone"
        known = git(folder, timeout_seconds, "for-each-ref", "--format=%(refname)", "refs/remotes/origin").split()
        base = None
        if f"refs/remotes/origin/{branch}" in known:
            base = git(folder, timeout_seconds, "rev-parse", f"refs/remotes/origin/{branch}").strip()
            git(folder, timeout_seconds, "checkout", "--quiet", "--no-track", "-B", branch, base)
        elif "refs/remotes/origin/main" in known:
            git(folder, timeout_seconds, "checkout", "--quiet", "--no-track", "-B", branch, "refs/remotes/origin/main")
        else:
            git(folder, timeout_seconds, "checkout", "--quiet", "--orphan", branch)
        lines = git(folder, timeout_seconds, "for-each-ref", f"--format={_TAG}", "refs/tags").splitlines()
        tags = tuple(Tag(*line.split("\0", 5)) for line in lines)
        yield Clone(folder, origin, branch, base, tags, timeout_seconds)


def make_local(origin: Path, timeout_seconds: float) -> None:
    """Make a bare repository with a first commit; another process may do the same at the same time."""
    origin.parent.mkdir(parents=True, exist_ok=True)
    with _removed_afterwards(origin.parent) as place:
        git(place, timeout_seconds, "init", "--quiet", "--bare", "--initial-branch=main", "git")
        git(place / "git", timeout_seconds, "config", "gc.autoDetach", "false")
        git(place, timeout_seconds, "init", "--quiet", "--initial-branch=main", "first")
        first = place / "first"
        for key, value in _IDENTITY.items():
            git(first, timeout_seconds, "config", key, value)
        (first / "README.md").write_text(_README, encoding="utf-8")
        git(first, timeout_seconds, "add", "--all")
        git(first, timeout_seconds, "commit", "--quiet", "-m", "An empty registry")
        git(first, timeout_seconds, "push", "--quiet", str(place / "git"), "HEAD:main")
        try:
            (place / "git").rename(origin)
        except OSError:
            if not (origin / "HEAD").is_file():
                raise


def git(folder: Path, timeout_seconds: float, *arguments: str, keeps: int | None = None) -> str:
    """Run git; raises OutsideError with what git said. `keeps` is a file descriptor that it holds open while it runs."""
    settings = [part for setting in _SETTINGS for part in ("-c", setting)]
    environment = {key: value for key, value in os.environ.items() if key not in _OF_OTHERS}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    words = f"{folder}: `git {' '.join(arguments)}`"
    try:
        done = subprocess.run(
            ["git", *settings, *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout_seconds,
            pass_fds=() if keeps is None else (keeps,),
        )
    except subprocess.TimeoutExpired as error:
        raise OutsideError(f"{words} gave no answer in {timeout_seconds:g} s; try again later") from error
    except OSError as error:
        raise OutsideError(f"{words} could not be run ({error.strerror or error})") from error
    if done.returncode != 0:
        raise OutsideError(f"{words} failed: {done.stderr.strip() or f'exit {done.returncode}'}")
    return done.stdout


@contextmanager
def _removed_afterwards(parent: Path) -> Iterator[Path]:
    """A new folder below `parent`; what killed processes left there is removed first."""
    own = parent / f"{_SCRATCH}{os.getpid()}"
    place = None
    try:
        parent.mkdir(parents=True, exist_ok=True)
        remove_leavings_of_the_dead(parent, _SCRATCH)
        own.mkdir(exist_ok=True)
        place = Path(tempfile.mkdtemp(dir=own))
        yield place
    except OSError as error:
        raise OutsideError(
            f"{parent}: the disk refused ({error.strerror or error}); free space or repair it"
        ) from error
    finally:
        if place is not None:
            shutil.rmtree(place, ignore_errors=True)
        with suppress(OSError):
            own.rmdir()


@contextmanager
def _only_pusher(origin: str, branch: str, tags: Sequence[str]) -> Iterator[int | None]:
    """Let one process at a time push into a local repository, and remove the locks that a killed push left behind.

    git and what it starts hold the lock too, so it is free only when all of them are gone.
    """
    if "://" in origin or not Path(origin).is_dir():
        yield None
        return
    lock = os.open(Path(origin, "ctr-push.lock"), os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        names = [f"refs/heads/{branch}.lock", "packed-refs.lock", *(f"refs/tags/{tag}.lock" for tag in tags)]
        for path in (Path(origin, name) for name in names):
            if path.is_file() and time.time() - path.stat().st_mtime > _STALE_LOCK_SECONDS:
                path.unlink(missing_ok=True)
        yield lock
    finally:
        os.close(lock)
