"""How good and how honest scores are: pure numpy in float64, a million rows in well under a second.

Stands beside the encoded splits, before anything that learns. `clicks` are 0 or 1, `scores` probabilities, both (R,).
Where a figure is undefined (one class only, no rows) the answer is nan, never a made-up number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.strict import Strict

Array = np.ndarray[Any, Any]

# Scores are clipped to [SCORE_CLIP, 1 - SCORE_CLIP] for logarithms: the machine epsilon of float64, as scikit-learn has it.
SCORE_CLIP = float(np.finfo(np.float64).eps)


def auc(clicks: Array, scores: Array) -> float:
    """Area under the ROC curve: the share of (click, no click) pairs that are ranked right, ties counting one half."""
    order = np.argsort(scores)
    clicks_sorted = np.asarray(clicks)[order].astype(np.int64)
    ends = _tie_ends(np.asarray(scores)[order])
    num_rows = len(clicks_sorted)
    num_clicks = int(clicks_sorted.sum())
    if num_clicks == 0 or num_clicks == num_rows:
        return math.nan
    clicks_to_end = np.cumsum(clicks_sorted)[ends - 1]
    clicks_in_tie = np.diff(clicks_to_end, prepend=0)
    others_to_end = ends - clicks_to_end
    others_in_tie = np.diff(others_to_end, prepend=0)
    # Twice the number of pairs won, in integers: exact for any order of the rows.
    twice_won = int((clicks_in_tie * (2 * others_to_end - others_in_tie)).sum())
    return twice_won / (2 * num_clicks * (num_rows - num_clicks))


def log_loss(clicks: Array, scores: Array) -> float:
    """Mean negative log likelihood in nats; scores are clipped by SCORE_CLIP."""
    if len(clicks) == 0:
        return math.nan
    scores = np.clip(np.asarray(scores, dtype=np.float64), SCORE_CLIP, 1.0 - SCORE_CLIP)
    return float(-np.log(np.where(np.asarray(clicks) != 0, scores, 1.0 - scores)).mean())


def base_rate_entropy(clicks: Array) -> float:
    """The log loss of scoring every row with the click rate itself, in nats."""
    if len(clicks) == 0:
        return math.nan
    rate = float(np.mean(clicks, dtype=np.float64))
    return -sum(share * math.log(share) for share in (rate, 1.0 - rate) if share > 0)


def normalised_entropy(clicks: Array, scores: Array) -> float:
    """Log loss over that of the click rate alone (He et al. 2014): 1 tells nothing, 0 everything."""
    entropy = base_rate_entropy(clicks)
    return log_loss(clicks, scores) / entropy if entropy > 0 else math.nan


def calibration_ratio(clicks: Array, scores: Array) -> float:
    """Mean score over click rate: above 1 promises more clicks than come."""
    num_clicks = float(np.sum(clicks, dtype=np.float64))
    return float(np.sum(scores, dtype=np.float64)) / num_clicks if num_clicks > 0 else math.nan


@dataclass(frozen=True)
class ReliabilityBin(Strict):
    """One of the bins of equal mass: its rows, the span of their scores, and promised beside observed click rate."""

    num_rows: int
    lowest_score: float
    highest_score: float
    mean_score: float
    click_rate: float


def reliability_bins(clicks: Array, scores: Array, num_bins: int) -> tuple[ReliabilityBin, ...]:
    """Cut the rows, ordered by score, into `num_bins` bins of equally many rows (at most one row apart), lowest scores first.

    Rows with the same score share their clicks evenly, so the figures do not depend on the order of the rows even where
    a bin's edge cuts through a tie (isotonic scores have many).
    """
    if len(clicks) == 0:
        return ()
    binned = _Binned(scores, num_bins)
    click_rates = binned.click_rates(np.asarray(clicks)[binned.order])
    starts, ends = binned.edges[:-1], binned.edges[1:]
    return tuple(
        ReliabilityBin(
            num_rows=int(end - start),
            lowest_score=float(binned.scores[start]),
            highest_score=float(binned.scores[end - 1]),
            mean_score=float(mean_score),
            click_rate=float(click_rate),
        )
        for start, end, mean_score, click_rate in zip(starts, ends, binned.mean_scores, click_rates, strict=True)
    )


def expected_calibration_error(clicks: Array, scores: Array, num_bins: int) -> float:
    """Mean over rows of |mean score - click rate| of the row's bin, in `num_bins` bins of equal mass."""
    if len(clicks) == 0:
        return math.nan
    binned = _Binned(scores, num_bins)
    return binned.error(np.asarray(clicks)[binned.order])


def calibration_error_null(scores: Array, num_bins: int, num_draws: int, quantile: float, seed: int) -> float:
    """The ECE that a perfectly calibrated scorer stays under with probability `quantile`.

    Clicks are drawn `num_draws` times from the scores themselves; what is left is chance, which shrinks with the rows.
    """
    if len(scores) == 0:
        return math.nan
    binned = _Binned(scores, num_bins)
    generator = np.random.default_rng(seed)
    errors = [binned.error(generator.random(len(binned.scores)) < binned.scores) for _ in range(num_draws)]
    return float(np.quantile(errors, quantile))


class _Binned:
    """Scores sorted once and cut into bins of equal mass; clicks handed to it stand in the same sorted order."""

    def __init__(self, scores: Array, num_bins: int) -> None:
        self.order = np.argsort(scores, kind="stable")
        self.scores = np.asarray(scores, dtype=np.float64)[self.order]
        num_rows = len(self.scores)
        num_bins = min(num_bins, num_rows)
        self.edges = np.arange(num_bins + 1, dtype=np.int64) * num_rows // max(num_bins, 1)
        self.sizes = np.diff(self.edges)
        self.mean_scores = np.add.reduceat(self.scores, self.edges[:-1]) / self.sizes
        self._tie_ends = _tie_ends(self.scores)

    def click_rates(self, clicks_sorted: Array) -> Array:
        """The click rate of each bin; cumulated clicks run straight through a tie, which shares them evenly."""
        to_tie_end = np.cumsum(clicks_sorted, dtype=np.int64)[self._tie_ends - 1]
        to_edge = np.interp(self.edges, np.append(0, self._tie_ends), np.append(0, to_tie_end))
        rates: Array = np.diff(to_edge) / self.sizes
        return rates

    def error(self, clicks_sorted: Array) -> float:
        """The expected calibration error of these clicks."""
        gaps = np.abs(self.mean_scores - self.click_rates(clicks_sorted))
        return float((gaps * self.sizes).sum() / len(self.scores))


def _tie_ends(scores_sorted: Array) -> Array:
    """Give for each run of equal sorted scores the number of rows up to its end."""
    return np.append(np.flatnonzero(np.diff(scores_sorted)) + 1, len(scores_sorted))
