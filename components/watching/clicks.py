"""The checks of quality as pure functions of sums: clicks per expected click, AUC, and clicks given score.

All are held against the champion's test evaluation; the reference's own uncertainty counts as much as that of the rows.
Shape letters: C bins of scores.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from components.watching.distances import auc_deviation, one_sided, rate_root, two_sided
from components.watching.drift import Measure
from components.watching.limits import Levels, Limits
from components.watching.quality import QualityTally
from components.watching.reference import QualityReference


def measure_quality(
    reference: QualityReference, tally: QualityTally, limits: Limits, levels: Levels
) -> tuple[Measure, ...]:
    """Calibration and AUC of all rows and of every slice that has clicks enough, and clicks given score."""
    overall = measure_calibration(reference, tally, 0, limits, levels)
    measures = [
        overall,
        measure_auc(reference, tally, 0, limits, levels),
        measure_concept(reference, tally, limits, levels),
    ]
    is_shifted = overall is not None and overall.is_finding
    for group in range(1, len(reference.groups)):
        known = reference.groups[group]
        ratio = known.calibration_ratio
        if ratio is None or min(known.num_clicks, tally.score_sum(group) / ratio) < limits.minimum_slice_clicks:
            continue
        measure = measure_calibration(reference, tally, group, limits, levels)
        if not is_shifted or overall is None or measure is None or _is_worse(overall, measure, tally, group, levels):
            measures.append(measure)
        measures.append(measure_auc(reference, tally, group, limits, levels))
    return tuple(measure for measure in measures if measure is not None)


def measure_calibration(
    reference: QualityReference, tally: QualityTally, group: int, limits: Limits, levels: Levels
) -> Measure | None:
    """Clicks per expected click of rows whose click is final; None where the reference gives no expectation.

    Two Poisson rates whose exposures are the sums of scores; clicks are less dispersed than that by 1 - score.
    """
    known, exposure = reference.groups[group], tally.score_sum(group)
    if not known.num_clicks or exposure <= 0:
        return None
    num_clicks = tally.num_clicks(group)
    root = rate_root(num_clicks, exposure, known.num_clicks, known.score_sum)
    root /= math.sqrt(tally.dispersion(group) * reference.inflation)
    measured = num_clicks / exposure * known.score_sum / known.num_clicks
    change = limits.minimum_ratio_change if group == 0 else limits.minimum_slice_ratio_change
    limit = 1 + change if measured >= 1 else 1 - change
    effect = abs(measured - 1) / change
    level = levels.of("calibration")
    return Measure(
        "calibration", known.name, measured, 1.0, limit, effect, tally.num_rows(group), two_sided(root), level
    )


def measure_auc(
    reference: QualityReference, tally: QualityTally, group: int, limits: Limits, levels: Levels
) -> Measure | None:
    """AUC of rows whose click is final against the reference's; None where either lacks a class."""
    known, measured = reference.groups[group], tally.auc(group)
    if known.auc is None or measured is None:
        return None
    num_clicks = tally.num_clicks(group)
    deviation = math.sqrt(reference.inflation) * math.hypot(
        auc_deviation(measured, num_clicks, tally.num_rows(group) - num_clicks),
        auc_deviation(known.auc, known.num_clicks, known.num_rows - known.num_clicks),
    )
    drop = limits.minimum_auc_drop if group == 0 else limits.minimum_slice_auc_drop
    p_value = one_sided((known.auc - measured) / max(deviation, 1e-12))
    effect = (known.auc - measured) / drop
    num_rows, level = tally.num_rows(group), levels.of("auc")
    return Measure("auc", known.name, measured, known.auc, known.auc - drop, effect, num_rows, p_value, level)


def measure_concept(reference: QualityReference, tally: QualityTally, limits: Limits, levels: Levels) -> Measure | None:
    """How much clicks given the score have changed from bin to bin, a change common to all bins taken out.

    A bin's expected clicks are its scores times the reference's clicks per score there, so that other rows alone change
    nothing. `measured` is the root mean square relative change, by expected clicks, beyond what chance adds. Bins are
    merged, lowest scores first, until each expects clicks enough. None with fewer than two of them.
    """
    bins = _merged_bins(reference, tally, limits.minimum_bin_rows)
    if len(bins) < 2:
        return None
    clicks, scores, variances, known_clicks, known_scores = bins.T
    expected = scores * known_clicks / known_scores
    common = clicks.sum() / expected.sum()
    if common <= 0:
        return None
    dispersion = variances.sum() / scores.sum() * reference.inflation
    roots = np.array(
        [
            rate_root(one, exposure * common, other, other_exposure)
            for one, exposure, other, other_exposure in zip(clicks, scores, known_clicks, known_scores, strict=True)
        ]
    )
    statistic = float((roots**2).sum() / dispersion)
    expected = expected * common
    chance = dispersion * (expected + expected**2 / known_clicks)
    excess = float((((clicks - expected) ** 2 - chance) / expected).sum() / expected.sum())
    measured = math.sqrt(max(excess, 0.0))
    p_value = float(special.chdtrc(len(bins) - 1, statistic))
    change = limits.minimum_concept_change
    effect, level = measured / change, levels.of("concept")
    return Measure("concept", "all", measured, 0.0, change, effect, tally.num_rows(0), p_value, level)


def changes_by_score(reference: QualityReference, tally: QualityTally, num_bins: int) -> str:
    """The bins of scores whose clicks changed most, in words."""
    rows, clicks, scores, _ = tally.by_bin[0].T
    known = np.array([(one.num_rows * one.click_rate, one.num_rows * one.mean_score) for one in reference.bins])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.nan_to_num(clicks / scores * known[:, 1] / known[:, 0], nan=1.0, posinf=1.0)
        weights = np.abs(ratios - 1) * np.sqrt(scores)
    largest = [int(number) for number in np.argsort(-weights, kind="stable")[:num_bins] if rows[number]]
    return ", ".join(
        f"scores up to {reference.bins[number].highest_score:.3f}: {ratios[number]:.2f} times the clicks"
        for number in largest
    )


def _merged_bins(
    reference: QualityReference, tally: QualityTally, minimum_clicks: int
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Clicks, scores and variances here, clicks and scores of the reference, of bins merged in the order of scores."""
    merged: list[np.ndarray[tuple[int], np.dtype[np.float64]]] = []
    open_bin = np.zeros(5)
    for one, (_, clicks, scores, variances) in zip(reference.bins, tally.by_bin[0], strict=True):
        known = one.num_rows * one.click_rate, one.num_rows * one.mean_score
        open_bin = open_bin + np.array([clicks, scores, variances, *known])
        if min(open_bin[3], open_bin[1]) >= minimum_clicks:
            merged.append(open_bin)
            open_bin = np.zeros(5)
    if merged:
        merged[-1] = merged[-1] + open_bin
    return np.array(merged).reshape(-1, 5)


def _is_worse(overall: Measure, measure: Measure, tally: QualityTally, group: int, levels: Levels) -> bool:
    """Where all rows have moved, a slice is named only if it moved further than they did, the same way."""
    if (measure.measured - overall.measured) * (overall.measured - 1) <= 0:
        return False
    num_clicks = tally.num_clicks(group)
    expected = num_clicks / measure.measured
    root = rate_root(num_clicks, expected * overall.measured, tally.num_clicks(0), tally.num_clicks(0))
    return two_sided(root / math.sqrt(tally.dispersion(group))) <= levels.of("calibration")
