"""Of a simulated log it is known which interactions were planted: how many of them the network expresses and the ranker uses.

A term's use is the correlation, over pairs of tune rows, between the trained ranker's mixed differences in the term's fields
and those of the true logits (components/autopi/expressing): whatever else either of them learned drops out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from components.autopi.architecture import Architecture
from components.autopi.expressing import Ids, Values, can_express, mixed_difference
from components.encoding import Encoded
from components.log import CleanLog
from components.sources.reader import options_of
from components.sources.simulated import PlantedTerm, SimulatedParams, planted_terms
from components.splitting import Splits
from components.training import TrainedRanker

# Half of a term's own pattern, a quarter of its variance.
USED_FROM = 0.5
_PAIRS = 1_000
_NOTHING = 1e-9  # logits
_SEED = 1


@dataclass(frozen=True)
class TermUse:
    """One planted term.

    is_expressible  the architecture's operators interact its fields; None for a ranker without architecture
    correlation     between the ranker's and the true mixed differences, -1 to 1
    slope           of the former on the latter: 1 is the whole size of the planted term
    """

    fields: tuple[str, ...]
    is_expressible: bool | None
    correlation: float
    slope: float

    @property
    def is_used(self) -> bool:
        """Expressed and followed at least half."""
        return self.is_expressible is not False and self.correlation >= USED_FROM


def planted_use(
    clean_log: CleanLog, splits: Splits, encoded: Encoded, ranker: TrainedRanker
) -> tuple[TermUse, ...] | None:
    """Every planted term, in the world's order; None where nobody knows what was planted."""
    if clean_log.request.source.format != "simulated":
        return None
    names = encoded.field_names
    terms = planted_terms(options_of(clean_log.request, SimulatedParams))
    wanted = sorted({field for term in terms for field in term.fields if field in names})
    rows = clean_log.scan().select(wanted).collect()[splits.rows_of("tune")]
    ids_rf = np.asarray(encoded.split("tune").ids)
    return tuple(use_of(term, names, ids_rf, rows, ranker.logits, ranker.architecture) for term in terms)


def use_of(
    term: PlantedTerm,
    names: Sequence[str],
    ids_rf: Ids,
    rows: pl.DataFrame,
    logits_of: Callable[[Ids], Values],
    architecture: Architecture | None,
) -> TermUse:
    """One term: `ids_rf` (R, F) are the same rows as `rows`, encoded, with the columns `names`; `logits_of` is (R, F) -> (R,)."""
    if not set(term.fields) <= set(names):
        return TermUse(term.fields, False, 0.0, 0.0)  # the ranker never sees them
    places = [names.index(field) for field in term.fields]
    first, second = np.random.default_rng(_SEED).integers(0, len(ids_rf), (2, _PAIRS))
    learned_r = mixed_difference(logits_of, ids_rf[first], ids_rf[second], places)
    true_r = _true_difference(term, rows, first, second)
    spread = float(np.std(learned_r))
    covariance = float(np.mean((learned_r - learned_r.mean()) * (true_r - true_r.mean())))
    return TermUse(
        fields=term.fields,
        is_expressible=None if architecture is None else can_express(architecture, places),
        correlation=covariance / (spread * float(np.std(true_r))) if spread > _NOTHING else 0.0,
        slope=covariance / float(np.var(true_r)),
    )


def _true_difference(term: PlantedTerm, rows: pl.DataFrame, first: Ids, second: Ids) -> Values:
    """The term's own mixed difference; a row stands for its number, so that fields can be taken from either."""
    numbers_rf, others_rf = (np.repeat(one[:, None], len(term.fields), 1).astype(np.int32) for one in (first, second))

    def coefficients(taken_rf: Ids) -> Values:
        columns = {field: rows[field].gather(taken_rf[:, place]) for place, field in enumerate(term.fields)}
        return term.coefficients(pl.DataFrame(columns))

    return mixed_difference(coefficients, numbers_rf, others_rf, range(len(term.fields)))


def in_words(uses: tuple[TermUse, ...]) -> str:
    """One sentence."""
    count = sum(use.is_used for use in uses)
    parts = "; ".join(
        f"{' x '.join(use.fields)} {use.correlation:.2f}{' (not expressible)' if use.is_expressible is False else ''}"
        for use in uses
    )
    return (
        f"{count} of {len(uses)} planted interactions are expressed by the operators and used (correlation with the true "
        f"interaction of {USED_FROM} or more): {parts}"
    )
