"""How far two logs are apart, and what chance alone does to that number; no decision is made here.

Shape letters: B bins, H hours of the day, W hours that the reference knows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from components.profiling.binning import Counts, Floats


@dataclass(frozen=True, eq=False)
class Expectation:
    """What the reference leads one to expect of served rows, at the same hours of the day.

    shares    (B,) expected share of the rows in each bin
    num_rows  as many reference rows as would give shares of this precision
    """

    shares: Floats
    num_rows: float


@dataclass(frozen=True, eq=False)
class HourMix:
    """The hours of the day at which rows were served, by which the reference is weighed (direct standardisation).

    hours     (W,) those that the reference knows well enough, and their `weights` (W,): share of the served rows over the
              hour's reference rows
    pooled    the same for all other hours together, which are expected to look like the whole reference
    num_rows  as many reference rows as would give shares of this precision: 1 / sum(weight^2 / rows)
    """

    hours: Counts
    weights: Floats
    pooled: float
    num_rows: float

    def expect(self, reference: Counts | Floats) -> Expectation:
        """The shares to be expected by counts of the reference (H, B)."""
        shares = self.weights @ reference[self.hours]
        if self.pooled > 0:
            shares = shares + self.pooled * reference.sum(axis=0)
        return Expectation(shares, self.num_rows)


def hour_mix(reference_rows: Counts, served_rows: Counts, minimum_hour_rows: int) -> HourMix:
    """Weigh the reference's hours (H,) by those of the served rows (H,).

    An hour with fewer than `minimum_hour_rows` reference rows is expected to look like all hours together.
    """
    weights = served_rows / served_rows.sum()
    has_own = (reference_rows >= minimum_hour_rows) & (served_rows > 0)
    hours = np.flatnonzero(has_own)
    own = weights[hours] / reference_rows[hours]
    variance = float(own @ weights[hours])
    pooled = float(weights[~has_own].sum())
    if pooled > 0:
        variance += pooled**2 / float(reference_rows.sum())
    return HourMix(hours, own, pooled / float(reference_rows.sum()), 1 / variance)


def expectation(
    reference: Counts | Floats, reference_rows: Counts, served_rows: Counts, minimum_hour_rows: int
) -> Expectation:
    """What the reference (H, B) leads one to expect of rows served at these hours; see `hour_mix`."""
    return hour_mix(reference_rows, served_rows, minimum_hour_rows).expect(reference)


def pool_rare_bins(served: Floats, expected: Floats, minimum_rows: int) -> tuple[Floats, Floats]:
    """Merge bins in which either log would have fewer than `minimum_rows` by the reference; the merged bin comes last.

    The choice looks at the reference alone, so the law of a distance under chance stays what it is.
    """
    expected_served = expected * (served.sum() / expected.sum())
    order = np.argsort(-expected, kind="stable")
    is_common = np.minimum(expected_served, expected)[order] >= minimum_rows
    num_kept = int(is_common.sum())
    rest = expected[order[num_kept:]].sum(), expected_served[order[num_kept:]].sum()
    if num_kept < len(order) and min(rest) < minimum_rows and num_kept > 0:
        num_kept -= 1
    kept, merged = order[:num_kept], order[num_kept:]
    if len(merged) == 0:
        return served[kept], expected[kept]
    return np.append(served[kept], served[merged].sum()), np.append(expected[kept], expected[merged].sum())


def population_stability_index(served: Floats, expected: Floats) -> float:
    """PSI of two vectors of counts (B,), each bin given half a row so that an empty one stays finite."""
    served_shares, expected_shares = _smooth(served), _smooth(expected)
    return float(((served_shares - expected_shares) * np.log(served_shares / expected_shares)).sum())


def stability_terms(served: Floats, expected: Floats) -> Floats:
    """What each bin (B,) adds to the PSI."""
    served_shares, expected_shares = _smooth(served), _smooth(expected)
    return np.asarray((served_shares - expected_shares) * np.log(served_shares / expected_shares))


def jensen_shannon_distance(served: Floats, expected: Floats) -> float:
    """Square root of the Jensen-Shannon divergence in bits of two vectors of counts (B,): from 0 to 1."""
    one, other = served / served.sum(), expected / expected.sum()
    middle = (one + other) / 2
    divergence = (special.rel_entr(one, middle).sum() + special.rel_entr(other, middle).sum()) / 2 / np.log(2)
    return float(np.sqrt(max(divergence, 0.0)))


@dataclass(frozen=True)
class StabilityNull:
    """PSI of two samples of one distribution: about chi2(B - 1) * (1/n + 1/m).

    mean      its mean, by which a measured PSI is too high
    quantile  exceeded by chance at the given level only
    scale     what the law's chi-square is multiplied by
    num_bins  of both logs
    """

    mean: float
    quantile: float
    scale: float
    num_bins: int

    def p_value(self, measured: float) -> float:
        """The chance of such a PSI, or a larger one."""
        return float(special.chdtrc(self.num_bins - 1, max(measured, 0.0) / self.scale))


def stability_null(num_bins: int, num_served: float, num_expected: float, level: float) -> StabilityNull:
    """What chance alone makes of the PSI of `num_bins` bins between logs of these sizes."""
    scale = 1 / num_served + 1 / num_expected
    quantile = float(special.chdtri(num_bins - 1, level)) * scale
    return StabilityNull((num_bins - 1) * scale, quantile, scale, num_bins)


def one_sided(root: float) -> float:
    """The chance of a standard normal above `root`."""
    return float(special.ndtr(-root))


def two_sided(root: float) -> float:
    """The chance of a standard normal as far from 0 as `root`."""
    return float(2 * special.ndtr(-abs(root)))


def rate_root(num_clicks: float, exposure: float, expected_clicks: float, expected_exposure: float) -> float:
    """Signed root of the likelihood ratio for two Poisson rates being one: above 0 where the first is higher.

    Exposures are what clicks are expected in proportion to, such as sums of scores. Holds for few clicks too.
    """
    total, whole = num_clicks + expected_clicks, exposure + expected_exposure
    if total == 0:
        return 0.0
    deviance = special.rel_entr(num_clicks, total * exposure / whole)
    deviance += special.rel_entr(expected_clicks, total * expected_exposure / whole)
    higher = num_clicks * expected_exposure - expected_clicks * exposure
    return float(np.copysign(np.sqrt(max(2 * deviance, 0.0)), higher))


def discoveries(p_values: Floats) -> Floats:
    """q-values (R,) of p-values (R,): the false-discovery rate at which each is let in (Benjamini and Hochberg 1995)."""
    order = np.argsort(p_values, kind="stable")
    scaled = p_values[order] * len(p_values) / np.arange(1, len(p_values) + 1)
    lowest = np.minimum.accumulate(scaled[::-1])[::-1]
    q_values = np.empty(len(p_values))
    q_values[order] = np.minimum(lowest, 1.0)
    return q_values


def share_root(num_hits: float, num_rows: float, expected_hits: float, expected_rows: float) -> float:
    """Signed root of the likelihood ratio for two shares being one: standard normal under chance, above 0 where the first is higher.

    Unlike the usual z it stays honest where shares are near 0 or 1 and logs of unequal size.
    """
    share = (num_hits + expected_hits) / (num_rows + expected_rows)
    root = _deviance(num_hits, num_rows, share) + _deviance(expected_hits, expected_rows, share)
    return float(np.copysign(np.sqrt(max(root, 0.0)), num_hits / num_rows - expected_hits / expected_rows))


def share_root_against(num_hits: float, num_rows: float, share: float) -> float:
    """The same against a share that is given, not counted; infinite evidence is cut off at 100."""
    if share in (0.0, 1.0):
        return float(np.sign(num_hits / num_rows - share) * 100)
    return float(np.copysign(np.sqrt(max(_deviance(num_hits, num_rows, share), 0.0)), num_hits / num_rows - share))


def auc_deviation(auc: float, num_clicks: float, num_others: float) -> float:
    """Standard deviation of an AUC (Hanley and McNeil 1982, negative exponential approximation)."""
    one, two = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (num_clicks - 1) * (one - auc**2) + (num_others - 1) * (two - auc**2)
    return float(np.sqrt(max(variance, 0.0) / (num_clicks * num_others)))


def _deviance(num_hits: float, num_rows: float, share: float) -> float:
    observed = num_hits / num_rows
    return float(2 * num_rows * (special.rel_entr(observed, share) + special.rel_entr(1 - observed, 1 - share)))


def _smooth(counts: Floats) -> Floats:
    return np.asarray((counts + 0.5) / (counts.sum() + 0.5 * len(counts)))
