"""Each check as a pure function of counts: what is measured, what is expected, how large and how sure the difference is.

Shape letters: R rows, B bins, H hours of the day.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from components import metrics
from components.profiling import FieldBins, ReferenceProfile, Tally
from components.profiling.binning import INVALID_SCORE_BIN, MISSING_BIN, Counts, Floats
from components.strict import Strict
from components.watching.catalog import CHECKS
from components.watching.distances import (
    Expectation,
    auc_deviation,
    expectation,
    jensen_shannon_distance,
    normal_quantile,
    pool_rare_bins,
    population_stability_index,
    share_root,
    share_root_against,
    stability_null,
    stability_terms,
)
from components.watching.drift import Measure

_DAYS_PER_QUARTER = 91
_DAYS_PER_WEEK = 7


@dataclass(frozen=True)
class Limits(Strict):
    """What is too much.

    false_pages_per_quarter, false_tickets_per_week  what chance alone may cost the pager, over all checks and windows
    windows_per_day       how many windows are watched a day
    minimum_bin_rows      rows that a bin must be expected to have in either log, else it is merged with other rare ones
    minimum_hour_rows     reference rows an hour of the day needs to be compared with itself
    minimum_psi           smallest PSI beyond chance that matters
    minimum_share_change  smallest change of a share of rows that matters (0.02: two rows in a hundred)
    minimum_ratio_change  smallest relative change of clicks per expected click that matters
    minimum_auc_drop      smallest loss of AUC that matters
    max_duplicate_share   share of rows that may repeat an impression
    max_stale_share       share of rows that may carry another bundle's digest (a rollout takes its time)
    skew_tolerance        largest distance between a served score and the champion's own
    """

    false_pages_per_quarter: float
    false_tickets_per_week: float
    windows_per_day: float
    minimum_bin_rows: int
    minimum_hour_rows: int
    minimum_psi: float
    minimum_share_change: float
    minimum_ratio_change: float
    minimum_auc_drop: float
    max_duplicate_share: float
    max_stale_share: float
    skew_tolerance: float

    def level(self, check: str, num_fields: int) -> float:
        """The chance that one check of one window may be wrong, so that all of them keep to the pager's budget."""
        if CHECKS[check].severity == "page":
            num_windows = self.windows_per_day * _DAYS_PER_QUARTER
            num_checks = 2 * num_fields + 2  # field_empty and field_promise; calibration and auc
            return self.false_pages_per_quarter / num_windows / num_checks
        num_windows = self.windows_per_day * _DAYS_PER_WEEK
        num_checks = 3 * num_fields + 1  # field_missing, field_unseen and field_drift; score_drift
        return self.false_tickets_per_week / num_windows / num_checks


def measure_counts(
    profile: ReferenceProfile, tally: Tally, fields: tuple[FieldBins, ...], limits: Limits
) -> tuple[Measure, ...]:
    """All checks that counts are enough for: those of `fields` and of the scores' distribution."""
    measures = [measure for field in fields for measure in _measure_field(profile, tally, field, limits)]
    invalid = int(tally.counts["scores"][:, INVALID_SCORE_BIN].sum())
    measures.append(Measure("score_invalid", "all", invalid, None, 0.0, float(invalid), None, None, tally.num_rows))
    valid = slice(INVALID_SCORE_BIN + 1, None)
    measures += _measure_stability("score_drift", "all", profile, tally, "scores", valid, limits)
    return tuple(measures)


def movers(profile: ReferenceProfile, tally: Tally, field: FieldBins, limits: Limits, num_movers: int) -> str:
    """The bins that add most to a field's PSI, in words."""
    name = f"field:{field.name}"
    expected = _expect(profile, tally, name, limits)
    served = tally.counts[name].sum(axis=0).astype(np.float64)
    present = np.arange(len(served)) != MISSING_BIN
    served_shares = served * present / max(served[present].sum(), 1)
    expected_shares = expected.shares * present / max(expected.shares[present].sum(), 1e-300)
    terms = stability_terms(served * present, expected.shares * expected.num_rows * present)
    largest = np.argsort(-terms, kind="stable")[:num_movers]
    return ", ".join(
        f"{field.label(int(number))!r} {expected_shares[number]:.2%} -> {served_shares[number]:.2%}"
        for number in largest
    )


def measure_calibration(profile: ReferenceProfile, clicks: Counts, scores: Floats, limits: Limits) -> Measure | None:
    """Clicks per expected click of rows whose click is known; None where the reference gives no expectation.

    The clicks of calibrated scores are independent draws: their sum has variance sum(s * (1 - s)).
    """
    ratio = profile.metrics["calibration_ratio"]
    expected_clicks = float(scores.sum()) / ratio if ratio else 0.0
    if ratio is None or expected_clicks <= 0:
        return None
    measured = float(clicks.sum()) / expected_clicks
    own_variance = float((scores * (1 - scores)).sum()) / ratio**2
    reference_variance = expected_clicks**2 / float(profile.tally.counts["clicks"].sum())
    root = abs(float(clicks.sum()) - expected_clicks) / float(np.sqrt(own_variance + reference_variance))
    quantile = normal_quantile(limits.level("calibration", len(profile.binning.fields)) / 2)
    change = limits.minimum_ratio_change
    limit = 1 + change if measured >= 1 else 1 - change
    effect = abs(measured - 1) / change
    return Measure("calibration", "all", measured, 1.0, limit, effect, root / quantile, None, len(clicks))


def measure_auc(profile: ReferenceProfile, clicks: Counts, scores: Floats, limits: Limits) -> Measure | None:
    """AUC of rows whose click is known against the reference's; None where either lacks a class."""
    reference = profile.metrics["auc"]
    num_clicks = int(clicks.sum())
    if reference is None or not 0 < num_clicks < len(clicks):
        return None
    measured = metrics.auc(clicks, scores)
    reference_clicks = float(profile.tally.counts["clicks"].sum())
    deviation = np.hypot(
        auc_deviation(measured, num_clicks, len(clicks) - num_clicks),
        auc_deviation(reference, reference_clicks, profile.num_rows - reference_clicks),
    )
    quantile = normal_quantile(limits.level("auc", len(profile.binning.fields)))
    significance = float((reference - measured) / max(deviation, 1e-12) / quantile)
    drop = limits.minimum_auc_drop
    effect = (reference - measured) / drop
    return Measure("auc", "all", measured, reference, reference - drop, effect, significance, None, len(clicks))


def measure_share(check: str, num_hits: int, num_rows: int, maximum: float) -> Measure:
    """A share of rows against a maximum that is agreed, where no chance is involved."""
    share = num_hits / num_rows
    return Measure(check, "all", share, None, maximum, share / maximum, None, None, num_rows)


def measure_skew(served: Floats, offline: Floats, limits: Limits) -> Measure:
    """The largest distance between served scores and the champion's own of the same rows."""
    distance = float(np.abs(served - offline).max())
    tolerance = limits.skew_tolerance
    return Measure("score_skew", "all", distance, None, tolerance, distance / tolerance, None, None, len(served))


def _measure_field(profile: ReferenceProfile, tally: Tally, field: FieldBins, limits: Limits) -> tuple[Measure, ...]:
    name = f"field:{field.name}"
    num_rows = tally.num_rows
    num_fields = len(profile.binning.fields)
    expected = _expect(profile, tally, name, limits)
    num_missing = int(tally.counts[name][:, MISSING_BIN].sum())
    missing, expected_missing = num_missing / num_rows, float(expected.shares[MISSING_BIN])
    change = limits.minimum_share_change
    measures = []

    is_empty = num_missing == num_rows
    surprise = -num_rows * np.log(np.clip(expected_missing, 1e-300, 1.0)) if is_empty else 0.0
    significance = float(surprise / -np.log(limits.level("field_empty", num_fields)))
    effect = (1 - expected_missing) / change if is_empty else 0.0
    measures.append(
        Measure("field_empty", field.name, missing, expected_missing, 1.0, effect, significance, None, num_rows)
    )

    promise = field.max_missing_share
    root = share_root_against(num_missing, num_rows, promise)
    significance = root / normal_quantile(limits.level("field_promise", num_fields))
    effect = (missing - promise) / change
    measures.append(
        Measure("field_promise", field.name, missing, None, promise + change, effect, significance, None, num_rows)
    )

    outside = int(tally.counts[f"out_of_range:{field.name}"].sum())
    share = outside / num_rows
    measures.append(Measure("field_range", field.name, share, None, change, share / change, None, None, num_rows))

    level = limits.level("field_missing", num_fields)
    change_of_missing = _measure_share_change(
        "field_missing", field.name, num_missing, num_rows, expected, level / 2, limits
    )
    measures.append(change_of_missing)
    unseen = _expect(profile, tally, f"unseen:{field.name}", limits)
    num_unseen = int(tally.counts[f"unseen:{field.name}"].sum())
    level = limits.level("field_unseen", num_fields)
    change_of_unseen = _measure_share_change("field_unseen", field.name, num_unseen, num_rows, unseen, level, limits)
    fewer = replace(change_of_unseen, effect=-change_of_unseen.effect)  # which no one needs to be told
    measures.append(change_of_unseen if change_of_unseen.measured > float(unseen.shares[0]) else fewer)
    present = slice(MISSING_BIN + 1, None)
    measures += _measure_stability("field_drift", field.name, profile, tally, name, present, limits)
    return tuple(measures)


def _measure_share_change(
    check: str, slice_name: str, num_hits: int, num_rows: int, expected: Expectation, level: float, limits: Limits
) -> Measure:
    """A share of rows against that of the reference's bin 0, in either direction; `level` is that of one side."""
    share, expected_share = num_hits / num_rows, float(expected.shares[0])
    root = share_root(num_hits, num_rows, expected_share * expected.num_rows, expected.num_rows)
    change = limits.minimum_share_change
    limit = expected_share + change if share >= expected_share else expected_share - change
    effect = abs(share - expected_share) / change
    significance = abs(root) / normal_quantile(level)
    return Measure(check, slice_name, share, expected_share, limit, effect, significance, None, num_rows)


def _measure_stability(
    check: str,
    slice_name: str,
    profile: ReferenceProfile,
    tally: Tally,
    name: str,
    bins: slice,
    limits: Limits,
) -> tuple[Measure, ...]:
    """PSI and Jensen-Shannon distance over `bins`; nothing where too few rows leave only one bin."""
    expected = _expect(profile, tally, name, limits)
    served = tally.counts[name].sum(axis=0)[bins].astype(np.float64)
    reference = expected.shares[bins] * expected.num_rows
    if served.sum() == 0 or reference.sum() == 0:
        return ()
    served, reference = pool_rare_bins(served, reference, limits.minimum_bin_rows)
    if len(served) < 2:
        return ()
    num_fields = len(profile.binning.fields)
    num_served, num_expected = float(served.sum()), float(reference.sum())
    null = stability_null(len(served), num_served, num_expected, limits.level(check, num_fields))
    measured = population_stability_index(served, reference)
    limit = max(null.quantile, null.mean + limits.minimum_psi)
    effect = (measured - null.mean) / limits.minimum_psi
    distance = jensen_shannon_distance(served, reference)
    significance = measured / null.quantile
    return (Measure(check, slice_name, measured, None, limit, effect, significance, distance, int(num_served)),)


def _expect(profile: ReferenceProfile, tally: Tally, name: str, limits: Limits) -> Expectation:
    return expectation(
        profile.tally.counts[name], profile.tally.rows_by_hour, tally.rows_by_hour, limits.minimum_hour_rows
    )
