"""Stop signals for work that forks: one that comes from outside, and one whose first process to look is killed."""

from __future__ import annotations

import os
import signal
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
