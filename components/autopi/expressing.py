"""Which interactions of fields a function of ids has, and which ones an architecture's operators can express.

An interaction of the fields S is what no sum of functions of fewer of them gives. It shows in the mixed difference: of two
rows x and x', the sum over all T in S of (-1)^(|S| - |T|) f(x with the fields T of x'), which is 0 for every such sum and,
for a function that adds a term of S to others, the mixed difference of that term alone. Letters: R rows, F fields.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from components.autopi.architecture import Architecture
from components.autopi.network import FoundNetwork
from components.rankers.ranker import RankerParams

Ids = np.ndarray[Any, np.dtype[np.int32]]
Values = np.ndarray[Any, np.dtype[np.float64]]

# Of the spread of logits; float64 sums are exact to about 1e-15 of it.
_NOTHING = 1e-9
_PROBE_IDS, _PROBE_ROWS, _PROBE_WIDTH = 8, 256, 4


def mixed_difference(function: Callable[[Ids], Values], ids_rf: Ids, others_rf: Ids, fields: Sequence[int]) -> Values:
    """(R,) mixed differences of `function`, (R, F) -> (R,), in `fields` between each row and another one."""
    total = np.zeros(len(ids_rf), np.float64)
    for count in range(len(fields) + 1):
        for taken in itertools.combinations(fields, count):
            mixed_rf = ids_rf.copy()
            mixed_rf[:, list(taken)] = others_rf[:, list(taken)]
            total += (-1) ** (len(fields) - count) * function(mixed_rf)
    return total


def can_express(architecture: Architecture, fields: Sequence[int]) -> bool:
    """Whether the operators alone, behind them nothing but one linear output, interact these fields at all.

    Weights and ids are drawn at random and the mixed difference is looked at: an interaction that vanishes for them vanishes for
    all weights but a set of measure zero.
    """
    generator = np.random.default_rng(1)
    sizes = (_PROBE_IDS,) * architecture.num_fields
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        probe = dataclasses.replace(architecture, is_normalised=False)
        network = FoundNetwork(sizes, probe, RankerParams(_PROBE_WIDTH, (), 0.0, False)).double().eval()
    with torch.no_grad():
        for table in network.embedding_parameters():
            table.mul_(10.0)  # to a variance of 1, so that products are no smaller than sums

    def logits_of(ids_rf: Ids) -> Values:
        with torch.inference_mode():
            logits: Values = network(torch.from_numpy(ids_rf)).numpy()
        return logits

    ids_rf, others_rf = generator.integers(0, _PROBE_IDS, (2, _PROBE_ROWS, architecture.num_fields), dtype=np.int32)
    differences_r = mixed_difference(logits_of, ids_rf, others_rf, fields)
    return bool(np.abs(differences_r).max() > _NOTHING * np.std(logits_of(ids_rf)))
