"""Which interactions of few fields are worth a term of their own: all of them learn at once, and those that tune does not miss go.

Stands before the trials of `halving`. A cell's operators act on all fields alike, so a found network must learn from the rows which
fields belong together; where clicks are few it does not. That selection is what AutoFIS (Liu et al. 2020) searches by the size of
learned gates. Here the judge is what Wang et al. 2021 ("Rethinking architecture selection in differentiable NAS") take instead
of a strength: how much worse the model is without it. A term's gain is the mean over tune's rows of the log loss without it less that
with it; a term stays while its gain is above so many of its standard errors.
Shape letters: B rows in a batch, R rows of tune, T terms.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from components.autopi.architecture import TermEpoch
from components.autopi.identity import identity_of
from components.autopi.pace import Pace
from components.autopi.search_params import SearchParams
from components.averaging import averaged
from components.batching import Batches, pick_device
from components.checkpoint import flatten_optimizer, load_checkpoint, restore_optimizer, save_checkpoint, under
from components.encoding import Encoded
from components.errors import DataError
from components.metrics import auc, log_loss
from components.rankers.terms import TermNetwork, Terms, all_terms
from components.stepping import TermLearning, adam, take_step
from components.workbench import Workbench


class TermSearch:
    """One search for terms under way; its checkpoint holds all of its state."""

    def __init__(self, encoded: Encoded, params: SearchParams, workbench: Workbench) -> None:
        """Start anew or take up what an earlier run left."""
        self.params = params
        self.workbench = workbench
        device = pick_device(workbench.device)
        train, tune = encoded.split("train"), encoded.split("tune")
        self._train = Batches(train, None, params.batch_rows, device, params.seed)
        self._tune = Batches(tune, None, params.batch_rows, device, params.seed)
        self._tune_clicks_r = np.asarray(tune.clicks).astype(np.float64)
        self.num_batches = min(self._train.num_batches, workbench.limit_batches or self._train.num_batches)
        if self.num_batches == 0:
            raise DataError(f"train has {len(train.clicks):,} rows; a search for terms needs at least two")
        self._folder = workbench.checkpoints / "terms"
        self._identity = {**identity_of(encoded, params, workbench), "work": "terms"}
        self._terms = all_terms(len(encoded.field_sizes), params.terms.orders)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(params.seed)
            self._network = TermNetwork(encoded.field_sizes, self._terms, params.embedding_width)
        # From the click rate on: a bias that has far to go takes the main effects with it.
        rate = min(max(float(np.mean(train.clicks)), 1e-6), 1 - 1e-6)
        torch.nn.init.constant_(self._network.bias, math.log(rate / (1 - rate)))
        self._network.to(device)
        self._averages = averaged(self._network, params.trial.weight_averaging)
        assert isinstance(self._averages.module, TermNetwork)
        self._averaged_network = self._averages.module
        own = TermLearning(1.0, params.terms.embedding_l2)
        self._optimizer = adam(self._network, params.terms.learning_rate, params.terms.embedding_l2, own)
        self.facts: dict[str, Any] = {"step": 0, "rows": 0, "seconds": 0.0, "core_seconds": 0.0, "epochs": []}
        self._resume()

    @property
    def found(self) -> Terms:
        """The terms that are left, those of fewer fields first."""
        return tuple(self._terms[place] for place in self._network.terms.alive)

    @property
    def epochs(self) -> tuple[TermEpoch, ...]:
        """The course so far."""
        return tuple(
            TermEpoch(number, loss, quality, tuple(self._terms[place] for place in alive), tuple(gains))
            for number, (loss, quality, alive, gains) in enumerate(self.facts["epochs"])
        )

    def run(self) -> Terms:
        """Go on until the last epoch, or until no term is left; raises Stopped after a checkpoint when asked to stop."""
        pace = Pace(self.facts["step"])
        total = self.params.terms.max_epochs * self.num_batches
        while self.facts["step"] < total and self.found:
            self._learn_epoch(pace, total)
            self._end_epoch()
            self._save()
            self.workbench.stop_if_asked("in the search for terms")
        return self.found

    def _learn_epoch(self, pace: Pace, total: int) -> None:
        epoch, batch = divmod(self.facts["step"], self.num_batches)
        saved_at = told_at = time.monotonic()
        since = (time.monotonic(), time.process_time())
        self._network.train()
        for ids_bf, clicks_b in self._train.epoch(epoch, batch):
            take_step(
                self._network,
                self._optimizer,
                self._averages,
                ids_bf,
                clicks_b,
                functional.binary_cross_entropy_with_logits,
            )
            self.facts["step"] += 1
            self.facts["rows"] += len(clicks_b)
            if self.facts["step"] % self.num_batches == 0:
                break
            now = time.monotonic()
            is_asked = self.workbench.stop_signal() is not None
            if is_asked or now - saved_at >= self.params.checkpoint_seconds:
                since = self._count_time(since)
                self._save()
                saved_at = now
                self.workbench.stop_if_asked("in the search for terms")
            if now - told_at >= 1.0:
                told_at = now
                left = pace.left(self.facts["step"], total)
                self.workbench.progress(
                    self.facts["step"], total, f"terms: epoch {epoch}, {len(self.found)} of {len(self._terms)}, {left}"
                )
        self._count_time(since)

    def _count_time(self, since: tuple[float, float]) -> tuple[float, float]:
        now = (time.monotonic(), time.process_time())
        self.facts["seconds"] += now[0] - since[0]
        self.facts["core_seconds"] += now[1] - since[1]
        return now

    def _end_epoch(self) -> None:
        logits_r, parts_rt = self._judge()
        losses_r = _losses(logits_r, self._tune_clicks_r)
        rises_rt = _losses(logits_r[:, None] - parts_rt, self._tune_clicks_r[:, None]) - losses_r[:, None]
        gains_t = rises_rt.mean(0)
        errors_t = rises_rt.std(0) / math.sqrt(len(rises_rt))
        alive = self._network.terms.alive
        scores_r = 1 / (1 + np.exp(-logits_r))
        self.facts["epochs"].append(
            [
                log_loss(self._tune_clicks_r, scores_r),
                auc(self._tune_clicks_r, logits_r),
                list(alive),
                [float(gain) for gain in gains_t],
            ]
        )
        if len(self.facts["epochs"]) >= self.params.terms.first_pruning:
            stays_t = gains_t > self.params.terms.min_errors * errors_t
            self._restrict([place for place, stays in zip(alive, stays_t, strict=True) if stays])

    def _judge(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Of the average: logits of tune (R,), and what each term left adds to them (R, T)."""
        network = self._averaged_network.eval()
        mains, parts = [], []
        with torch.inference_mode():
            for ids_bf, _ in self._tune.in_order():
                main_b, parts_bt = network.terms.parts(ids_bf)
                mains.append((network.bias + main_b).cpu())
                parts.append(parts_bt.cpu())
        main_r, parts_rt = torch.cat(mains).double().numpy(), torch.cat(parts).double().numpy()
        return main_r + parts_rt.sum(1), parts_rt

    def _restrict(self, places: list[int]) -> None:
        for network in (self._network, self._averaged_network):
            network.terms.restrict(places)
            network.to(self._train.device)

    def _save(self) -> None:
        tensors, self.facts["optimizer"] = flatten_optimizer("optimizer", self._optimizer)
        tensors |= {f"network.{name}": tensor for name, tensor in self._network.state_dict().items()}
        tensors |= {f"averages.{name}": tensor for name, tensor in self._averages.state_dict().items()}
        self.facts["alive"] = list(self._network.terms.alive)
        save_checkpoint(self._folder, self._identity, tensors, self.facts)

    def _resume(self) -> None:
        if self.workbench.resume == "never":
            return
        # Under "always" the trials say whether there is anything to go on from.
        found = load_checkpoint(
            self._folder, self._identity, "auto", lambda note: self.workbench.progress(0, 1, f"terms: {note}")
        )
        if found is None:
            return
        self.facts = found.facts
        self._restrict(self.facts["alive"])
        self._network.load_state_dict(under("network", found.tensors))
        self._averages.load_state_dict(under("averages", found.tensors))
        restore_optimizer("optimizer", self._optimizer, found.tensors, found.facts["optimizer"])


def _losses(logits: np.ndarray[Any, Any], clicks: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The log loss of each logit, in nats."""
    losses: np.ndarray[Any, Any] = np.logaddexp(0, logits) - clicks * logits
    return losses
