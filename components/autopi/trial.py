"""One candidate trained from scratch for a short while, by which a search judges it; stands between the network and the search.

Adam on all of train at a constant rate, and what is judged at a rung is the running average of the weights, as in the training that
follows: so every rung is a quiet end, whatever rungs come after it. Without averaging the rate falls to zero along a cosine over the
longest rung instead, which gives the same quiet end to those that reach it only. A trial can be stopped and taken up at any batch: its
own checkpoint holds all of its state, and what is left of one that needs no more training is its record. Letters: B rows in a batch, R rows of tune.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from components.autopi.architecture import Architecture, TrialRecord
from components.autopi.network import FoundNetwork
from components.autopi.pace import Pace
from components.autopi.pricing import trial_shape
from components.autopi.search_params import SearchParams
from components.averaging import averaged
from components.batching import Batches, pick_device
from components.checkpoint import flatten_optimizer, load_checkpoint, restore_optimizer, save_checkpoint, under
from components.encoding import Encoded
from components.errors import DataError
from components.metrics import auc, log_loss
from components.rankers.ranker import Ranker
from components.stepping import adam, set_rate, take_step
from components.workbench import Workbench


@dataclass(frozen=True)
class Candidate:
    """An architecture to be tried; see TrialRecord for the rest."""

    number: int
    origin: str
    architecture: Architecture
    strength: float | None


class Ground:
    """What all trials of a search share: the rows, the rungs in batches, the rate, the place for checkpoints."""

    def __init__(
        self,
        encoded: Encoded,
        params: SearchParams,
        workbench: Workbench,
        identity: Mapping[str, Any],
        rung_epochs: Sequence[float],
    ) -> None:
        """`identity` says what checkpoints belong to, beside the candidate; raises DataError for too few rows."""
        self.field_sizes = encoded.field_sizes
        self.params = params
        self.workbench = workbench
        self.device = pick_device(workbench.device)
        self.identity = {**identity, "work": "trial", "rung_epochs": list(rung_epochs)}
        tune = encoded.split("tune")
        self._train = encoded.split("train")
        self._batches: dict[int, Batches] = {}
        self.tune = Batches(tune, None, params.batch_rows, self.device, params.seed)
        self.tune_clicks = np.asarray(tune.clicks)
        num_batches = self.train(params.seed).num_batches
        self.num_batches = min(num_batches, workbench.limit_batches or num_batches)
        if self.num_batches == 0:
            raise DataError(f"train has {len(self._train.clicks):,} rows; a trial needs at least two")
        self.rungs = tuple(max(1, round(epochs * self.num_batches)) for epochs in rung_epochs)
        # For people who watch: batches behind and before them, and what is best so far.
        self.steps_done, self.steps_total, self.so_far = 0, 0, ""
        self.pace = Pace(0)
        self.shape = trial_shape(params)

    def train(self, seed: int) -> Batches:
        """All of train in the order of a seed; the rows themselves are there once."""
        if seed not in self._batches:
            self._batches[seed] = Batches(self._train, None, self.params.batch_rows, self.device, seed)
        return self._batches[seed]

    def rate(self, step: int) -> float:
        """Adam's rate at a step: constant with averaging, else a cosine from trial.learning_rate to 0 at the end of the last rung."""
        if self.params.trial.weight_averaging > 0:
            return self.params.trial.learning_rate
        return self.params.trial.learning_rate * (1 + math.cos(math.pi * min(step / self.rungs[-1], 1.0))) / 2

    def tell(self, note: str) -> None:
        """Say where the search is."""
        left = self.pace.left(self.steps_done, self.steps_total)
        self.workbench.progress(self.steps_done, max(self.steps_total, 1), f"{self.so_far}{note}, {left}")

    def found_done(self, steps: int) -> None:
        """So many batches of a trial are behind it, by a run that was stopped."""
        self.steps_done += steps
        self.pace.found_done(steps)

    def folder(self, candidate: Candidate, seed: int) -> Path:
        """Where a trial keeps its checkpoint."""
        return self.workbench.checkpoints / f"trial_{candidate.number}_{seed}"


class Trial:
    """A candidate's training with one seed; state is on disk between two calls of `run_to`, so that one network is in memory."""

    def __init__(self, candidate: Candidate, seed: int, ground: Ground) -> None:
        """Take up what an earlier run left; a checkpoint that does not fit is discarded aloud."""
        self.candidate = candidate
        self.seed = seed
        self.ground = ground
        self._folder = ground.folder(candidate, seed)
        self.identity = {**ground.identity, "line": candidate.architecture.to_text(), "trial_seed": seed}
        self.facts: dict[str, Any] = {
            "step": 0,
            "rows": 0,
            "seconds": 0.0,
            "core_seconds": 0.0,
            "rungs": [],
            "num_parameters": 0,
            "num_flops": 0,
        }
        found = load_checkpoint(self._folder, self.identity, "auto", ground.tell)
        self._is_retired = found is not None and not found.tensors
        if found is not None:
            self.facts = found.facts

    def run_to(self, rung: int) -> TrialRecord:
        """Learn up to a rung (numbered from 0) and be judged on tune; raises Stopped after a checkpoint when asked to stop."""
        while len(self.facts["rungs"]) <= rung:
            self._learn(self.ground.rungs[len(self.facts["rungs"])])
        return self.record()

    def record(self) -> TrialRecord:
        """What is known of it so far."""
        rungs = self.facts["rungs"]
        return TrialRecord(
            number=self.candidate.number,
            origin=self.candidate.origin,
            seed=self.seed,
            line=self.candidate.architecture.to_text(),
            strength=self.candidate.strength,
            steps=tuple(int(step) for step, _, _ in rungs),
            tune_auc=tuple(float(quality) for _, quality, _ in rungs),
            tune_log_loss=tuple(float(loss) for _, _, loss in rungs),
            num_parameters=self.facts["num_parameters"],
            num_flops=self.facts["num_flops"],
        )

    def retire(self) -> None:
        """Keep the record, give the disk back."""
        if not self._is_retired:
            save_checkpoint(self._folder, self.identity, {}, self.facts)
            self._is_retired = True

    def _learn(self, until: int) -> None:
        """Train up to batch number `until` in all, and judge."""
        ground = self.ground
        devices = [torch.cuda.current_device()] if ground.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(ground.params.seed * 1_000_003 + self.candidate.number * 101 + self.seed)
            network = FoundNetwork(ground.field_sizes, self.candidate.architecture, ground.shape).to(ground.device)
            averages = averaged(network, ground.params.trial.weight_averaging)
            optimizer = adam(network, ground.rate(0), ground.params.trial_embedding_l2, ground.params.trial.terms)
            self._restore(network, averages, optimizer)
            self.facts["num_parameters"], self.facts["num_flops"] = network.count_parameters(), network.count_flops()
            saved_at = told_at = time.monotonic()
            clock = _Clock(self.facts)
            batches = ground.train(self.seed)
            network.train()
            while self.facts["step"] < until:
                epoch, batch = divmod(self.facts["step"], ground.num_batches)
                for ids_bf, clicks_b in batches.epoch(epoch, batch):
                    self._step(network, averages, optimizer, ids_bf, clicks_b)
                    if self.facts["step"] == until or self.facts["step"] % ground.num_batches == 0:
                        break
                    now = time.monotonic()
                    is_asked = ground.workbench.stop_signal() is not None
                    if is_asked or now - saved_at >= ground.params.checkpoint_seconds:
                        clock.stop()
                        self._save(network, averages, optimizer)
                        saved_at = now
                        ground.workbench.stop_if_asked(f"in candidate {self.candidate.number}")
                    if now - told_at >= 1.0:
                        told_at = now
                        ground.tell(f"candidate {self.candidate.number}, {clock.rows_per_second():,.0f} rows/s")
            self.facts["rungs"].append([until, *self._judge(averages.module)])
            clock.stop()
            self._save(network, averages, optimizer)
        ground.workbench.stop_if_asked(f"after a rung of candidate {self.candidate.number}")

    def _step(
        self,
        network: Ranker,
        averages: AveragedModel,
        optimizer: torch.optim.Optimizer,
        ids_bf: torch.Tensor,
        clicks_b: torch.Tensor,
    ) -> None:
        set_rate(optimizer, self.ground.rate(self.facts["step"]))
        take_step(network, optimizer, averages, ids_bf, clicks_b, functional.binary_cross_entropy_with_logits)
        self.facts["step"] += 1
        self.ground.steps_done += 1
        self.facts["rows"] += len(clicks_b)

    def _judge(self, network: torch.nn.Module) -> tuple[float, float]:
        """AUC and log loss on tune; a candidate that diverged is worth what chance is."""
        network.eval()
        with torch.inference_mode():
            logits_r = torch.cat([network(ids_bf) for ids_bf, _ in self.ground.tune.in_order()]).double().cpu().numpy()
        if not np.isfinite(logits_r).all():
            return 0.5, math.log(2)
        clicks_r = self.ground.tune_clicks
        return auc(clicks_r, logits_r), log_loss(clicks_r, 1 / (1 + np.exp(-logits_r)))

    def _save(self, network: Ranker, averages: AveragedModel, optimizer: torch.optim.Optimizer) -> None:
        tensors, self.facts["optimizer"] = flatten_optimizer("optimizer", optimizer)
        tensors |= {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
        tensors |= {f"averages.{name}": tensor for name, tensor in averages.state_dict().items()}
        tensors["random"] = torch.get_rng_state()
        if self.ground.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.ground.device)
        save_checkpoint(self._folder, self.identity, tensors, self.facts)

    def _restore(self, network: Ranker, averages: AveragedModel, optimizer: torch.optim.Optimizer) -> None:
        if self.facts["step"] == 0:
            return
        found = load_checkpoint(self._folder, self.identity, "always", self.ground.tell)
        assert found is not None
        network.load_state_dict(under("network", found.tensors))
        averages.load_state_dict(under("averages", found.tensors))
        restore_optimizer("optimizer", optimizer, found.tensors, found.facts["optimizer"])
        torch.set_rng_state(found.tensors["random"])
        if self.ground.device.type == "cuda":
            torch.cuda.set_rng_state(found.tensors["random.cuda"], self.ground.device)


class _Clock:
    """Adds the seconds and core-seconds of a stretch of training to its facts, which decide nothing."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self._facts = facts
        self._rows_before, self._began = facts["rows"], time.monotonic()
        self._since = (time.monotonic(), time.process_time())

    def stop(self) -> None:
        """Add what has passed since the last time."""
        now = (time.monotonic(), time.process_time())
        self._facts["seconds"] += now[0] - self._since[0]
        self._facts["core_seconds"] += now[1] - self._since[1]
        self._since = now

    def rows_per_second(self) -> float:
        """Of this stretch so far."""
        return float(self._facts["rows"] - self._rows_before) / max(time.monotonic() - self._began, 1e-9)


def forget(ground: Ground) -> None:
    """Remove every trial's checkpoint: the search starts anew."""
    for folder in ground.workbench.checkpoints.glob("trial_*_*"):
        shutil.rmtree(folder)
