"""The board's processes: so many at once, each task skipped whose result is kept, a failing one told and passed over."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from components.errors import Stopped
from pipeline.leaderboard.bench import Task
from pipeline.leaderboard.results import Failure
from pipeline.run import StopFlag, stop_signals

_POLL_SECONDS = 0.1

Say = Callable[[str], None]


def run_tasks(
    root: Path, tasks: Sequence[Task], logs: Path, num_workers: int, done: Callable[[Task], None]
) -> list[Failure]:
    """Run tasks, `num_workers` at once, and call `done` after each that succeeded; give the failures.

    Raises Stopped when asked to stop, after every process has written its checkpoint.
    """
    waiting, failures = list(tasks), list[Failure]()
    running: list[_Running] = []
    stop = StopFlag()
    with stop_signals(stop):
        try:
            while waiting or running:
                number = stop()
                if number is not None:
                    raise Stopped(number, f"with {len(waiting) + len(running)} of {len(tasks)} rows of the board to go")
                while waiting and len(running) < num_workers:
                    running.append(_Running(root, waiting.pop(0), logs))
                for one in [one for one in running if one.process.poll() is not None]:
                    running.remove(one)
                    failure = one.failure()
                    if failure is None:
                        done(one.task)
                    else:
                        failures.append(failure)
                time.sleep(_POLL_SECONDS)
        finally:
            for one in running:
                one.process.terminate()
            for one in running:
                one.process.wait()
    return failures


class _Running:
    """One task's process; what it says goes into a file of its own."""

    def __init__(self, root: Path, task: Task, logs: Path) -> None:
        self.task = task
        logs.mkdir(parents=True, exist_ok=True)
        self.log = logs / f"{task.row}-{task.seed}{'-trial' if task.is_trial else ''}.log"
        command = [sys.executable, "-m", "pipeline.leaderboard.work", str(root), json.dumps(asdict(task))]
        with self.log.open("wb") as file:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )

    def failure(self) -> Failure | None:
        """Why it came to nothing, in its own last words; None where it did what it should."""
        code = self.process.returncode
        if code == 0:
            return None
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        last = lines[-1] if lines else "it said nothing"
        reason = f"killed by signal {-code}; last words: {last}" if code < 0 else last
        return Failure(self.task.row, self.task.seed, reason)
