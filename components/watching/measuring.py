"""The checks of a window as a whole: shares against an agreed maximum, skew, units of numbers, the number of rows.

Shape letters: R rows of a sample, Q quantiles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import polars as pl

from components.profiling import FieldBins, ReferenceProfile
from components.profiling.binning import FIRST_VALUE_BIN, Floats
from components.watching.distances import two_sided
from components.watching.drift import Measure, Quantiles
from components.watching.limits import Levels, Limits

_LOWEST_QUANTILE, _HIGHEST_QUANTILE = 0.05, 0.95  # further out a sample says little
_QUANTILES_AT_LEAST = 3
_SHOWN_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)


def measure_share(check: str, num_hits: int, num_rows: int, maximum: float) -> Measure:
    """A share of rows against a maximum that is agreed, where no chance is involved."""
    share = num_hits / num_rows
    return Measure(check, "all", share, None, maximum, share / maximum, num_rows)


def measure_skew(served: Floats, offline: Floats, limits: Limits) -> Measure:
    """The largest distance between served scores and the champion's own of the same rows."""
    distance = float(np.abs(served - offline).max())
    tolerance = limits.skew_tolerance
    return Measure("score_skew", "all", distance, None, tolerance, distance / tolerance, len(served))


def measure_unit(profile: ReferenceProfile, sample: pl.DataFrame, field: FieldBins, limits: Limits) -> Measure | None:
    """The factor between a number's quantiles in the sample and in the reference, if all have moved by about the same.

    A change of unit scales every quantile alike, a change of the mix does not. `measured` is the factor; the effect is 0
    where the quantiles disagree by more than half of the logarithm of the smallest factor that matters. None where the
    sample or the reference has too few values to say.
    """
    if field.kind != "numeric":
        return None
    counts = profile.tally.counts[f"field:{field.name}"].sum(axis=0)[FIRST_VALUE_BIN:]
    values = _finite(sample[field.name])
    if counts.sum() == 0 or len(values) < limits.minimum_hour_rows:
        return None
    quantiles = counts.cumsum()[:-1] / counts.sum()
    edges = np.array(field.edges)
    is_kept = (quantiles >= _LOWEST_QUANTILE) & (quantiles <= _HIGHEST_QUANTILE) & (edges != 0)
    served = np.quantile(values, quantiles[is_kept])
    edges = edges[is_kept]
    has_factor = (np.sign(served) == np.sign(edges)) & (served != 0)
    factors = np.log(np.abs(served[has_factor])) - np.log(np.abs(edges[has_factor]))
    if len(factors) < _QUANTILES_AT_LEAST or 2 * len(factors) < len(edges):
        return None
    factor = float(np.median(factors))
    smallest = math.log(limits.minimum_unit_factor)
    agree = float(np.abs(factors - factor).max()) <= smallest / 2
    limit = limits.minimum_unit_factor if factor >= 0 else 1 / limits.minimum_unit_factor
    effect = abs(factor) / smallest if agree else 0.0
    return Measure("field_unit", field.name, math.exp(factor), 1.0, limit, effect, len(values))


def quantiles_of(profile: ReferenceProfile, sample: pl.DataFrame, field: FieldBins) -> Quantiles | None:
    """Where the sample's numbers lie beside the reference's, at its bucket edges nearest to a few round shares.

    None for a categorical field, and where either has no number.
    """
    if field.kind != "numeric":
        return None
    counts = profile.tally.counts[f"field:{field.name}"].sum(axis=0)[FIRST_VALUE_BIN:]
    values = _finite(sample[field.name])
    if len(values) == 0 or len(field.edges) == 0:
        return None
    known = counts.cumsum()[:-1] / counts.sum()
    chosen = np.unique([int(np.abs(known - share).argmin()) for share in _SHOWN_SHARES])
    shares = tuple(known[chosen].tolist())
    served = tuple(np.quantile(values, shares).tolist())
    return Quantiles(field.name, shares, tuple(field.edges[number] for number in chosen), served, len(values))


def _finite(values: pl.Series) -> Floats:
    return values.filter(values.is_finite()).to_numpy()


def measure_volume(num_rows: int, past: Sequence[int], limits: Limits, levels: Levels) -> Measure | None:
    """A window's number of rows against that of the same hours in past weeks; None with fewer than two of them.

    Traffic differs from week to week by more than chance: its logarithm has the deviation seen in `past`, and no less
    than the usual one.
    """
    if len(past) < 2:
        return None
    logs = np.log(np.maximum(np.array(past, dtype=np.float64), 1.0))
    expected = float(np.exp(logs.mean()))
    deviation = max(limits.usual_volume_deviation, float(logs.std(ddof=1)))
    spread = math.sqrt(deviation**2 * (1 + 1 / len(past)) + 1 / expected)
    p_value = two_sided((math.log(max(num_rows, 1)) - float(logs.mean())) / spread)
    change = limits.minimum_volume_change
    ratio = num_rows / expected
    limit = expected * (1 + change if ratio >= 1 else 1 - change)
    effect = abs(ratio - 1) / change
    return Measure("rows", "all", float(num_rows), expected, limit, effect, num_rows, p_value, levels.of("rows"))


def new_values(sample: pl.DataFrame, field: FieldBins, known: frozenset[str], num_values: int) -> str:
    """The most frequent values of a sample that the champion does not know, in words."""
    values = sample[field.name].drop_nulls().alias("value")
    counts = values.filter(~values.is_in(list(known))).value_counts().sort(["count", "value"], descending=[True, False])
    return ", ".join(
        f"{row['value']!r} {row['count'] / sample.height:.2%}" for row in counts.head(num_values).to_dicts()
    )
