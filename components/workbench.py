"""What a stage is lent while it works, besides artifacts and params; none of it may change the result's bytes.

Scratch space for streams too large for memory, a place for checkpoints outside the stage's outputs, a progress
callback, the compute device, and the flag that a signal sets when the work is asked to stop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from components.errors import Stopped


class Progress(Protocol):
    """Told how far a long stage is; drawn as a bar on a terminal and as plain lines elsewhere."""

    def __call__(self, done: float, total: float, note: str) -> None:
        """`done` of `total` (any unit, the same in both) and a short note such as "epoch 3, tune AUC 0.81"."""
        ...


@dataclass(frozen=True)
class Workbench:
    """One stage's workplace.

    scratch      an empty folder on the artifacts' file system, removed when the stage ends
    checkpoints  a folder that outlives a killed stage; keyed by nothing, so a checkpoint names what it belongs to
    progress     see Progress
    device       "auto", "cpu" or "cuda"
    resume       "auto" goes on from a checkpoint that fits, "never" starts anew, "always" refuses when none fits
    limit_batches  at most so many batches an epoch (a quick look, the artifact says so); None for all
    stop_signal  gives the number of the signal that asked to stop, or None
    cores        so many processes may work at once
    """

    scratch: Path
    checkpoints: Path
    progress: Progress
    device: Literal["auto", "cpu", "cuda"]
    resume: Literal["auto", "never", "always"]
    limit_batches: int | None
    stop_signal: Callable[[], int | None]
    cores: int

    def stop_if_asked(self, where: str) -> None:
        """Raise Stopped if a signal came; to be called right after a checkpoint was written whole."""
        number = self.stop_signal()
        if number is not None:
            raise Stopped(number, where)
