"""One command in a process group of its own: its output line by line, stopped in order, never left behind.

Stands under the Airflow adapter and the acts; needs only the standard library.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


def ask_for_sigterm_when_the_parent_dies() -> None:
    """Run in a child before exec: the kernel sends it SIGTERM when the thread that started it is gone."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def die_with_parent() -> None:
    """Stop with the process that started this one, where that asked for it by CTR_DIE_WITH_PARENT (for runs under DVC)."""
    if os.environ.get("CTR_DIE_WITH_PARENT"):
        ask_for_sigterm_when_the_parent_dies()


class Subprocess:
    """Runs one command at a time; `stop` may be called from a signal handler while `run` waits."""

    def __init__(self, stop_grace_seconds: float) -> None:
        self._grace_seconds = stop_grace_seconds
        self._process: subprocess.Popen[str] | None = None

    def run(
        self, command: Sequence[str], folder: Path, environment: Mapping[str, str], say: Callable[[str], None]
    ) -> int:
        """Start, hand every line of stdout and stderr to `say`, and give the exit code; 128 + signal where one ended it."""
        with subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            preexec_fn=ask_for_sigterm_when_the_parent_dies,
        ) as process:
            self._process = process
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    say(line.rstrip("\n"))
                code = process.wait()
            finally:
                self.stop()
                self._process = None
        return code if code >= 0 else 128 - code

    def stop(self) -> None:
        """Ask the group to stop, wait for its leader until the grace is over, then kill; nothing where none runs."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        _signal_group(process.pid, signal.SIGTERM)
        try:
            process.wait(self._grace_seconds)
        except subprocess.TimeoutExpired:
            _signal_group(process.pid, signal.SIGKILL)
            process.wait()


def _signal_group(leader: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, number)
