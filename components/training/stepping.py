"""One step of a training: what `train` does with each batch, and what `bench train` times.

Shape letters: B rows in a batch, F fields.
"""

from __future__ import annotations

import ctypes

import torch
from torch.optim.swa_utils import AveragedModel

from components.rankers import Ranker
from components.training.losses import mean_loss
from components.training.params import TrainParams

# Of <malloc.h>; the largest block that may come from the heap, and how much of it may lie free at its end.
_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES = -3, 32 << 20
_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES = -1, 1 << 30


def take_step(
    ranker: Ranker,
    optimizer: torch.optim.Optimizer,
    average: AveragedModel,
    ids_bf: torch.Tensor,
    clicks_b: torch.Tensor,
    params: TrainParams,
) -> torch.Tensor:
    """Learn from the rows ids (B, F) and clicks (B,), let the average follow, and give the rows' mean loss before it."""
    loss = mean_loss(ranker(ids_bf), clicks_b, params.click_weight, params.focal_gamma)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    average.update_parameters(ranker)
    return loss.detach()


def keep_freed_memory() -> None:
    """Ask the C library to keep memory that was freed, for this whole process; where it knows no such wish, nothing is done.

    Every step frees and asks for the same tensors of some MB again. Given back to the system in between, each page of them
    is faulted in and cleared anew: 2,600 pages a step of DeepFM, a tenth of its time; kept, 400.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES)
