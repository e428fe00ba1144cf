"""A small log with a planted product, params of a small search, and a workbench for it: what the tests of the search share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.autopi import kernels
from components.autopi.architecture import FoundArchitecture
from components.autopi.kernels import Kernels
from components.autopi.operators import PAPER_OPERATORS
from components.autopi.search_params import SearchParams, TermSearchParams, TrialParams
from components.autopi.searching import search_architecture
from components.compiling import can_compile
from components.errors import Stopped
from components.rankers import hidden_kernels
from components.stepping import TermLearning
from components.workbench import Workbench

needs_compiler = pytest.mark.skipif(not can_compile(), reason="no C compiler (cc) on this machine")
# What search.kernels and train.kernels may be, for parametrize.
WAYS = ["torch", pytest.param("compiled", marks=needs_compiler)]

PARAMS = SearchParams(
    strategy="darts",
    fixed_architecture=None,
    seed=1,
    operators=PAPER_OPERATORS,
    num_nodes=2,
    edges_per_node=2,
    embedding_width=4,
    normalises_embeddings=False,
    batch_rows=512,
    max_epochs=3,
    weight_rate=0.3,
    weight_momentum=0.9,
    weight_decay=0.0,
    embedding_l2=0.001,
    alpha_rate=0.05,
    alpha_momenta=(0.5, 0.999),
    alpha_decay=0.001,
    use_annealing=True,
    skip_noise_share=0.03,
    cost_measure="flops",
    cost_price=0.0,
    kernels="torch",
    checkpoint_seconds=0.0,
    terms=TermSearchParams(
        orders=(),
        screened_orders=(),
        min_agreement=5.0,
        max_screened=4,
        max_asked=1_000,
        max_learned=100,
        screened_rows=10_000,
        max_epochs=4,
        first_pruning=2,
        min_errors=1.0,
        learning_rate=0.02,
        embedding_l2=1e-4,
    ),
    trial=TrialParams(
        num_candidates=6,
        supernet_share=0.0,
        kept_share=0.5,
        num_seeds=1,
        learning_rate=0.02,
        weight_averaging=0.9,
        dropout=0.1,
        hidden_widths=(),
        terms=TermLearning(1.0, 1e-4),
    ),
    term_share=1.0,
    trial_embedding_l2=0.001,
    trial_rung_epochs=(0.5, 1.0, 2.0),
)


@dataclasses.dataclass(frozen=True)
class Split:
    ids: np.ndarray
    clicks: np.ndarray
    times: np.ndarray


class Log:
    """Encoded rows of four fields; a click depends on a product of two hidden traits, one of field 0 and one of field 1.

    With `is_triple` it is one of three, as many ids of either sign, so that no two of the fields show anything.
    """

    def __init__(self, num_rows: int, num_ids: int, seed: int, is_triple: bool = False) -> None:
        generator = np.random.default_rng(seed)
        self.field_sizes = (num_ids,) * 4
        self.field_names = ("a", "b", "c", "d")
        traits = generator.choice([-1.0, 1.0], size=(2, num_ids))
        if is_triple:
            traits = generator.permuted(np.tile([-1.0, 1.0], (3, num_ids // 2)), axis=1)
        self._splits = {}
        for name, rows in (("train", num_rows), ("tune", num_rows // 4), ("test", num_rows // 4)):
            ids = generator.integers(0, num_ids, (rows, 4)).astype(np.int32)
            logits = 2.5 * np.prod([of_ids[ids[:, field]] for field, of_ids in enumerate(traits)], axis=0)
            clicks = (generator.random(rows) < 1 / (1 + np.exp(-logits))).astype(np.int8)
            self._splits[name] = Split(ids, clicks, np.zeros(rows, np.int64))

    def split(self, name: str) -> Any:
        return self._splits[name]


def ignore(done: float, total: float, note: str) -> None:
    """A stage that nobody watches."""


def bench(folder: Path, stop: Callable[[], int | None] = lambda: None, **changes: Any) -> Workbench:
    made = Workbench(folder, folder, ignore, "cpu", "auto", None, stop, 1)
    return dataclasses.replace(made, **changes)


def stopped_at_random(
    log: Any, params: SearchParams, folder: Path, seed: int, most_questions: int
) -> tuple[FoundArchitecture, list[int]]:
    """Search to the end in spite of stops, each after fewer than `most_questions` looks at the signal; the exit codes of the stops."""
    generator = np.random.default_rng(seed)
    exit_codes: list[int] = []
    while True:
        questions_left = int(generator.integers(1, most_questions))

        def stop() -> int | None:
            nonlocal questions_left
            questions_left -= 1
            return 15 if questions_left < 0 else None

        try:
            return search_architecture(log, params, bench(folder, stop)), exit_codes
        except Stopped as stopped:
            exit_codes.append(stopped.exit_code)


def forget_programs() -> None:
    """What was compiled in this process, so that the compiler is asked again."""
    for module in (kernels, hidden_kernels):
        module._compile.cache_clear()


def kernels_of(way: str, num_fields: int, width: int) -> Kernels | None:
    """What a supernet is given for one of WAYS."""
    return Kernels(num_fields, width) if way == "compiled" else None
