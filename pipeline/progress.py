"""How far a long stage is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from components.workbench import Progress

_SECONDS_BETWEEN_LINES = 10.0


@contextmanager
def shown_progress(title: str) -> Iterator[Progress]:
    """A Progress that draws on stderr while inside; nothing is drawn before it is first told something."""
    if sys.stderr.isatty():
        with _bar(title) as progress:
            yield progress
    else:
        yield _Lines(title)


@contextmanager
def _bar(title: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with RichProgress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None, note="")

        def progress(done: float, total: float, note: str) -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield progress


class _Lines:
    """One line at the first and the last word, and at most one every ten seconds between."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._last = float("-inf")

    def __call__(self, done: float, total: float, note: str) -> None:
        now = time.monotonic()
        if now - self._last < _SECONDS_BETWEEN_LINES and (done < total or total <= 0):
            return
        self._last = now
        share = f"{done / total:4.0%}" if total > 0 else "    "
        print(f"{self._title} {share}  {note}", file=sys.stderr, flush=True)
