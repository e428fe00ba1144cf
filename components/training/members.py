"""What a ranker is made of learns here: one network, or several, each for itself, whose logits are averaged.

Shape letter: R rows of tune.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import safetensors.torch
import torch

from components.autopi.architecture import Architecture, FoundArchitecture
from components.batching import pick_device
from components.checkpoint import forget_checkpoint
from components.compiling import learn_by_kernels, uses_kernels
from components.encoding import Encoded
from components.rankers import Ranker
from components.side_by_side import StopSignal, Tell, can_stand_side_by_side, work_side_by_side
from components.stepping import keep_freed_memory, threads
from components.training.fitting import Fitting, judged
from components.training.params import TrainParams
from components.training.promises import check_fields, check_memory, check_params
from components.training.trained import AUTOPI, Member, TrainedRanker, build_ranker, joined_weights
from components.workbench import Workbench


def train_ranker(
    encoded: Encoded, architecture: FoundArchitecture | None, params: TrainParams, workbench: Workbench
) -> TrainedRanker:
    """Fit the ranker that params name on train; keep the weights of the epoch that tune liked best.

    The architecture is read for "autopi" alone. Several members have a checkpoint each, and learn side by side where each
    takes one thread and there are cores for more than one; else one after the other. The result is the same.

    Raises ConfigError for params that make no sense or a training that diverges, Stopped after a checkpoint when asked.
    """
    check_params(params)
    found = architecture.architecture if architecture is not None and params.ranker == AUTOPI else None
    device = pick_device(workbench.device)
    check_fields(params, tuple(encoded.field_sizes))
    check_memory(params, tuple(encoded.field_sizes), found, device)
    keep_freed_memory()
    members = _Members(encoded, found, params, device)
    if members.is_compiled:
        with torch.device("meta"):  # before processes are forked, each of which would compile for itself
            members.build()
    # One thread: libgomp's others do not live on in a forked process, which would wait for them for ever.
    if params.num_threads == 1 and can_stand_side_by_side(params.num_members, workbench, device):
        workbench = members.train_side_by_side(workbench)
    learned = [members.train(number, _place_of(number, params, workbench)) for number in range(params.num_members)]
    tune_logits_r = np.mean([one.tune_logits_r for one in learned], axis=0)
    tune_auc, tune_log_loss = judged(np.asarray(encoded.split("tune").clicks), tune_logits_r, params)
    return TrainedRanker(
        name=params.ranker,
        field_sizes=tuple(encoded.field_sizes),
        ranker_params=params.ranker_params[params.ranker],
        architecture=found,
        negative_keep_rate=params.odds_rate,
        tune_auc=tune_auc,
        tune_log_loss=tune_log_loss,
        limit_batches=workbench.limit_batches,
        members=tuple(one.member for one in learned),
        weights=safetensors.torch.save(joined_weights([one.weights for one in learned])),
    )


@dataclass(frozen=True)
class _Learned:
    """One member at the end of its training: the record, the weights that were kept, and what they say of tune."""

    member: Member
    weights: dict[str, torch.Tensor]
    tune_logits_r: np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class _Members:
    """Members that learn: what all of them have in common."""

    encoded: Encoded
    architecture: Architecture | None
    params: TrainParams
    device: torch.device

    @property
    def is_compiled(self) -> bool:
        """Whether compiled kernels do some of the work."""
        return uses_kernels(self.params.kernels, self.device)

    def build(self) -> Ranker:
        """A network with weights from torch's generator; raises ConfigError where its kernels cannot be compiled."""
        shape = self.params.ranker_params[self.params.ranker]
        ranker = build_ranker(self.params.ranker, self.encoded.field_sizes, shape, self.architecture)
        if self.is_compiled:
            learn_by_kernels(ranker)
        return ranker

    def train(self, number: int, workbench: Workbench) -> _Learned:
        """One member, from its checkpoint or from the start to the end."""
        params = self.params.of_member(number)
        devices = [torch.cuda.current_device()] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), threads(params.num_threads):
            torch.manual_seed(params.seed)
            ranker = self.build().to(self.device)
            fitting = Fitting(self.encoded, self.architecture, ranker, params, workbench, self.device)
            fitting.resume()
            fitting.run()
            tune_logits_r = fitting.best_tune_logits()
        record = Member(params.seed, fitting.train.num_rows, fitting.best_epoch, tuple(fitting.course.history))
        return _Learned(record, {name: tensor.cpu() for name, tensor in fitting.best.items()}, tune_logits_r)

    def train_side_by_side(self, workbench: Workbench) -> Workbench:
        """Bring the checkpoint of every member to its end; gives the workbench from which they are taken up.

        Raises Stopped when asked to stop, after every process has written its checkpoint.
        """
        count = self.params.num_members

        def hear(shares: Sequence[float], note: str) -> None:
            workbench.progress(sum(shares), count, note)

        if workbench.resume == "never":
            for number in range(count):
                forget_checkpoint(_place_of(number, self.params, workbench).checkpoints)
            workbench = dataclasses.replace(workbench, resume="auto")
        codes = work_side_by_side([partial(self._train_apart, n, workbench) for n in range(count)], workbench, hear)
        workbench.stop_if_asked(f"while {count} members learned side by side")
        for number, code in enumerate(codes):
            if code != 0:
                note = f"the process of member {number + 1} ended early (exit code {code}); it goes on in this one"
                workbench.progress(0, count, note)
        return workbench

    def _train_apart(self, number: int, workbench: Workbench, stop_signal: StopSignal, tell: Tell) -> None:
        lent = dataclasses.replace(
            workbench, stop_signal=stop_signal, progress=lambda done, _total, note: tell(done - number, note)
        )
        self.train(number, _place_of(number, self.params, lent))


def _place_of(number: int, params: TrainParams, workbench: Workbench) -> Workbench:
    """A member's own checkpoints and part of the bar; a resume that is insisted on is so for the first of them."""
    if params.num_members == 1:
        return workbench

    def progress(done: float, total: float, note: str) -> None:
        workbench.progress(number + done / total, params.num_members, f"{number + 1}/{params.num_members} {note}")

    return dataclasses.replace(
        workbench,
        checkpoints=workbench.checkpoints if number == 0 else workbench.checkpoints / f"member_{number}",
        progress=progress,
        resume="auto" if number > 0 and workbench.resume == "always" else workbench.resume,
    )
