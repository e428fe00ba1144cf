"""Pieces of work side by side: a process each, forked from this one, no more at once than cores were lent.

A piece keeps all of its state in a checkpoint of its own, and nothing of its result comes back from a process but that: whatever
ended one early (a stop, too little memory, an error), whoever asked takes the piece up from there, and then meets the error, if there
is one, where it is told. So what side by side changes is the time alone.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait

import torch

from components.errors import CtrError
from components.workbench import Workbench

StopSignal = Callable[[], int | None]
Tell = Callable[[float, str], None]
"""How much of its piece a process has done, in the piece's own unit, and a note; it may be empty."""
Piece = Callable[[StopSignal, Tell], None]

_SECONDS_BETWEEN_LOOKS = 0.5
_processes = multiprocessing.get_context("fork")  # rows, params and what torch has loaded are there at once


def can_stand_side_by_side(num_pieces: int, workbench: Workbench, device: torch.device) -> bool:
    """Several pieces, and several cores for them; a CUDA device is one, and is lost to a forked process."""
    return min(num_pieces, workbench.cores) > 1 and device.type == "cpu"


def work_side_by_side(
    pieces: Sequence[Piece], workbench: Workbench, hear: Callable[[Sequence[float], str], None]
) -> list[int]:
    """Let each piece be worked on in a process of its own, until all have ended or a stop was asked for.

    `hear` is given what each piece that has begun has done, and a note. When this returns, no process is left, and
    each that could has written its checkpoint. Gives the exit code of each process that was begun: below 0 is a signal.
    """
    waiting = deque(pieces)
    helpers: list[_Helper] = []
    # A stop that comes from here on is waited for by whoever has asked (pipeline's StopFlag ends at once those who never do).
    is_stopped = workbench.stop_signal() is not None
    try:
        while not is_stopped and (waiting or any(helper.is_running for helper in helpers)):
            while waiting and sum(helper.is_running for helper in helpers) < workbench.cores:
                helpers.append(_Helper(waiting.popleft(), workbench.stop_signal))
            speaking = wait([helper.pipe for helper in helpers if helper.is_running], _SECONDS_BETWEEN_LOOKS)
            notes = [helper.hear() for helper in helpers if helper.pipe in speaking]
            for note in filter(None, notes):
                hear([helper.done for helper in helpers], note)
            is_stopped = workbench.stop_signal() is not None
        for helper in helpers:
            helper.ask_to_stop()
        return [helper.join() for helper in helpers]
    finally:
        for helper in helpers:
            helper.kill()


class _Helper:
    """The process of one piece, begun when this is made, and what it has told so far."""

    def __init__(self, piece: Piece, stop_signal: StopSignal) -> None:
        """Fork; the other end of the pipe lives in the new process alone, so that its end is heard."""
        self.pipe, theirs = _processes.Pipe(duplex=False)
        self._process = _processes.Process(target=_work, args=(piece, stop_signal, theirs, os.getpid()))
        self._process.start()
        theirs.close()
        self.done = 0.0
        self.is_running = True

    def hear(self) -> str:
        """Take what it says next, and give the words; nothing at its end."""
        try:
            self.done, note = self.pipe.recv()
        except EOFError:
            self.is_running = False
            return ""
        return str(note)

    def ask_to_stop(self) -> None:
        """It ends its step and writes a checkpoint first."""
        if self.is_running:
            self._process.terminate()

    def join(self) -> int:
        """Wait for its end, and give its exit code."""
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode

    def kill(self) -> None:
        """Leave nothing behind, whatever happened here."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self.pipe.close()


def _work(piece: Piece, stop_signal: StopSignal, pipe: Connection, parent: int) -> None:
    """What such a process does; it ends with its parent, even with one that was killed."""

    def asked() -> int | None:
        if os.getppid() != parent:
            os._exit(1)
        return stop_signal()

    def tell(done: float, note: str) -> None:
        pipe.send((done, note))

    with suppress(CtrError):  # asked to stop, or what its parent will meet itself
        piece(asked, tell)
