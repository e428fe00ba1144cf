"""Trials of a rung side by side (see components.side_by_side): a trial's checkpoint holds all of its state, and decides its record."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial

from components.autopi.trial import Ground, Trial
from components.side_by_side import StopSignal, Tell, work_side_by_side


def train_side_by_side(trials: Sequence[Trial], rung: int, ground: Ground) -> list[Trial]:
    """Train each up to a rung in a process of its own, and give them as they then stand on disk.

    Raises Stopped when asked to stop, after every process has written its checkpoint.
    """
    before = ground.steps_done

    def hear(steps: Sequence[float], note: str) -> None:
        ground.steps_done = before + int(sum(steps))
        ground.tell(note)

    work_side_by_side([partial(_train, trial, rung, ground) for trial in trials], ground.workbench, hear)
    ground.workbench.stop_if_asked(f"in rung {rung + 1} of the candidates")
    after = [Trial(trial.candidate, trial.seed, ground) for trial in trials]
    ground.steps_done = before + sum(
        new.facts["step"] - old.facts["step"] for new, old in zip(after, trials, strict=True)
    )
    for trial in after:
        if len(trial.facts["rungs"]) <= rung:
            ground.tell(f"candidate {trial.candidate.number}: its process ended early; it goes on in this one")
    return after


def _train(trial: Trial, rung: int, ground: Ground, stop_signal: StopSignal, tell: Tell) -> None:
    """What the process of a trial does."""
    before = ground.steps_done
    ground.workbench = dataclasses.replace(ground.workbench, stop_signal=stop_signal)
    ground.teller = lambda note: tell(ground.steps_done - before, note)
    trial.run_to(rung)
