"""Means over seeds, and which differences from the best are beyond noise.

In each resample the test rows' clusters are drawn with replacement, the same for all rankers, and of each ranker its
seeds as well; so a difference's spread holds the noise of the test split and that of the seeds (with one seed: of the
test split alone). Beside it stands the paired t test over seeds: the same test rows, the same seeds for both, so what it
says is about the procedure on these rows. Shape letters: R test rows, N resamples, S seeds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import t as student

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


@dataclass(frozen=True)
class SeedsDifference:
    """One ranker's figure minus another's, by the seeds that both have (paired t test, two-sided).

    value         mean of the pairs' differences
    low, high     its interval by Student's t with num_pairs - 1 degrees of freedom, at 1 - significance (uncorrected)
    holm_p_value  p_value raised for how many rankers are compared
    """

    num_pairs: int
    value: float
    low: float
    high: float
    p_value: float
    holm_p_value: float


def spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and standard deviation; None of the latter where there is one value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def differences(
    clicks_r: Array,
    scores: Mapping[str, Sequence[Array]],
    clusters_r: Array,
    num_bootstraps: int,
    seed: int,
    against: str | None = None,
) -> dict[str, dict[str, Difference]]:
    """Metric ("auc", "log_loss") -> ranker -> its difference from the best or from `against` (which has none itself); scores: ranker -> S x (R,)."""
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
        best = max(means, key=lambda row: sign * means[row]) if against is None else against
        errors = {row: float(np.nanstd(by_draw[row] - by_draw[best], ddof=1)) for row in scores if row != best}
        p_values = {row: _two_sided(means[row] - means[best], error) for row, error in errors.items()}
        corrected = holm(p_values)
        found[metric] = {
            row: Difference(means[row] - means[best], errors[row], p_values[row], corrected[row]) for row in errors
        }
    return found


def differences_over_seeds(
    figures: Mapping[str, Mapping[int, float]], against: str, significance: float
) -> dict[str, SeedsDifference]:
    """Ranker -> its paired difference from `against`; figures: ranker -> seed -> figure. Those with fewer than two common seeds are left out."""
    pairs = {
        row: [value - figures[against][seed] for seed, value in own.items() if seed in figures[against]]
        for row, own in figures.items()
        if row != against
    }
    found: dict[str, SeedsDifference] = {}
    for row, several in pairs.items():
        if len(several) < 2:
            continue
        mean, error = statistics.fmean(several), statistics.stdev(several) / math.sqrt(len(several))
        reach = float(student.isf(significance / 2, len(several) - 1)) * error
        p_value = _two_sided_t(mean, error, len(several) - 1)
        found[row] = SeedsDifference(len(several), mean, mean - reach, mean + reach, p_value, p_value)
    corrected = holm({row: one.p_value for row, one in found.items()})
    return {row: replace(one, holm_p_value=corrected[row]) for row, one in found.items()}


def _two_sided_t(mean: float, error: float, degrees: int) -> float:
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return 2 * float(student.sf(abs(mean) / error, degrees))


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
