"""How fast a step of the search is, beside a plain supernet: `python -m pipeline bench search`.

A step is one of alpha and beta and one of weights, 2 x batch rows, at Frappe's shape. Supernets step in turn in one
process, so that whatever else the machine does meets all alike; the fastest of the rounds counts. Ours steps both ways that
`search.kernels` knows, where the machine has a C compiler.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from components.autopi.descending import descend
from components.autopi.kernels import Kernels
from components.autopi.operators import PAPER_OPERATORS
from components.autopi.supernet import Space, Supernet
from components.compiling import can_compile
from components.stepping import keep_freed_memory

# Ids per field in Frappe's published split, two more for missing and unseen.
FRAPPE_FIELD_SIZES = (956, 4084, 9, 9, 4, 5, 4, 11, 82, 235)
SPACE = Space(PAPER_OPERATORS, num_nodes=4, width=10, is_normalised=False)
BATCH_ROWS = 4096

Step = Callable[[], None]


def run_bench_search(num_rounds: int, threads: tuple[int, ...]) -> dict[str, Any]:
    """Time `num_rounds` steps of each supernet at each number of threads.

    Gives kernels (those of the figures without a name: "compiled", or "torch" where there is no C compiler),
    ratio_<n>_thread(s), rows_per_second (ours, the most threads), rows_per_second_<n>_thread(s) and those of the plain one, and
    ratio_torch_<n>_thread(s), without compiled kernels; restores the number of threads.
    """
    before = torch.get_num_threads()
    keep_freed_memory()  # as every search does; it serves all
    kernels = Kernels(len(FRAPPE_FIELD_SIZES), SPACE.width) if can_compile() else None
    figures: dict[str, Any] = {"batch_rows": BATCH_ROWS, "device": "cpu", "gpu": _gpu_in_words()}
    figures["kernels"] = "torch" if kernels is None else "compiled"
    try:
        for count in threads:
            torch.set_num_threads(count)
            ours, by_torch, plain = _time_in_turn((_our_step(kernels), _our_step(None), _plain_step()), num_rounds)
            name = threads_in_words(count)
            figures[f"ratio_{name}"] = round(plain / ours, 2)
            figures[f"ratio_torch_{name}"] = round(plain / by_torch, 2)
            figures[f"rows_per_second_{name}"] = round(2 * BATCH_ROWS / ours)
            figures[f"plain_rows_per_second_{name}"] = round(2 * BATCH_ROWS / plain)
            figures["rows_per_second"] = figures[f"rows_per_second_{name}"]
    finally:
        torch.set_num_threads(before)
    return figures


def threads_in_words(count: int) -> str:
    """As the names of figures end: 1_thread, 2_threads."""
    return f"{count}_thread" if count == 1 else f"{count}_threads"


def _time_in_turn(steps: Sequence[Step], num_rounds: int) -> list[float]:
    """Seconds of the fastest of `num_rounds` steps of each, after one to warm up."""
    best = [float("inf")] * len(steps)
    for round_number in range(num_rounds + 1):
        for place, step in enumerate(steps):
            gc.collect()
            started = time.perf_counter()
            step()
            if round_number > 0:
                best[place] = min(best[place], time.perf_counter() - started)
    return best


def _rows() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    ids_bf = torch.stack([torch.randint(0, size, (BATCH_ROWS,), generator=generator) for size in FRAPPE_FIELD_SIZES], 1)
    return ids_bf.int(), torch.rand(BATCH_ROWS, generator=generator).round()


def _our_step(kernels: Kernels | None) -> Step:
    """As components.autopi.darts steps: no gradient is computed for what rests."""
    supernet = Supernet(FRAPPE_FIELD_SIZES, SPACE, torch.Generator().manual_seed(1), kernels)
    architecture = supernet.architecture_parameters()
    weights = [*supernet.weight_parameters(), *supernet.embedding_parameters()]
    alpha_optimizer = torch.optim.Adam(architecture, lr=1e-3, fused=True)
    weight_optimizer = torch.optim.SGD(weights, lr=0.01, momentum=0.9, fused=True)
    ids_bf, clicks_b = _rows()

    def loss() -> torch.Tensor:
        return functional.binary_cross_entropy_with_logits(supernet(ids_bf, 1.0, None), clicks_b)

    def step() -> None:
        descend(alpha_optimizer, architecture, weights, loss)
        descend(weight_optimizer, weights, architecture, loss)

    return step


def _plain_step() -> Step:
    """As DARTS code does it: every gradient in every step, of which half is thrown away."""
    from tests.plain_supernet import PlainSupernet

    supernet = PlainSupernet(FRAPPE_FIELD_SIZES, SPACE)
    architecture = supernet.architecture_parameters()
    known = {id(parameter) for parameter in architecture}
    weights = [parameter for parameter in supernet.parameters() if id(parameter) not in known]
    optimizers = torch.optim.Adam(architecture, lr=1e-3), torch.optim.SGD(weights, lr=0.01, momentum=0.9)
    ids_bf, clicks_b = _rows()

    def step() -> None:
        for optimizer in optimizers:
            for other in optimizers:
                other.zero_grad()
            loss = functional.binary_cross_entropy_with_logits(supernet(ids_bf, 1.0, None), clicks_b)
            torch.autograd.backward(loss)
            optimizer.step()

    return step


def _gpu_in_words() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none on this machine"
