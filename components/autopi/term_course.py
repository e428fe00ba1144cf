"""One course of the search for terms: some learn side by side, and after each epoch those that tune does not miss go.

See `components.autopi.term_search`. Shape letters: B rows in a batch, R rows of tune, F fields, T terms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.special import expit

from components.autopi.architecture import TermEpoch
from components.autopi.learning import Learning, Place, no_facts
from components.autopi.pace import Pace
from components.autopi.search_params import SearchParams
from components.batching import Batches, pick_device
from components.checkpoint import load_checkpoint
from components.encoding import Encoded
from components.errors import DataError
from components.metrics import auc, log_loss
from components.rankers.terms import TermNetwork, Terms
from components.stepping import adam
from components.workbench import Workbench


class TermCourse:
    """Terms under way from all to few; its checkpoint holds all of its state."""

    def __init__(
        self,
        name: str,
        encoded: Encoded,
        terms: Terms,
        params: SearchParams,
        workbench: Workbench,
        identity: Mapping[str, Any],
    ) -> None:
        """Start anew or take up what an earlier run left in the folder of this name; seeds torch's generator."""
        self._params = params.terms
        self._workbench = workbench
        self._device = pick_device(workbench.device)
        self._batch_rows = params.batch_rows
        train, tune = encoded.split("train"), encoded.split("tune")
        self._train = Batches(train, None, params.batch_rows, self._device, params.seed)
        self._tune = Batches(tune, None, params.batch_rows, self._device, params.seed)
        self._tune_clicks_r = np.asarray(tune.clicks).astype(np.float64)
        self._num_batches = min(self._train.num_batches, workbench.limit_batches or self._train.num_batches)
        if self._num_batches == 0:
            raise DataError(f"train has {len(train.clicks):,} rows; a search for terms needs at least two")
        self._terms = terms
        torch.manual_seed(params.seed)
        self._network = TermNetwork(encoded.field_sizes, terms, params.embedding_width)
        # From the click rate on: a bias that has far to go takes the main effects with it.
        rate = min(max(float(np.mean(train.clicks)), 1e-6), 1 - 1e-6)
        torch.nn.init.constant_(self._network.bias, math.log(rate / (1 - rate)))
        self._network.to(self._device)
        self.facts: dict[str, Any] = {**no_facts(), "epochs": []}
        place = Place(
            workbench.checkpoints / name,
            {**identity, "terms": [list(term) for term in terms]},
            params.checkpoint_seconds,
        )
        optimizer = adam(self._network, self._params.learning_rate, self._params.embedding_l2, None)
        decay = params.trial.weight_averaging
        self._learning = Learning(self._network, optimizer, decay, self._device, place, self.facts)
        assert isinstance(self._learning.averages.module, TermNetwork)
        self._average = self._learning.averages.module
        # Under "always" the trials say whether there is anything to go on from.
        found = None
        if workbench.resume != "never":
            found = load_checkpoint(place.folder, place.identity, "auto", lambda note: self._tell(f"terms: {note}"))
        if found is not None:
            self.facts.update(found.facts)
            self._restrict(self.facts["alive"])
            self._learning.restore(found)

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
        """Go on until the last epoch, or until no term is left; main effects alone learn where none was given.

        Raises Stopped after a checkpoint when asked to stop.
        """
        pace = Pace(self.facts["step"])
        total = self._params.max_epochs * self._num_batches

        def tell(rows_per_second: float) -> None:
            left = pace.left(self.facts["step"], total)
            words = f"{len(self.found)} of {len(self._terms)}, {rows_per_second:,.0f} rows/s, {left}"
            self._tell(f"terms: epoch {len(self.facts['epochs'])}, {words}")

        while self.facts["step"] < total and (self.found or not self._terms):
            self.facts["alive"] = list(self._network.terms.alive)
            self._learning.learn_to(
                (len(self.facts["epochs"]) + 1) * self._num_batches,
                self._train,
                self._num_batches,
                lambda _: self._params.learning_rate,
                self._workbench,
                "in the search for terms",
                tell,
            )
            self._end_epoch()
            self.facts["alive"] = list(self._network.terms.alive)
            self._learning.save()
            self._workbench.stop_if_asked("in the search for terms")
        return self.found

    def scores(self, ids_rf: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Probabilities (R,) of any rows, by what is left."""
        network = self._average.eval()
        with torch.inference_mode():
            logits = [
                network(torch.from_numpy(np.ascontiguousarray(ids_bf)).to(self._device)).cpu()
                for ids_bf in np.split(ids_rf, range(self._batch_rows, len(ids_rf), self._batch_rows))
            ]
        return torch.sigmoid(torch.cat(logits).double()).numpy()

    def _tell(self, note: str) -> None:
        self._workbench.progress(self.facts["step"], self._params.max_epochs * self._num_batches, note)

    def _end_epoch(self) -> None:
        logits_r, gains_t, errors_t = self._judge()
        alive = self._network.terms.alive
        loss = log_loss(self._tune_clicks_r, expit(logits_r))
        quality = auc(self._tune_clicks_r, logits_r)
        self.facts["epochs"].append([loss, quality, list(alive), [float(gain) for gain in gains_t]])
        if len(self.facts["epochs"]) >= self._params.first_pruning:
            stays_t = gains_t > self._params.min_errors * errors_t
            self._restrict([place for place, stays in zip(alive, stays_t, strict=True) if stays])

    def _judge(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Of the average: logits of tune (R,), and each term's gain and the gain's standard error (T,), a batch at a time."""
        network = self._average.eval()
        logits = []
        sums_t, squares_t = np.zeros((2, len(network.terms.alive)))
        with torch.inference_mode():
            for ids_bf, clicks_b in self._tune.in_order():
                main_b, parts_bt = network.terms.parts(ids_bf)
                parts = parts_bt.double().cpu().numpy()
                logits_b = (network.bias + main_b).double().cpu().numpy() + parts.sum(1)
                clicks = clicks_b.double().cpu().numpy()
                rises_bt = _losses(logits_b[:, None] - parts, clicks[:, None]) - _losses(logits_b, clicks)[:, None]
                sums_t += rises_bt.sum(0)
                squares_t += (rises_bt**2).sum(0)
                logits.append(logits_b)
        logits_r = np.concatenate(logits)
        gains_t = sums_t / len(logits_r)
        variances_t = np.maximum(squares_t / len(logits_r) - gains_t**2, 0.0)
        return logits_r, gains_t, np.sqrt(variances_t / len(logits_r))

    def _restrict(self, places: list[int]) -> None:
        for network in (self._network, self._average):
            network.terms.restrict(places)
            network.to(self._device)


def _losses(logits: np.ndarray[Any, Any], clicks: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The log loss of each logit, in nats."""
    losses: np.ndarray[Any, Any] = np.logaddexp(0, logits) - clicks * logits
    return losses
