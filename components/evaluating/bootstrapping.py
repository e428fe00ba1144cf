"""Figures with percentile bootstrap intervals, paired between scorers: all see the same resamples of rows or clusters.

A resample is a vector of counts, not a copy of rows: log loss and means are products with sums per cluster, and AUC
needs one sort for all resamples. Shape letters: R rows, C clusters (each row one, where nothing is clustered), N resamples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from components import metrics
from components.evaluating.evaluation import Figures, Interval
from components.evaluating.params import EvaluateParams

Array = np.ndarray[Any, Any]

METRICS = ("auc", "log_loss", "normalised_entropy", "calibration_ratio")


@dataclass(frozen=True)
class Measured:
    """Each scorer's figures, and what its metrics were in each of the N resamples (nan where a class was missing)."""

    figures: dict[str, Figures]
    resampled: dict[str, dict[str, Array]]
    confidence: float

    def difference(self, metric: str, one: str, other: str) -> Interval:
        """The paired difference one - other of a metric."""
        values = [getattr(self.figures[name], metric).value for name in (one, other)]
        return interval(
            values[0] - values[1], self.resampled[one][metric] - self.resampled[other][metric], self.confidence
        )


def measure(clicks: Array, scores: dict[str, Array], clusters: Array, params: EvaluateParams) -> Measured:
    """Measure scorers on the same rows, both classes among them: clicks, scores and cluster numbers (from 0) are all (R,)."""
    resampled = resample(clicks, scores, clusters, params.num_bootstraps, params.seed)
    figures = {name: _figures(clicks, scores_r, resampled[name], params) for name, scores_r in scores.items()}
    return Measured(figures, resampled, params.confidence)


def resample(
    clicks: Array, scores: dict[str, Array], clusters: Array, num_bootstraps: int, seed: int
) -> dict[str, dict[str, Array]]:
    """Give each scorer's metrics in each of N resamples of the clusters: scorer -> metric -> (N,), nan where undefined."""
    num_clusters = int(clusters.max()) + 1
    rankings = {name: _Ranking(clicks, scores_r, clusters) for name, scores_r in scores.items()}
    sums = [np.bincount(clusters, minlength=num_clusters), np.bincount(clusters, clicks, num_clusters)]
    for scores_r in scores.values():
        sums += [
            np.bincount(clusters, scores_r, num_clusters),
            np.bincount(clusters, _losses(clicks, scores_r), num_clusters),
        ]
    sums_cs = np.stack(sums, axis=1).astype(np.float64)
    found = {name: {metric: np.full(num_bootstraps, math.nan) for metric in METRICS} for name in scores}
    generator = np.random.default_rng(seed)
    for draw in range(num_bootstraps):
        counts_c = np.bincount(generator.integers(0, num_clusters, num_clusters), minlength=num_clusters)
        num_rows, num_clicks, *totals = (counts_c.astype(np.float64) @ sums_cs).tolist()
        if not 0 < num_clicks < num_rows:
            continue
        rate = num_clicks / num_rows
        entropy = -(rate * math.log(rate) + (1.0 - rate) * math.log1p(-rate))
        for number, (name, ranking) in enumerate(rankings.items()):
            score_sum, loss_sum = totals[2 * number : 2 * number + 2]
            figures = found[name]
            figures["auc"][draw] = ranking.auc(counts_c)
            figures["log_loss"][draw] = loss_sum / num_rows
            figures["normalised_entropy"][draw] = loss_sum / num_rows / entropy
            figures["calibration_ratio"][draw] = score_sum / num_clicks
    return found


def interval(value: float, resampled: Array, confidence: float) -> Interval:
    """The percentile interval of the resamples around a figure; no bounds where half of them were undefined."""
    defined = resampled[np.isfinite(resampled)]
    if 2 * len(defined) < len(resampled) or len(defined) == 0:
        return Interval(float(value), None, None)
    low, high = np.quantile(defined, [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    return Interval(float(value), float(low), float(high))


class _Ranking:
    """Rows without click sorted by score once; for each click, how many of them stand below it and up to its ties' end."""

    def __init__(self, clicks: Array, scores: Array, clusters: Array) -> None:
        is_click = np.asarray(clicks) != 0
        others = np.flatnonzero(~is_click)
        others = others[np.argsort(scores[others], kind="stable")]
        clicked = np.flatnonzero(is_click)
        self._clusters_of_others = clusters[others]
        self._clusters_of_clicks = clusters[clicked]
        self._below = np.searchsorted(scores[others], scores[clicked], side="left")
        self._up_to_ties = np.searchsorted(scores[others], scores[clicked], side="right")

    def auc(self, counts_c: Array) -> float:
        """The AUC where each row counts as often as its cluster; both classes must be left."""
        won = np.zeros(len(self._clusters_of_others) + 1, dtype=np.int64)
        np.cumsum(counts_c[self._clusters_of_others], out=won[1:])
        weights = counts_c[self._clusters_of_clicks]
        twice_won = int(weights @ (won[self._below] + won[self._up_to_ties]))
        return twice_won / (2 * int(weights.sum()) * int(won[-1]))


def _losses(clicks: Array, scores: Array) -> Array:
    scores = np.clip(scores, metrics.SCORE_CLIP, 1.0 - metrics.SCORE_CLIP)
    losses: Array = -np.log(np.where(np.asarray(clicks) != 0, scores, 1.0 - scores))
    return losses


def _figures(clicks: Array, scores: Array, resampled: dict[str, Array], params: EvaluateParams) -> Figures:
    values = {metric: getattr(metrics, metric)(clicks, scores) for metric in METRICS}
    intervals = {metric: interval(values[metric], resampled[metric], params.confidence) for metric in METRICS}
    return Figures(
        num_rows=len(clicks),
        num_clicks=int(np.sum(clicks, dtype=np.int64)),
        click_rate=float(np.mean(clicks, dtype=np.float64)),
        mean_score=float(np.mean(scores)),
        auc=intervals["auc"],
        log_loss=intervals["log_loss"],
        normalised_entropy=intervals["normalised_entropy"],
        calibration_ratio=intervals["calibration_ratio"],
        calibration_error=metrics.expected_calibration_error(clicks, scores, params.num_bins),
        calibration_error_null=metrics.calibration_error_null(
            scores, params.num_bins, params.num_null_draws, params.confidence, params.seed
        ),
    )
