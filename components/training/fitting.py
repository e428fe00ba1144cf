"""One network's training loop: Adam, L2 on embeddings, stop on tune, checkpoints; the same for every ranker.

The same params give the same bytes on a CPU, whatever its number of cores (CUDA adds gradients of embeddings in any order). Resumed equals uninterrupted, bit for bit.
Shape letters: B rows in a batch, R rows of tune.
"""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

import numpy as np
import torch
from scipy.special import expit

from components import metrics
from components.autopi.architecture import Architecture
from components.averaging import averaged
from components.batching import Batches
from components.checkpoint import (
    digest_code,
    digest_of,
    flatten_optimizer,
    load_checkpoint,
    restore_optimizer,
    save_checkpoint,
    under,
)
from components.encoding import Encoded
from components.errors import ConfigError, DataError, IntegrityError
from components.rankers import Ranker
from components.stepping import adam, set_rate, take_step
from components.strict import parse
from components.training.course import Course, EpochRecord
from components.training.losses import loss_of
from components.training.params import TrainParams
from components.workbench import Workbench

# The code that decides what a training gives; a checkpoint of older code is not gone on with.
_FOLDERS = ("training", "rankers", "autopi")
_FILES = ("averaging.py", "batching.py", "compiling.py", "stepping.py")

_FEW_STEPS = 500  # with fewer a network has hardly left its beginning: Frappe takes a thousand to three
# At most a minute of work may be lost; half of it leaves room for a slow disk.
_CHECKPOINT_SECONDS = 30.0
_PROGRESS_SECONDS = 0.5


def judged(
    clicks_r: np.ndarray[Any, Any], logits_r: np.ndarray[Any, np.dtype[np.float64]], params: TrainParams
) -> tuple[float, float]:
    """AUC and log loss (nats) of tune; in logits the correction q = p / (p + (1 - p) / w) is a shift by log w."""
    scores_r = expit(logits_r + math.log(params.odds_rate))
    return metrics.auc(clicks_r, logits_r), metrics.log_loss(clicks_r, scores_r)


def keep_rows(clicks: np.ndarray[Any, Any], negative_keep_rate: float, seed: int) -> np.ndarray[Any, Any] | None:
    """Number the rows that stay: all clicks, and each other row with probability `negative_keep_rate`; None for all."""
    if negative_keep_rate == 1.0:
        return None
    drawn = np.random.default_rng(seed).random(len(clicks))
    return np.flatnonzero((np.asarray(clicks) != 0) | (drawn < negative_keep_rate))


class Fitting:
    """One training under way: what is learned, where it stands, and how it is kept."""

    def __init__(
        self,
        encoded: Encoded,
        architecture: Architecture | None,
        ranker: Ranker,
        params: TrainParams,
        workbench: Workbench,
        device: torch.device,
    ) -> None:
        train, tune = encoded.split("train"), encoded.split("tune")
        self.ranker = ranker
        self.params = params
        self.workbench = workbench
        self.device = device
        rows = keep_rows(train.clicks, params.negative_keep_rate, params.seed)
        self.train = Batches(train, rows, params.batch_rows, device, params.seed)
        self.tune = Batches(tune, None, params.batch_rows, device, params.seed)
        self.tune_clicks_r = np.asarray(tune.clicks)
        limit = workbench.limit_batches
        self.num_batches = self.train.num_batches if limit is None else min(limit, self.train.num_batches)
        if self.num_batches == 0:
            raise DataError(f"train has {self.train.num_rows:,} rows to learn from; a batch needs at least two")
        self.optimizer = adam(ranker, params.own_learning_rate, params.own_embedding_l2, params.terms)
        self._loss_of = loss_of(params)
        self.averaged = averaged(ranker, params.weight_averaging)
        self.course = Course.start(params)
        self.best: dict[str, torch.Tensor] = {}
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.num_rows_seen = 0
        self.identity = {
            "data": digest_of(_view(array) for split in (train, tune) for array in (split.ids, split.clicks)),
            "params": dataclasses.asdict(params),
            "architecture": None if architecture is None else architecture.to_text(),
            "limit_batches": limit,
            "code": digest_code(_FOLDERS, _FILES),
            "torch": torch.__version__,
        }

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights `best` are; after the first epoch only."""
        assert self.course.best_epoch is not None
        return self.course.best_epoch

    def run(self) -> None:
        """Go on until the stopping rule ends it."""
        self._warn_of_few_steps()
        saved_at = time.monotonic()
        while not self.course.has_ended:
            meter = _Meter(self.workbench, self.course, self.params, self.num_batches)
            for ids_bf, clicks_b in self.train.epoch(self.course.epoch, self.course.batch):
                self._step(ids_bf, clicks_b)
                self.course.batch += 1
                meter.count(len(clicks_b))
                if self.course.batch == self.num_batches:
                    break
                is_asked = self.workbench.stop_signal() is not None
                if is_asked or time.monotonic() - saved_at > _CHECKPOINT_SECONDS:
                    self._save()
                    saved_at = time.monotonic()
                    if is_asked:
                        self.workbench.stop_if_asked(f"in epoch {self.course.epoch}, batch {self.course.batch}")
            self._end_epoch()
            self._save()
            saved_at = time.monotonic()
            meter.tell()
            if not self.course.has_ended:
                self.workbench.stop_if_asked(f"before epoch {self.course.epoch}")

    def _warn_of_few_steps(self) -> None:
        most = self.params.max_epochs * self.num_batches
        has_begun = bool(self.course.epoch or self.course.batch)
        if most < _FEW_STEPS and self.workbench.limit_batches is None and not has_begun:
            words = f"{self.params.ranker}: at most {most:,} steps ({self.params.max_epochs} epoch(s) of {self.num_batches:,})"
            self.workbench.progress(0, self.params.max_epochs, f"{words}: a smaller train.batch_rows may learn more")

    def resume(self) -> None:
        """Go back to where a checkpoint stands, if there is one that fits."""
        say = self.workbench.progress
        found = load_checkpoint(
            self.workbench.checkpoints, self.identity, self.workbench.resume, lambda note: say(0, 1, note)
        )
        if found is None:
            return
        where = str(self.workbench.checkpoints)
        self.course = parse(Course, found.facts["course"], where, IntegrityError)
        self.num_rows_seen = found.facts["num_rows_seen"]
        self.ranker.load_state_dict(under("ranker", found.tensors))
        self.averaged.load_state_dict(under("averaged", found.tensors))
        self.best = {name: tensor.to(self.device) for name, tensor in under("best", found.tensors).items()}
        restore_optimizer("optimizer", self.optimizer, found.tensors, found.facts["optimizer"])
        self.loss_sum = found.tensors["loss_sum"].to(self.device)
        torch.set_rng_state(found.tensors["random.cpu"])
        if self.device.type == "cuda" and "random.cuda" in found.tensors:
            torch.cuda.set_rng_state(found.tensors["random.cuda"], self.device)

    def _save(self) -> None:
        tensors, optimizer = flatten_optimizer("optimizer", self.optimizer)
        tensors |= {f"ranker.{name}": tensor for name, tensor in self.ranker.state_dict().items()}
        tensors |= {f"averaged.{name}": tensor for name, tensor in self.averaged.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        tensors |= {"loss_sum": self.loss_sum, "random.cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        facts = {
            "course": dataclasses.asdict(self.course),
            "num_rows_seen": self.num_rows_seen,
            "optimizer": optimizer,
        }
        save_checkpoint(self.workbench.checkpoints, self.identity, tensors, facts)

    def _step(self, ids_bf: torch.Tensor, clicks_b: torch.Tensor) -> None:
        loss = take_step(self.ranker, self.optimizer, self.averaged, ids_bf, clicks_b, self._loss_of)
        # Summed on the device: asking for the number would make every step wait for it.
        self.loss_sum += loss * len(clicks_b)
        self.num_rows_seen += len(clicks_b)

    def _end_epoch(self) -> None:
        logits_r = self._tune_logits()
        train_loss = float(self.loss_sum) / self.num_rows_seen
        if not (math.isfinite(train_loss) and np.isfinite(logits_r).all()):
            raise ConfigError(
                f"training '{self.params.ranker}' diverged in epoch {self.course.epoch} (train loss {train_loss}); "
                f"lower params.yaml [train] learning_rate, now {self.params.own_learning_rate}"
            )
        tune_auc, tune_log_loss = judged(self.tune_clicks_r, logits_r, self.params)
        record = EpochRecord(
            epoch=self.course.epoch,
            learning_rate=self.course.learning_rate,
            train_loss=train_loss,
            tune_auc=tune_auc,
            tune_log_loss=tune_log_loss,
        )
        if self.course.take(record, self.params):
            self.best = {name: tensor.detach().clone() for name, tensor in self.averaged.module.state_dict().items()}
        set_rate(self.optimizer, self.course.learning_rate)
        self.loss_sum.zero_()
        self.num_rows_seen = 0

    def best_tune_logits(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Those (R,) of the weights that were kept; the average is set back to them, so nothing can be learned after this."""
        self.averaged.module.load_state_dict(self.best)
        return self._tune_logits()

    def _tune_logits(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        judged = self.averaged.module.eval()
        with torch.inference_mode():
            logits_r = torch.cat([judged(ids_bf) for ids_bf, _ in self.tune.in_order()])
        return logits_r.cpu().numpy().astype(np.float64)


class _Meter:
    """Tells the progress of one epoch a few times a second; its clock never reaches the result."""

    def __init__(self, workbench: Workbench, course: Course, params: TrainParams, num_batches: int) -> None:
        self._progress = workbench.progress
        self._course = course
        self._params = params
        self._num_batches = num_batches
        self._num_rows = 0
        self._started_at = self._told_at = time.monotonic()

    def count(self, num_rows: int) -> None:
        """Take note of one batch."""
        self._num_rows += num_rows
        if time.monotonic() - self._told_at > _PROGRESS_SECONDS:
            self.tell()

    def tell(self) -> None:
        """Say where the training is: its epoch, rows per second, and what tune said last."""
        self._told_at = time.monotonic()
        rows_per_second = self._num_rows / max(self._told_at - self._started_at, 1e-9)
        note = f"{self._params.ranker}: epoch {self._course.epoch}, {rows_per_second:,.0f} rows/s"
        if self._course.history:
            last = self._course.history[-1]
            note += f", tune AUC {last.tune_auc:.5f}, log loss {last.tune_log_loss:.5f}"
        done = self._course.epoch + self._course.batch / self._num_batches
        total = done if self._course.has_ended else float(self._params.max_epochs)
        self._progress(done, total, note)


def _view(array: np.ndarray[Any, Any]) -> memoryview:
    return np.ascontiguousarray(array).data.cast("B")
