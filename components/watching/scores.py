"""The checks of served scores that need no click of theirs: whether they are probabilities, how they spread, their extremes,
their mean, and whether it is the click rate to be expected.

Shape letters: B bins of scores, H hours of the day.
"""

from __future__ import annotations

import math

import numpy as np

from components.profiling import ReferenceProfile, Tally
from components.profiling.binning import INVALID_SCORE_BIN, Counts
from components.watching.comparing import measure_stability, measure_usual_share, mix_of
from components.watching.distances import Expectation, expectation, rate_root, two_sided
from components.watching.drift import Measure
from components.watching.limits import Levels, Limits

_VALID = slice(INVALID_SCORE_BIN + 1, None)
_EXTREMES = {"score_lowest": INVALID_SCORE_BIN + 1, "score_highest": -1}


def measure_invalid(tally: Tally) -> Measure:
    """Scores that are no probability, of which there may be none."""
    invalid = int(tally.counts["scores"][:, INVALID_SCORE_BIN].sum())
    return Measure("score_invalid", "all", invalid, None, 0.0, float(invalid), tally.num_rows)


def measure_scores(profile: ReferenceProfile, tally: Tally, limits: Limits, levels: Levels) -> tuple[Measure, ...]:
    """All checks of the scores' distribution."""
    measures: list[Measure] = []
    expected = mix_of(profile, tally, limits).expect(profile.tally.counts["scores"])
    counts = tally.counts["scores"].sum(axis=0)
    measures += measure_stability("score_drift", "all", counts.astype(np.float64), expected, _VALID, limits, levels)
    mean = _measure_mean(profile, tally, limits, levels)
    measures += [] if mean is None else [mean]
    if profile.binning.num_score_bins <= INVALID_SCORE_BIN + 2:
        return tuple(measures)
    for check, place in _EXTREMES.items():
        change, level = limits.minimum_share_change, levels.of(check)
        num_hits = int(counts[place])
        measures.append(measure_usual_share(check, "all", num_hits, tally.num_rows, expected, place, change, level))
    return tuple(measures)


def measure_click_rate(
    profile: ReferenceProfile, tally: Tally, inflation: float, limits: Limits, levels: Levels
) -> Measure | None:
    """The mean score against the click rate to be expected: the reference's at the same hours, whatever it was scored there.

    Two Poisson rates, of as many clicks as make each as sure as it is: the mean of scores has their variance, the reference's
    clicks are less dispersed than Poisson's by 1 - rate, and by `inflation` more where they are clustered. None without a
    score, or where the reference has too few clicks at these hours to expect anything.
    """
    num_rows = int(_num_valid(tally).sum())
    if num_rows == 0:
        return None
    rate, num_reference = expected_click_rate(profile, tally, limits), mix_of(profile, tally, limits).num_rows
    mean = float(tally.score_sums.sum()) / num_rows
    if rate * num_reference < limits.minimum_bin_rows or mean <= 0:
        return None
    promised = mean**2 * num_rows / max(profile.score_variance, 1e-12)
    dispersion = max(1 - rate, 1e-12) * inflation
    root = rate_root(promised, promised / mean, rate * num_reference / dispersion, num_reference / dispersion)
    change = limits.minimum_score_change
    limit, effect = rate * (1 + change if mean >= rate else 1 - change), abs(mean / rate - 1) / change
    level = levels.of("score_click_rate")
    return Measure("score_click_rate", "all", mean, rate, limit, effect, num_rows, two_sided(root), level)


def expected_mean_score(profile: ReferenceProfile, tally: Tally, limits: Limits) -> Expectation:
    """The reference's mean score at the hours at which rows were served, as the only one of `shares`."""
    return expectation(
        profile.tally.score_sums[:, None], _num_valid(profile.tally), _num_valid(tally), limits.minimum_hour_rows
    )


def expected_click_rate(profile: ReferenceProfile, tally: Tally, limits: Limits) -> float:
    """The reference's click rate at the hours at which rows were served: what to expect before any click is known."""
    return float(mix_of(profile, tally, limits).expect(profile.tally.counts["clicks"]).shares[0])


def _measure_mean(profile: ReferenceProfile, tally: Tally, limits: Limits, levels: Levels) -> Measure | None:
    """The mean score against the reference's at the same hours; two means of scores whose variance is the reference's."""
    num_rows = int(_num_valid(tally).sum())
    if num_rows == 0:
        return None
    expected = expected_mean_score(profile, tally, limits)
    mean, usual = float(tally.score_sums.sum()) / num_rows, float(expected.shares[0])
    if usual <= 0:
        return None
    change = limits.minimum_score_change
    deviation = math.sqrt(profile.score_variance * (1 / num_rows + 1 / expected.num_rows))
    limit = usual * (1 + change if mean >= usual else 1 - change)
    effect = abs(mean / usual - 1) / change
    p_value, level = two_sided((mean - usual) / max(deviation, 1e-12)), levels.of("score_mean")
    return Measure("score_mean", "all", mean, usual, limit, effect, num_rows, p_value, level)


def _num_valid(tally: Tally) -> Counts:
    return np.asarray(tally.counts["scores"][:, _VALID].sum(axis=1))
