"""One step of a training from scratch: what `train` and the search's trials do with each batch, and what `bench train` times.

Shape letters: B rows in a batch, F fields.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.optim.swa_utils import AveragedModel

from components.rankers import Ranker

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Logits (B,) and clicks (B,) -> their mean loss, a scalar in nats."""

# Of <malloc.h>; the largest block that may come from the heap, and how much of it may lie free at its end.
_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES = -3, 32 << 20
_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES = -1, 1 << 30


def adam(ranker: Ranker, learning_rate: float, embedding_l2: float) -> torch.optim.Adam:
    """Adam whose weight decay, coupled and on embeddings only, is the gradient of embedding_l2/2 * ||E||^2."""
    embeddings = ranker.embedding_parameters()
    tables = {id(parameter) for parameter in embeddings}
    others = [parameter for parameter in ranker.parameters() if id(parameter) not in tables]
    groups = [{"params": embeddings, "weight_decay": embedding_l2}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.Adam(groups, lr=learning_rate, fused=True)


def take_step(
    ranker: Ranker,
    optimizer: torch.optim.Optimizer,
    average: AveragedModel,
    ids_bf: torch.Tensor,
    clicks_b: torch.Tensor,
    loss_of: Loss,
) -> torch.Tensor:
    """Learn from the rows ids (B, F) and clicks (B,), let the average follow, and give the rows' mean loss before it."""
    loss = loss_of(ranker(ids_bf), clicks_b)
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


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many threads of torch's on the CPU, and as many as before at the end.

    A sum is split by thread, so their number belongs to what a result depends on, and must not be the machine's. Two are
    not always faster than one: a small step waits more than it works, and a thread that waits turns in place. On two cores
    a found network learned 11,000 rows/s with one thread, 15,000 with two, and 683 with two beside another process (batches
    of 1,024, docs/log.md).
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
