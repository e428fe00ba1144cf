"""Which interactions a model lacks: those in whose cells its errors on train and on tune agree.

A cell of some fields is one combination of their ids. Where a model lacks their interaction, the rows of a cell err to the same
side, in train and in tune alike; where it lacks nothing, tune's errors mean nothing. With r = click - score of a row, A_c the sum
of r over a cell's rows of train, and B_c that over its rows of tune,

    agreement = sum over cells of A_c B_c / sqrt(sum over cells of A_c^2 V_c),   V_c = sum over tune's rows in c of score (1 - score),

has mean 0 and variance 1 for a model whose scores are true on tune, whatever it made of train: given train, each B_c has mean 0
and variance V_c. It is the score statistic of a random effect of the cells, with train's estimate for its direction. No training
is needed: a few passes over two columns of numbers a set of fields. Shape letters: R rows, F fields.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from components.rankers.terms import Terms


@dataclass(frozen=True)
class Errors:
    """Rows of a split with what a model made of them.

    ids     (R, F) integers
    clicks  (R,) 0 or 1
    scores  (R,) probabilities
    """

    ids: NDArray[np.integer]
    clicks: NDArray[np.float64]
    scores: NDArray[np.float64]


def agreements(train: Errors, tune: Errors, field_sizes: Sequence[int], terms: Terms) -> Iterator[float]:
    """Yield that of each term's cells, in standard errors; minus infinity where train has fewer rows than there are cells.

    With so many cells hardly any has rows in both splits, and asking would cost memory.
    """
    ids_train, ids_tune = (np.ascontiguousarray(rows.ids.T).astype(np.int64) for rows in (train, tune))
    errors_train, errors_tune = train.clicks - train.scores, tune.clicks - tune.scores
    variances_tune = tune.scores * (1 - tune.scores)
    for term in terms:
        num_cells = math.prod(field_sizes[field] for field in term)
        if num_cells > len(train.clicks):
            yield -math.inf
            continue
        cells_train, cells_tune = (_cells(ids_fr, field_sizes, term) for ids_fr in (ids_train, ids_tune))
        a_c = np.bincount(cells_train, errors_train, num_cells)
        b_c = np.bincount(cells_tune, errors_tune, num_cells)
        v_c = np.bincount(cells_tune, variances_tune, num_cells)
        spread = math.sqrt(float(a_c**2 @ v_c))
        yield float(a_c @ b_c) / spread if spread > 0 else -math.inf


def _cells(ids_fr: NDArray[np.int64], field_sizes: Sequence[int], term: Sequence[int]) -> NDArray[np.int64]:
    """The number of each row's cell (R,)."""
    cells_r: NDArray[np.int64] = ids_fr[term[0]]
    for field in term[1:]:
        cells_r = cells_r * field_sizes[field] + ids_fr[field]
    return cells_r
