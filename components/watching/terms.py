"""Which served rows were scored by the bundle that was champion at the time, and which by one that should not have served.

A row says when it was and which bundle scored it; the registry says which bundle was champion when. A bundle may score
rows from the start of each of its terms until the next one starts, and a grace longer, since a rollout takes its time.
Rows older than a bundle's first term were scored afterwards, by `score` over a past log, and are no fault either.
Shape letters: R rows of a chunk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from components.champion import Term
from components.profiling.binning import Counts

Mask = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True)
class Terms:
    """Who may have scored a row.

    digest  of the champion that rows are held against
    terms   of all champions, oldest first; empty where not known: then every other bundle is stale
    grace   microseconds for which a replaced champion may go on serving
    """

    digest: str
    terms: tuple[Term, ...]
    grace: int

    def of_rows(self, bundles: pl.Series, times: Counts) -> tuple[Mask, Mask]:
        """(R,) rows scored by a bundle that should not have served them any more, and rows rightly scored by another one."""
        is_stale, is_other = np.full(len(times), False), np.full(len(times), False)
        for bundle in bundles.unique():
            is_its = bundles.eq_missing(bundle).to_numpy()
            is_right = self._is_right(bundle, times)
            is_stale |= is_its & ~is_right
            is_other |= is_its & is_right & (bundle != self.digest)
        return is_stale, is_other

    def stale_in(self, bundles: pl.Series, times: pl.Series, num_named: int) -> str:
        """Which bundles scored stale rows, and how many of all, in words; the most frequent first."""
        is_stale, _ = self.of_rows(bundles, times.to_numpy())
        stale = bundles.filter(pl.Series(is_stale)).fill_null("none").alias("bundle")
        counts = stale.value_counts().sort(["count", "bundle"], descending=[True, False]).head(num_named)
        versions = {term.digest: f"{term.version} " for term in self.terms}
        shown = ((versions.get(bundle, ""), bundle, count / len(bundles)) for bundle, count in counts.iter_rows())
        return ", ".join(f"{version}{bundle[:12]} {share:.2%}" for version, bundle, share in shown)

    def _is_right(self, bundle: str | None, times: Counts) -> Mask:
        """(R,) moments at which this bundle could serve."""
        if not self.terms:
            return np.full(len(times), bundle == self.digest)
        is_right = np.full(len(times), False)
        ends: list[float] = [*(term.start for term in self.terms[1:]), np.inf]
        starts = [term.start for term in self.terms if term.digest == bundle]
        for term, end in zip(self.terms, ends, strict=True):
            if term.digest == bundle:
                is_right |= (times >= term.start) & (times < end + self.grace)
        return is_right | (times < starts[0]) if starts else is_right
