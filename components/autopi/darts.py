"""The paper's search: weights on one half of train, alpha and beta on the other, step by step in turn (first order).

Momentum SGD moves weights and embeddings, Adam moves alpha and beta. After each epoch the supernet is judged on tune; alpha
and beta of the best epoch are discretised. All state goes into checkpoints, so a search that was stopped at any step goes
on to the very same end (bit for bit on a CPU). Letters: E edges, O operators.
"""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

import numpy as np
import torch
from scipy.special import expit
from torch.nn import functional

from components.autopi.architecture import Architecture, EpochRecord, FoundArchitecture
from components.autopi.collapse import measure_collapse
from components.autopi.cost import write_cost
from components.autopi.descending import descend
from components.autopi.discretising import discretise
from components.autopi.identity import identity_of
from components.autopi.kernels import Kernels
from components.autopi.pace import Pace
from components.autopi.pricing import ExpectedPrice, price_of_line
from components.autopi.search_params import SearchParams
from components.autopi.second_order import step_ahead
from components.autopi.supernet import SkipNoise, Space, Supernet
from components.batching import Batches, pick_device
from components.checkpoint import flatten_optimizer, load_checkpoint, restore_optimizer, save_checkpoint, under
from components.compiling import uses_kernels
from components.encoding import Encoded
from components.errors import ConfigError, DataError, IntegrityError
from components.metrics import auc, log_loss
from components.strict import parse
from components.workbench import Workbench


class DartsSearch:
    """One search: its supernet, both optimizers, its place in the data, and what it has learned so far."""

    def __init__(self, encoded: Encoded, params: SearchParams, workbench: Workbench) -> None:
        """Cut train into halves by seed and make the supernet."""
        self.params = params
        self.workbench = workbench
        self.field_sizes = tuple(encoded.field_sizes)
        device = pick_device(workbench.device)
        train, tune = encoded.split("train"), encoded.split("tune")
        rows = np.random.default_rng([params.seed, 0]).permutation(len(train.clicks))
        half = len(rows) // 2
        weight_rows, alpha_rows = np.sort(rows[: len(rows) - half]), np.sort(rows[len(rows) - half :])
        self.weight_batches = Batches(train, weight_rows, params.batch_rows, device, params.seed)
        self.alpha_batches = Batches(train, alpha_rows, params.batch_rows, device, params.seed + 1)
        self.tune_batches = Batches(tune, None, params.batch_rows, device, params.seed)
        self.tune_clicks = np.asarray(tune.clicks)
        batches = min(self.weight_batches.num_batches, self.alpha_batches.num_batches)
        self.steps_per_epoch = min(batches, workbench.limit_batches or batches)
        if self.steps_per_epoch == 0:
            raise DataError(f"train has {len(rows):,} rows; a search needs at least two in each half")
        generator = torch.Generator().manual_seed(params.seed)
        space = Space(params.operators, params.num_nodes, params.embedding_width, params.normalises_embeddings)
        is_compiled = uses_kernels(params.kernels, device)
        kernels = Kernels(len(self.field_sizes), space.width) if is_compiled else None
        self.supernet = Supernet(encoded.field_sizes, space, generator, kernels).to(device)
        self.device = device
        self.price = ExpectedPrice(self.supernet, params)
        self.weight_optimizer = torch.optim.SGD(
            [
                {"params": self.supernet.weight_parameters(), "weight_decay": params.weight_decay},
                {"params": self.supernet.embedding_parameters(), "weight_decay": params.embedding_l2},
            ],
            lr=params.weight_rate,
            momentum=params.weight_momentum,
            fused=True,
        )
        self.alpha_optimizer = torch.optim.Adam(
            self.supernet.architecture_parameters(),
            lr=params.alpha_rate,
            betas=params.alpha_momenta,
            weight_decay=params.alpha_decay,
        )
        noise_generator = torch.Generator(device).manual_seed(params.seed)
        self.noise = SkipNoise(params.skip_noise_share, noise_generator)
        self.epoch = 1
        self.batch = 0
        self.history: list[EpochRecord] = []
        self.rows_seen = 0
        # Sums of the epoch's losses (weights, alpha) in float64, kept on the device so that no step waits for them.
        self.loss_sums = torch.zeros(2, dtype=torch.float64, device=device)
        self._identity = {"work": "search", **identity_of(encoded, params, workbench)}
        self.seconds, self.core_seconds = 0.0, 0.0
        self._since = (time.monotonic(), time.process_time())
        self._last_checkpoint = time.monotonic()

    def run(self) -> FoundArchitecture:
        """Search to the end, from a checkpoint where one fits; raises Stopped after a checkpoint when asked to stop."""
        self._resume()
        pace = Pace(self._steps_done())
        while self.epoch <= self.params.max_epochs:
            temperature = self.temperature(self.epoch)
            self._set_rate()
            pairs = zip(
                self.weight_batches.epoch(self.epoch, self.batch),
                self.alpha_batches.epoch(self.epoch, self.batch),
                strict=False,
            )
            for weight_batch, alpha_batch in pairs:
                if self.batch == self.steps_per_epoch:
                    break
                self.step(weight_batch, alpha_batch, temperature)
                self.batch += 1
                if self.batch < self.steps_per_epoch:
                    self._tell(pace)
                    self._save_if_due()
            self._end_epoch(temperature)
            self._tell(pace)
            self._save()
            self.workbench.stop_if_asked(f"after epoch {self.epoch - 1} of the search")
        return self._conclude()

    def temperature(self, epoch: int) -> float:
        """(1 + log T) / (1 + log t) in epoch t of T, or 1 without annealing."""
        if not self.params.use_annealing:
            return 1.0
        return (1 + math.log(self.params.max_epochs)) / (1 + math.log(epoch))

    def step(
        self,
        weight_batch: tuple[torch.Tensor, torch.Tensor],
        alpha_batch: tuple[torch.Tensor, torch.Tensor],
        temperature: float,
    ) -> None:
        """One step of alpha and beta, then one of weights and embeddings."""
        self.supernet.train()
        architecture = self.supernet.architecture_parameters()
        weights = [*self.supernet.weight_parameters(), *self.supernet.embedding_parameters()]

        def loss_of_weights() -> torch.Tensor:
            return self._loss(weight_batch, temperature)

        def loss_of_alpha() -> torch.Tensor:
            loss = self._loss(alpha_batch, temperature)
            return loss if self.params.cost_price == 0 else loss + self.price(temperature)

        if self.params.strategy == "darts_second_order":
            losses, optimizers = (loss_of_weights, loss_of_alpha), (self.weight_optimizer, self.alpha_optimizer)
            alpha_loss = step_ahead(self.supernet, self.noise.generator, losses, optimizers)
        else:
            alpha_loss = descend(self.alpha_optimizer, architecture, weights, loss_of_alpha)
        weight_loss = descend(self.weight_optimizer, weights, architecture, loss_of_weights)
        self.loss_sums += torch.stack([weight_loss, alpha_loss]).double()
        self.rows_seen += len(weight_batch[1]) + len(alpha_batch[1])

    def _loss(self, batch: tuple[torch.Tensor, torch.Tensor], temperature: float) -> torch.Tensor:
        ids_bf, clicks_b = batch
        noise = self.noise if self.noise.share > 0 else None
        logits_b = self.supernet(ids_bf, temperature, noise)
        return functional.binary_cross_entropy_with_logits(logits_b, clicks_b.to(logits_b.dtype))

    def _set_rate(self) -> None:
        share = (1 + math.cos(math.pi * (self.epoch - 1) / self.params.max_epochs)) / 2
        for group in self.weight_optimizer.param_groups:
            group["lr"] = self.params.weight_rate * share

    @torch.no_grad()
    def _tune_logits(self, temperature: float) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Logits of tune; 0 where one row's overflows float32 (products of products, under statistics still rough)."""
        self.supernet.eval()
        parts = [self.supernet(ids_bf, temperature, None) for ids_bf, _ in self.tune_batches.in_order()]
        return torch.nan_to_num(torch.cat(parts).double(), 0.0, 0.0, 0.0).cpu().numpy()

    def _end_epoch(self, temperature: float) -> None:
        scores = expit(self._tune_logits(temperature))
        weight_loss, alpha_loss = (self.loss_sums / self.batch).tolist()
        if not math.isfinite(weight_loss + alpha_loss):
            raise ConfigError(
                f"the search diverged in epoch {self.epoch} (mean losses {weight_loss} and {alpha_loss}); "
                f"lower search.weight_rate, now {self.params.weight_rate}"
            )
        logits = {name: self.supernet.get_parameter(name).detach().cpu().double() for name in _ARCHITECTURE}
        record = EpochRecord(
            epoch=self.epoch,
            temperature=temperature,
            weight_loss=weight_loss,
            alpha_loss=alpha_loss,
            tune_log_loss=log_loss(self.tune_clicks, scores),
            tune_auc=auc(self.tune_clicks, scores),
            alpha_interaction=tuple(map(tuple, logits["alpha_interaction"].tolist())),
            beta_interaction=tuple(logits["beta_interaction"].tolist()),
            alpha_ensemble=tuple(map(tuple, logits["alpha_ensemble"].tolist())),
            beta_ensemble=tuple(logits["beta_ensemble"].tolist()),
            line=self._discretised().to_text(),
        )
        self.history.append(record)
        self.loss_sums.zero_()
        self.epoch += 1
        self.batch = 0

    def _discretised(self) -> Architecture:
        with torch.no_grad():
            strengths = {
                cell: self.supernet.strength(cell, 1.0).cpu().double().numpy() for cell in ("interaction", "ensemble")
            }
        found = discretise(strengths, self.params.operators, self.params.edges_per_node, len(self.field_sizes))
        return dataclasses.replace(found, is_normalised=self.params.normalises_embeddings)

    def _conclude(self) -> FoundArchitecture:
        best = self.best_record()
        architecture = Architecture.from_text(best.line, "the search's history")
        found = FoundArchitecture(
            architecture=architecture,
            strategy=self.params.strategy,
            operators=self.params.operators,
            history=tuple(self.history),
            best_epoch=best.epoch,
            collapse=measure_collapse(architecture, best, ()),
            rows_seen=self.rows_seen,
            limit_batches=self.workbench.limit_batches,
        )
        write_cost(self.workbench.checkpoints, found, self.seconds, self.core_seconds)
        return found

    def best_record(self) -> EpochRecord:
        """The epoch with the lowest log loss on tune so far, the price of what it would be discretised to included."""
        return min(self.history, key=lambda record: record.tune_log_loss + self._price_of(record.line))

    def _price_of(self, line: str) -> float:
        return price_of_line(line, self.field_sizes, self.params)

    def _steps_done(self) -> int:
        return (self.epoch - 1) * self.steps_per_epoch + self.batch

    def _tell(self, pace: Pace) -> None:
        done, total = self._steps_done(), self.params.max_epochs * self.steps_per_epoch
        rows_per_second = 2 * self.params.batch_rows * pace.steps_per_second(done)
        note = (
            f"epoch {min(self.epoch, self.params.max_epochs)}/{self.params.max_epochs}, {rows_per_second:,.0f} rows/s"
        )
        note += f", {pace.left(done, total)}"
        if self.history:
            last = self.history[-1]
            best = self.best_record()
            note += (
                f", tune log loss {last.tune_log_loss:.4f}, AUC {last.tune_auc:.4f}, temperature {last.temperature:.2f}"
            )
            note += f", best so far {best.line}"
        self.workbench.progress(done, total, note)

    def _save_if_due(self) -> None:
        is_due = time.monotonic() - self._last_checkpoint >= self.params.checkpoint_seconds
        if is_due or self.workbench.stop_signal() is not None:
            self._save()
            self.workbench.stop_if_asked(f"in epoch {self.epoch} of the search, after batch {self.batch}")

    def _save(self) -> None:
        tensors = {f"supernet.{name}": tensor for name, tensor in self.supernet.state_dict().items()}
        now = (time.monotonic(), time.process_time())
        self.seconds += now[0] - self._since[0]
        self.core_seconds += now[1] - self._since[1]
        self._since = now
        facts: dict[str, Any] = {name: getattr(self, name) for name in _COUNTS}
        for name, optimizer in (("weight_optimizer", self.weight_optimizer), ("alpha_optimizer", self.alpha_optimizer)):
            more, facts[name] = flatten_optimizer(name, optimizer)
            tensors |= more
        tensors["noise"] = self.noise.generator.get_state()
        tensors["loss_sums"] = self.loss_sums
        facts["history"] = [dataclasses.asdict(record) for record in self.history]
        save_checkpoint(self.workbench.checkpoints, self._identity, tensors, facts)
        self._last_checkpoint = time.monotonic()

    def _resume(self) -> None:
        def say(text: str) -> None:
            self.workbench.progress(0, self.params.max_epochs * self.steps_per_epoch, text)

        found = load_checkpoint(self.workbench.checkpoints, self._identity, self.workbench.resume, say)
        if found is None:
            return
        self.supernet.load_state_dict(under("supernet", found.tensors))
        for name, optimizer in (("weight_optimizer", self.weight_optimizer), ("alpha_optimizer", self.alpha_optimizer)):
            restore_optimizer(name, optimizer, found.tensors, found.facts[name])
        self.noise.generator.set_state(found.tensors["noise"])
        self.loss_sums.copy_(found.tensors["loss_sums"])
        for name in _COUNTS:
            setattr(self, name, found.facts[name])
        where = str(self.workbench.checkpoints)
        self.history = [parse(EpochRecord, record, where, IntegrityError) for record in found.facts["history"]]
        say(f"going on from epoch {self.epoch}, batch {self.batch}")


_COUNTS = ("epoch", "batch", "rows_seen", "seconds", "core_seconds")
_ARCHITECTURE = ("alpha_interaction", "beta_interaction", "alpha_ensemble", "beta_ensemble")
