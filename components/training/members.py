"""What a ranker is made of learns here: one network, or several one after the other whose logits are averaged.

Shape letter: R rows of tune.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors.torch
import torch

from components.autopi.architecture import Architecture, FoundArchitecture
from components.batching import pick_device
from components.encoding import Encoded
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

    The architecture is read for "autopi" alone. Several members learn one after the other, each with a checkpoint of its own.

    Raises ConfigError for params that make no sense or a training that diverges, Stopped after a checkpoint when asked.
    """
    check_params(params)
    found = architecture.architecture if architecture is not None and params.ranker == AUTOPI else None
    device = pick_device(workbench.device)
    check_fields(params, tuple(encoded.field_sizes))
    check_memory(params, tuple(encoded.field_sizes), found, device)
    keep_freed_memory()
    learned = [
        _learned(encoded, found, params.of_member(number), _place_of(number, params, workbench), device)
        for number in range(params.num_members)
    ]
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


def _learned(
    encoded: Encoded, architecture: Architecture | None, params: TrainParams, workbench: Workbench, device: torch.device
) -> _Learned:
    """From its checkpoint or from the start to the end."""
    shape = params.ranker_params[params.ranker]
    devices = [torch.cuda.current_device()] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), threads(params.num_threads):
        torch.manual_seed(params.seed)
        ranker = build_ranker(params.ranker, encoded.field_sizes, shape, architecture).to(device)
        fitting = Fitting(encoded, architecture, ranker, params, workbench, device)
        fitting.resume()
        fitting.run()
        tune_logits_r = fitting.best_tune_logits()
    record = Member(params.seed, fitting.train.num_rows, fitting.best_epoch, tuple(fitting.course.history))
    return _Learned(record, {name: tensor.cpu() for name, tensor in fitting.best.items()}, tune_logits_r)


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
