"""A training of the search that is under way and can be stopped at any batch: of a candidate in a trial, of terms in their search.

A network, the running average of its weights, the optimizer, and facts: how many batches and rows are behind it, and what they
cost. Its checkpoint holds all of that and the state of torch's generators, so one that is taken up goes on to the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from components.averaging import averaged
from components.batching import Batches
from components.checkpoint import Checkpoint, flatten_optimizer, restore_optimizer, save_checkpoint, under
from components.rankers.ranker import Ranker
from components.stepping import set_rate, take_step
from components.workbench import Workbench


def no_facts() -> dict[str, Any]:
    """Of a training that has not begun."""
    return {"step": 0, "rows": 0, "seconds": 0.0, "core_seconds": 0.0}


@dataclass(frozen=True)
class Place:
    """Where a training keeps its checkpoint, what that belongs to, and how long it may be old at most within a stretch."""

    folder: Path
    identity: Mapping[str, Any]
    seconds: float


class Learning:
    """One network that learns by log loss with Adam at a given rate; `facts` are its caller's too, who may add to them."""

    def __init__(
        self,
        network: Ranker,
        optimizer: torch.optim.Optimizer,
        weight_averaging: float,
        device: torch.device,
        place: Place,
        facts: dict[str, Any],
    ) -> None:
        self.network = network
        self.averages = averaged(network, weight_averaging)
        self.facts = facts
        self._optimizer = optimizer
        self._device = device
        self._place = place

    def learn_to(
        self,
        until: int,
        batches: Batches,
        num_batches: int,
        rate: Callable[[int], float],
        workbench: Workbench,
        where: str,
        tell: Callable[[float], None],
    ) -> None:
        """Train up to batch number `until` in all, an epoch being the first `num_batches` of its order.

        `rate` gives Adam's rate at a step, `tell` hears about once a second how many rows a second pass. Raises Stopped, which
        says `where`, after a checkpoint when asked to stop; at `until` none is written.
        """
        saved_at = told_at = began = time.monotonic()
        rows_before = self.facts["rows"]
        since = (began, time.process_time())
        self.network.train()
        while self.facts["step"] < until:
            epoch, batch = divmod(self.facts["step"], num_batches)
            for ids_bf, clicks_b in batches.epoch(epoch, batch):
                set_rate(self._optimizer, rate(self.facts["step"]))
                take_step(
                    self.network,
                    self._optimizer,
                    self.averages,
                    ids_bf,
                    clicks_b,
                    functional.binary_cross_entropy_with_logits,
                )
                self.facts["step"] += 1
                self.facts["rows"] += len(clicks_b)
                if self.facts["step"] == until or self.facts["step"] % num_batches == 0:
                    break
                now = time.monotonic()
                if workbench.stop_signal() is not None or now - saved_at >= self._place.seconds:
                    since = self._count_time(since)
                    self.save()
                    saved_at = now
                    workbench.stop_if_asked(where)
                if now - told_at >= 1.0:
                    told_at = now
                    tell(float(self.facts["rows"] - rows_before) / max(now - began, 1e-9))
        self._count_time(since)

    def _count_time(self, since: tuple[float, float]) -> tuple[float, float]:
        now = (time.monotonic(), time.process_time())
        self.facts["seconds"] += now[0] - since[0]
        self.facts["core_seconds"] += now[1] - since[1]
        return now

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        tensors, self.facts["optimizer"] = flatten_optimizer("optimizer", self._optimizer)
        tensors |= {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= {f"averages.{name}": tensor for name, tensor in self.averages.state_dict().items()}
        tensors["random"] = torch.get_rng_state()
        if self._device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self._device)
        save_checkpoint(self._place.folder, self._place.identity, tensors, self.facts)

    def restore(self, found: Checkpoint) -> None:
        """Go back to where a checkpoint stands; facts are the caller's matter."""
        self.network.load_state_dict(under("network", found.tensors))
        self.averages.load_state_dict(under("averages", found.tensors))
        restore_optimizer("optimizer", self._optimizer, found.tensors, found.facts["optimizer"])
        torch.set_rng_state(found.tensors["random"])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(found.tensors["random.cuda"], self._device)
