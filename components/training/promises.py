"""What must hold of a training's params before it starts: the numbers themselves, the fields there are, and the memory."""

from __future__ import annotations

import os
from typing import Any

import torch

from components.autopi.architecture import Architecture
from components.errors import ConfigError
from components.rankers import RANKERS
from components.training.params import OTHERS, TrainParams
from components.training.trained import AUTOPI, build_ranker, unknown_ranker

# Weights, gradients, Adam's two moments, the running average and the best epoch's copy of it, float32 each.
_BYTES_PER_NUMBER = 6 * 4
_GB = 1e9


def check_params(params: TrainParams) -> None:
    """Raise ConfigError naming every promise that these params break."""
    name = params.ranker
    if name not in (AUTOPI, *RANKERS):
        raise unknown_ranker(name)
    if name not in params.ranker_params:
        raise ConfigError(f"params.yaml [train] has no ranker_params for '{name}'")
    by_ranker: dict[str, dict[str, Any]] = {"learning_rate": params.learning_rate, "embedding_l2": params.embedding_l2}
    absent = [key for key, values in by_ranker.items() if name not in values and OTHERS not in values]
    if absent:
        raise ConfigError(
            f"params.yaml or logs/<name>.yaml [train] has no {' and no '.join(absent)} for '{name}' nor for '{OTHERS}'"
        )
    promises = {
        "0 < negative_keep_rate <= 1": 0 < params.negative_keep_rate <= 1,
        "click_weight >= 1": params.click_weight >= 1,
        "focal_gamma >= 0": params.focal_gamma >= 0,
        "0 <= weight_averaging < 1": 0 <= params.weight_averaging < 1,
        "0 < learning_rate_factor < 1": 0 < params.learning_rate_factor < 1,
        f"learning_rate.{name} > 0": params.own_learning_rate > 0,
        "max_epochs >= 1": params.max_epochs >= 1,
        "batch_rows >= 2": params.batch_rows >= 2,
        "num_threads >= 1": params.num_threads >= 1,
        "patience_epochs >= 1": params.patience_epochs >= 1,
        "num_learning_rate_drops >= 0": params.num_learning_rate_drops >= 0,
        "num_members >= 1": params.num_members >= 1,
        "seed >= 0": params.seed >= 0,
        f"embedding_l2.{name} >= 0": params.own_embedding_l2 >= 0,
        **params.terms.promises(),
        **{f"ranker_params.{name}: {words}": holds for words, holds in params.ranker_params[name].promises().items()},
    }
    broken = [promise for promise, holds in promises.items() if not holds]
    if broken:
        raise ConfigError(f"params.yaml [train] promises do not hold: {'; '.join(broken)}; got {params}")


def check_fields(params: TrainParams, field_sizes: tuple[int, ...]) -> None:
    """Raise ConfigError where a ranker that combines fields has too few of them, naming those that could be trained."""
    name, num_fields = params.ranker, len(field_sizes)
    if name == AUTOPI or num_fields >= RANKERS[name].fields_needed:
        return
    able = ", ".join(sorted(other for other, kind in RANKERS.items() if kind.fields_needed <= num_fields))
    raise ConfigError(
        f"params.yaml [train] ranker: '{name}' combines fields and needs at least {RANKERS[name].fields_needed}, this log "
        f"has {num_fields}; choose one of {able}"
    )


def check_memory(
    params: TrainParams, field_sizes: tuple[int, ...], architecture: Architecture | None, device: torch.device
) -> None:
    """Raise ConfigError where the numbers to be learned cannot fit into the device's memory, before any is made."""
    shape = params.ranker_params[params.ranker]
    with torch.device("meta"):
        ranker = build_ranker(params.ranker, field_sizes, shape, architecture)
    num_embeddings = sum(table.numel() for table in ranker.embedding_parameters())
    num_numbers = sum(parameter.numel() for parameter in ranker.parameters())
    needed, there = num_numbers * _BYTES_PER_NUMBER, _memory_bytes(device)
    if needed > there:
        raise ConfigError(
            f"params.yaml [train] ranker '{params.ranker}' has {num_embeddings:,} numbers in embeddings of "
            f"{sum(field_sizes):,} ids and {num_numbers - num_embeddings:,} others; to train them takes {needed / _GB:,.1f} GB "
            f"(weights, gradients, Adam's two moments, their average, the best epoch's copy), this {device.type} has {there / _GB:,.1f} GB; "
            f"lower ranker_params.{params.ranker}.embedding_width (now {shape.embedding_width}) or encode.max_vocabulary, or "
            "choose a ranker with fewer numbers an id, such as linear"
        )


def _memory_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
