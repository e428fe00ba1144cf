"""The folder that alerting keeps between calls: state, outbox, blocks and wakes; one process at a time, whole or not at all.

<root>/<env>/<model>/state.json     incidents and past windows
<root>/<env>/<model>/outbox/        messages that were not delivered yet, one file each, in order
<root>/<env>/<model>/blocks.json    what must be acknowledged before anything is trained or promoted
<root>/<env>/<model>/wakes.json     windows whose drift woke a retraining
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from components.artifact import flush, read_json, write_json
from components.errors import IntegrityError
from components.strict import Strict, parse
from pipeline.alerting.state import EMPTY, State

T = TypeVar("T")


@dataclass(frozen=True)
class Book:
    """The folder of one model in one environment."""

    folder: Path

    @property
    def outbox(self) -> Path:
        """Where undelivered messages lie."""
        return self.folder / "outbox"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the book alone; waits for whoever holds it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def state(self) -> State:
        """What was known last; nothing at first. Raises IntegrityError for a damaged file."""
        return self.read("state.json", State) or EMPTY

    def read(self, name: str, kind: type[T]) -> T | None:
        """One file as a `kind`, None where there is none yet; raises IntegrityError for damage."""
        path = self.folder / name
        if not path.is_file():
            return None
        return parse(kind, read_json(path), str(path), IntegrityError)

    def write(self, name: str, content: Strict) -> None:
        """Put a file in place of the old one, whole and on disk."""
        write_whole(self.folder / name, content)


def model_of(log: str) -> str:
    """How alerts call the champion of a log."""
    return f"ctr-ranker-{log}"


def book_at(home: Path, environ: Mapping[str, str], environment: str, log: str) -> Book:
    """The book of a log's champion: below CTR_ALERTS (default .ctr/alerts)."""
    root = Path(environ.get("CTR_ALERTS") or home / ".ctr" / "alerts")
    return Book(root / environment / model_of(log))


def write_whole(path: Path, content: Strict) -> None:
    """Write JSON so that it is seen whole or not at all, and is on disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    write_json(new, content)
    flush(new)
    new.replace(path)
    flush(path.parent)
