"""One candidate trained from scratch for a short while, by which a search judges it; stands between the network and the search.

Adam on all of train at a constant rate, and what is judged at a rung is the running average of the weights, as in the training that
follows: so every rung is a quiet end, whatever rungs come after it. Without averaging the rate falls to zero along a cosine over the
longest rung instead, which gives the same quiet end to those that reach it only. A trial can be stopped and taken up at any batch: its
own checkpoint holds all of its state, and what is left of one that needs no more training is its record. Letters: B rows in a batch, R rows of tune.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import expit

from components.autopi.architecture import Architecture, TrialRecord
from components.autopi.kernels import Kernels
from components.autopi.learning import Learning, Place, no_facts
from components.autopi.network import FoundNetwork
from components.autopi.pace import Pace
from components.autopi.pricing import trial_shape
from components.autopi.search_params import SearchParams
from components.batching import Batches, pick_device
from components.checkpoint import load_checkpoint, save_checkpoint
from components.compiling import learn_by_kernels, uses_kernels
from components.encoding import Encoded
from components.errors import DataError
from components.metrics import auc, log_loss
from components.rankers.hidden_kernels import CompiledPasses
from components.stepping import adam
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
        self.teller: Callable[[str], None] | None = None  # in a process of one trial, who passes its words on
        self.shape = trial_shape(params)
        self.is_compiled = uses_kernels(params.kernels, self.device)
        if self.is_compiled:  # before processes are forked, each of which would compile for itself
            CompiledPasses()
            Kernels(len(self.field_sizes), self.shape.embedding_width)

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
        if self.teller is not None:
            self.teller(note)
            return
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
        self.facts: dict[str, Any] = {**no_facts(), "rungs": [], "num_parameters": 0, "num_flops": 0}
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
            if ground.is_compiled:
                learn_by_kernels(network)
            optimizer = adam(network, ground.rate(0), ground.params.trial_embedding_l2, ground.params.trial.terms)
            place = Place(self._folder, self.identity, ground.params.checkpoint_seconds)
            decay = ground.params.trial.weight_averaging
            learning = Learning(network, optimizer, decay, ground.device, place, self.facts)
            if self.facts["step"] > 0:
                found = load_checkpoint(self._folder, self.identity, "always", ground.tell)
                assert found is not None
                learning.restore(found)
            self.facts["num_parameters"], self.facts["num_flops"] = network.count_parameters(), network.count_flops()
            name, before = f"candidate {self.candidate.number}", ground.steps_done - self.facts["step"]

            def tell(rows_per_second: float) -> None:
                ground.steps_done = before + self.facts["step"]
                ground.tell(f"{name}, {rows_per_second:,.0f} rows/s")

            learning.learn_to(
                until, ground.train(self.seed), ground.num_batches, ground.rate, ground.workbench, f"in {name}", tell
            )
            ground.steps_done = before + self.facts["step"]
            self.facts["rungs"].append([until, *self._judge(learning.averages.module)])
            learning.save()
        ground.workbench.stop_if_asked(f"after a rung of {name}")

    def _judge(self, network: torch.nn.Module) -> tuple[float, float]:
        """AUC and log loss on tune; a candidate that diverged is worth what chance is."""
        network.eval()
        with torch.inference_mode():
            logits_r = torch.cat([network(ids_bf) for ids_bf, _ in self.ground.tune.in_order()]).double().cpu().numpy()
        if not np.isfinite(logits_r).all():
            return 0.5, math.log(2)
        clicks_r = self.ground.tune_clicks
        return auc(clicks_r, logits_r), log_loss(clicks_r, expit(logits_r))


def forget(ground: Ground) -> None:
    """Remove every trial's checkpoint: the search starts anew."""
    for folder in ground.workbench.checkpoints.glob("trial_*_*"):
        shutil.rmtree(folder)
