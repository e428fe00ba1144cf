"""Means over seeds, and which differences from the best are beyond noise.

In each resample the test rows' clusters are drawn with replacement, the same for all rankers, and of each ranker its
seeds as well; so a difference's spread holds the noise of the test split and that of the seeds (with one seed: of the
test split alone). Shape letters: R test rows, N resamples, S seeds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from components import metrics
from components.evaluating.bootstrapping import resample

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Difference:
    """One ranker's mean figure minus the best one's.

    standard_error  of the resampled differences
    p_value         two-sided, by the normal law of that standard error
    holm_p_value    the same, raised for how many rankers are compared (Holm 1979)
    """

    value: float
    standard_error: float
    p_value: float
    holm_p_value: float


def spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard deviation; None of the latter where there is one value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def differences(
    clicks_r: Array, scores: Mapping[str, Sequence[Array]], clusters_r: Array, num_bootstraps: int, seed: int
) -> dict[str, dict[str, Difference]]:
    """Metric ("auc", "log_loss") -> ranker -> its difference from the best (the best itself has none); scores: ranker -> S x (R,)."""
    named = {f"{row} {place}": one for row, several in scores.items() for place, one in enumerate(several)}
    resampled = resample(clicks_r, named, clusters_r, num_bootstraps, seed)
    whole = _on_all_rows(clicks_r, named)
    generator = np.random.default_rng([seed, 1])
    draws = {
        row: generator.integers(0, len(several), (num_bootstraps, len(several))) for row, several in scores.items()
    }
    found: dict[str, dict[str, Difference]] = {}
    for metric, sign in (("auc", 1.0), ("log_loss", -1.0)):
        means = {
            row: statistics.fmean(whole[f"{row} {place}"][metric] for place in range(len(several)))
            for row, several in scores.items()
        }
        by_draw: dict[str, Array] = {}
        for row, several in scores.items():
            figures_ns = np.stack([resampled[f"{row} {place}"][metric] for place in range(len(several))], axis=1)
            by_draw[row] = np.take_along_axis(figures_ns, draws[row], axis=1).mean(axis=1)
        best = max(means, key=lambda row: sign * means[row])
        errors = {row: float(np.nanstd(by_draw[row] - by_draw[best], ddof=1)) for row in scores if row != best}
        p_values = {row: _two_sided(means[row] - means[best], error) for row, error in errors.items()}
        corrected = holm(p_values)
        found[metric] = {
            row: Difference(means[row] - means[best], errors[row], p_values[row], corrected[row]) for row in errors
        }
    return found


def _on_all_rows(clicks_r: Array, scores: Mapping[str, Array]) -> dict[str, dict[str, float]]:
    """Each scorer's AUC and log loss on the rows as they are."""
    return {
        name: {"auc": metrics.auc(clicks_r, one), "log_loss": metrics.log_loss(clicks_r, one)}
        for name, one in scores.items()
    }


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's correction: the i-th smallest of m p-values times m - i + 1, never below a smaller one's, at most 1."""
    corrected: dict[str, float] = {}
    highest = 0.0
    for place, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        highest = max(highest, min(1.0, p_values[name] * (len(p_values) - place)))
        corrected[name] = highest
    return corrected


def _two_sided(difference: float, error: float) -> float:
    if error == 0:
        return 1.0 if difference == 0 else 0.0
    return math.erfc(abs(difference) / error / math.sqrt(2))
