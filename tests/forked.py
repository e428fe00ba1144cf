"""Stop signals for work that forks: one from outside, one that kills who looks first, one that counts who is there at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def asked_to_stop_when(is_so: Callable[[], bool]) -> Iterator[Callable[[], int | None]]:
    """As pipeline's flag does: the signal (SIGTERM, to this process) comes to a process, and is seen when that looks next."""
    asked: list[int] = []
    this = os.getpid()
    before = signal.signal(signal.SIGTERM, lambda number, _frame: asked.append(number))

    def look() -> int | None:
        if not asked and os.getpid() == this and is_so():
            os.kill(this, signal.SIGTERM)
        return asked[-1] if asked else None

    try:
        yield look
    finally:
        signal.signal(signal.SIGTERM, before)


def dying_once(marker: Path) -> Callable[[], int | None]:
    """A stop signal that nobody sends; the first process to look at it but this one is killed, and leaves `marker` behind."""
    this = os.getpid()

    def look() -> int | None:
        if os.getpid() != this and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return None

    return look


class Crowd:
    """A stop signal that nobody sends: it counts the processes that are there at once, as this one sees them when it looks.

    The others wait at their first look until as many were seen as are expected; a machine that gives this process too little time
    to look while they live changes nothing.
    """

    def __init__(self, folder: Path, expected: int) -> None:
        """`folder` is there already; a file in it tells the others."""
        self.most = 0
        self._expected = expected
        self._this = os.getpid()
        self._seen = folder / "seen"

    def look(self) -> int | None:
        """Nobody asks to stop."""
        if os.getpid() != self._this:
            wait_until(self._seen.exists)
            return None
        self.most = max(self.most, len(multiprocessing.active_children()))
        if self.most >= self._expected:
            self._seen.touch()
        return None


def wait_until(is_so: Callable[[], bool]) -> None:
    """Raises AssertionError after half a minute."""
    for _ in range(600):
        if is_so():
            return
        time.sleep(0.05)
    raise AssertionError("not so within 30 s")
