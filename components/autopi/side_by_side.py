"""Trials of a rung side by side: a process each, forked from the search's own, no more at once than cores were lent.

A trial's checkpoint holds all of its state and its record is decided by it alone, so what side by side changes is the time
alone. Nothing of the result comes back from a process but that checkpoint: whatever ended one early (a stop, too little memory, an
error), its trial is taken up from there by the search itself, which then meets the error, if there is one, where it is told.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait

from components.autopi.trial import Ground, Trial
from components.errors import CtrError

_SECONDS_BETWEEN_LOOKS = 0.5
_processes = multiprocessing.get_context("fork")  # rows, params and what torch has loaded are there at once


def can_stand_side_by_side(num_trials: int, ground: Ground) -> bool:
    """Several trials, and several cores for them; a CUDA device is one, and is lost to a forked process."""
    return min(num_trials, ground.workbench.cores) > 1 and ground.device.type == "cpu"


def train_side_by_side(trials: Sequence[Trial], rung: int, ground: Ground) -> list[Trial]:
    """Train each up to a rung in a process of its own, and give them as they then stand on disk.

    Raises Stopped when asked to stop, after every process has written its checkpoint.
    """
    before = ground.steps_done
    waiting = deque(trials)
    helpers: list[_Helper] = []
    # A stop that comes from here on is waited for by whoever has asked (pipeline's StopFlag ends at once those who never do).
    is_stopped = ground.workbench.stop_signal() is not None
    try:
        while not is_stopped and (waiting or any(helper.is_running for helper in helpers)):
            while waiting and sum(helper.is_running for helper in helpers) < ground.workbench.cores:
                helpers.append(_Helper(waiting.popleft(), rung, ground))
            speaking = wait([helper.pipe for helper in helpers if helper.is_running], _SECONDS_BETWEEN_LOOKS)
            notes = [helper.hear() for helper in helpers if helper.pipe in speaking]
            ground.steps_done = before + sum(helper.num_steps for helper in helpers)
            for note in filter(None, notes):
                ground.tell(note)
            is_stopped = ground.workbench.stop_signal() is not None
        for helper in helpers:
            helper.ask_to_stop()
        for helper in helpers:
            helper.join()
    finally:
        for helper in helpers:
            helper.kill()
    ground.workbench.stop_if_asked(f"in rung {rung + 1} of the candidates")
    after = [Trial(trial.candidate, trial.seed, ground) for trial in trials]
    ground.steps_done = before + sum(
        new.facts["step"] - old.facts["step"] for new, old in zip(after, trials, strict=True)
    )
    for trial in after:
        if len(trial.facts["rungs"]) <= rung:
            ground.tell(f"candidate {trial.candidate.number}: its process ended early; it goes on in this one")
    return after


class _Helper:
    """The process of one trial, begun when this is made, and what it has told so far."""

    def __init__(self, trial: Trial, rung: int, ground: Ground) -> None:
        """Fork; the other end of the pipe lives in the new process alone, so that its end is heard."""
        self.pipe, theirs = _processes.Pipe(duplex=False)
        self._process = _processes.Process(target=_train, args=(trial, rung, ground, theirs, os.getpid()))
        self._process.start()
        theirs.close()
        self.num_steps = 0
        self.is_running = True

    def hear(self) -> str:
        """Take what it says next, and give the words; nothing at its end."""
        try:
            self.num_steps, note = self.pipe.recv()
        except EOFError:
            self.is_running = False
            return ""
        return str(note)

    def ask_to_stop(self) -> None:
        """It ends its step and writes a checkpoint first."""
        if self.is_running:
            self._process.terminate()

    def join(self) -> None:
        """Wait for its end."""
        self._process.join()

    def kill(self) -> None:
        """Leave nothing behind, whatever happened here."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self.pipe.close()


def _train(trial: Trial, rung: int, ground: Ground, pipe: Connection, parent: int) -> None:
    """What such a process does; it ends with the search, even with one that was killed."""
    asked, before = ground.workbench.stop_signal, ground.steps_done

    def stop_signal() -> int | None:
        if os.getppid() != parent:
            os._exit(1)
        return asked()

    def tell(note: str) -> None:
        pipe.send((ground.steps_done - before, note))

    ground.workbench = dataclasses.replace(ground.workbench, stop_signal=stop_signal)
    ground.teller = tell
    with suppress(CtrError):  # asked to stop, or what the search will meet itself
        trial.run_to(rung)
