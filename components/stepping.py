"""One step of a training from scratch: what `train` and the search's trials do with each batch, and what `bench train` times.

Shape letters: B rows in a batch, F fields.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel

from components.rankers import Ranker
from components.strict import Strict

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Logits (B,) and clicks (B,) -> their mean loss, a scalar in nats."""

# Of <malloc.h>; the largest block that may come from the heap, and how much of it may lie free at its end.
_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES = -3, 32 << 20
_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES = -1, 1 << 30


@dataclass(frozen=True)
class TermLearning(Strict):
    """How the terms beside a found network learn: few numbers, nothing above them, so other ones than the network's.

    rate_factor   their learning rate, as a multiple of the network's
    embedding_l2  the penalty on their tables E is L2/2 * ||E||^2 a batch
    """

    rate_factor: float
    embedding_l2: float

    def promises(self) -> dict[str, bool]:
        """What must hold of these numbers, in words, and whether it does."""
        return {"terms.rate_factor > 0": self.rate_factor > 0, "terms.embedding_l2 >= 0": self.embedding_l2 >= 0}


def adam(ranker: Ranker, learning_rate: float, embedding_l2: float, terms: TermLearning | None) -> torch.optim.Adam:
    """Adam whose weight decay, coupled and on embeddings only, is the gradient of embedding_l2/2 * ||E||^2.

    `terms` is for rankers that have terms beside a network; None will do for the others.
    """
    term_tables, term_weights = ranker.term_parameters()
    apart = {id(parameter) for parameter in (*term_tables, *term_weights)}
    embeddings = [table for table in ranker.embedding_parameters() if id(table) not in apart]
    apart |= {id(table) for table in embeddings}
    others = [parameter for parameter in ranker.parameters() if id(parameter) not in apart]
    groups = [_group(embeddings, embedding_l2, 1.0), _group(others, 0.0, 1.0)]
    if term_tables:
        assert terms is not None, "a ranker with terms beside a network needs to know how they learn"
        groups += [
            _group(term_tables, terms.embedding_l2, terms.rate_factor),
            _group(term_weights, 0.0, terms.rate_factor),
        ]
    optimizer = torch.optim.Adam(groups, fused=True)
    set_rate(optimizer, learning_rate)
    return optimizer


def _group(parameters: list[torch.nn.Parameter], l2: float, rate_factor: float) -> dict[str, Any]:
    return {"params": parameters, "weight_decay": l2, "rate_factor": rate_factor}


def set_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """From the next step on, of an optimizer that `adam` made."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["rate_factor"]


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
    not always faster than one: each waits for the other at the end of every piece. On two cores a found network learned
    16,300 rows/s with one thread, 25,500 with two, and 12,100 with two beside another process, 14,100 if a thread that waits
    gives way at once (batches of 4,096; docs/log.md).
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
