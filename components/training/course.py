"""Where a training stands and when it drops the learning rate or ends: the stopping rule, free of torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from components.strict import Strict
from components.training.params import TrainParams


@dataclass(frozen=True)
class EpochRecord(Strict):
    """One epoch: the learning rate it ran at, mean train loss (nats, dropout on) and what tune said after it.

    train_loss is what was made small, of the rows that were kept; tune_log_loss is of scores corrected for the negatives
    that were not and for the weight of clicks.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    tune_auc: float
    tune_log_loss: float


@dataclass
class Course(Strict):
    """The course of a training so far; `epoch` and `batch` are the next to run."""

    epoch: int
    batch: int
    learning_rate: float
    num_drops: int
    epochs_without_gain: int
    best_epoch: int | None
    has_ended: bool
    history: list[EpochRecord]

    @classmethod
    def start(cls, params: TrainParams) -> Self:
        """Stand at the first batch of the first epoch."""
        return cls(0, 0, params.own_learning_rate, 0, 0, None, False, [])

    def take(self, record: EpochRecord, params: TrainParams) -> bool:
        """Note the epoch that just ended, decide how to go on, and say whether it is the best so far."""
        is_best = self.best_epoch is None or _is_better(record, self.history[self.best_epoch], params)
        self.history.append(record)
        self.epoch += 1
        self.batch = 0
        if is_best:
            self.best_epoch = record.epoch
            self.epochs_without_gain = 0
        else:
            self.epochs_without_gain += 1
        if self.epochs_without_gain >= params.patience_epochs:
            self.epochs_without_gain = 0
            if self.num_drops == params.num_learning_rate_drops:
                self.has_ended = True
            else:
                self.num_drops += 1
                self.learning_rate *= params.learning_rate_factor
        self.has_ended = self.has_ended or self.epoch == params.max_epochs
        return is_best


def _is_better(record: EpochRecord, best: EpochRecord, params: TrainParams) -> bool:
    if params.monitor == "auc":
        return record.tune_auc > best.tune_auc
    return record.tune_log_loss < best.tune_log_loss
