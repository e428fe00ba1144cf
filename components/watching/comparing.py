"""One count of served rows against the same count of the reference, at the same hours of the day.

Shape letters: B bins, H hours of the day.
"""

from __future__ import annotations

from components.profiling import ReferenceProfile, Tally
from components.profiling.binning import Floats
from components.watching.distances import (
    Expectation,
    HourMix,
    hour_mix,
    jensen_shannon_distance,
    pool_rare_bins,
    population_stability_index,
    share_root,
    stability_null,
    two_sided,
)
from components.watching.drift import Measure
from components.watching.limits import Levels, Limits


def mix_of(profile: ReferenceProfile, tally: Tally, limits: Limits) -> HourMix:
    """The hours at which rows were served."""
    return hour_mix(profile.tally.rows_by_hour, tally.rows_by_hour, limits.minimum_hour_rows)


def measure_stability(
    check: str,
    slice_name: str,
    served: Floats,
    expected: Expectation,
    bins: slice,
    limits: Limits,
    levels: Levels,
) -> tuple[Measure, ...]:
    """PSI and Jensen-Shannon distance over `bins` of counts (B,); nothing where too few rows leave only one bin."""
    served = served[bins]
    reference: Floats = expected.shares[bins] * expected.num_rows
    if served.sum() == 0 or reference.sum() == 0:
        return ()
    served, reference = pool_rare_bins(served, reference, limits.minimum_bin_rows)
    if len(served) < 2:
        return ()
    level = levels.of(check)
    null = stability_null(len(served), float(served.sum()), float(reference.sum()), level)
    measured = population_stability_index(served, reference)
    limit = max(null.quantile, null.mean + limits.minimum_psi)
    effect = (measured - null.mean) / limits.minimum_psi
    distance = jensen_shannon_distance(served, reference)
    p_value, num_rows = null.p_value(measured), int(served.sum())
    return (Measure(check, slice_name, measured, None, limit, effect, num_rows, p_value, level, None, distance),)


def measure_usual_share(
    check: str,
    slice_name: str,
    num_hits: int,
    num_rows: int,
    expected: Expectation,
    place: int,
    change: float,
    level: float,
) -> Measure:
    """A share of rows that may leave the reference's share in bin `place` by `change`, either way."""
    usual, share = float(expected.shares[place]), num_hits / num_rows
    root = share_root(num_hits, num_rows, usual * expected.num_rows, expected.num_rows)
    limit = usual + change if share >= usual else usual - change
    effect = abs(share - usual) / change
    return Measure(check, slice_name, share, usual, limit, effect, num_rows, two_sided(root), level)
