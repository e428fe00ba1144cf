"""The fits of the maps from logit to score.

    platt     maximum likelihood (Platt 1999; without his smoothed targets, so that the mean score is the click rate:
              instead the slope has a weak normal prior around 1, which keeps it finite where the classes separate)
    spline    Platt's line with bends: maximum likelihood too, a piece each between quantiles of the logits, none falling, and a
              normal prior of each change of slope around 0 (after Lucena 2018, arXiv 1809.07751, whose splines are cubic)
    isotonic  monotone least squares, piecewise linear between knots at observed logits, its slope bounded. With a knot at
              every logit and no bound it is isotonic regression itself. The bound is there because a jump would turn
              the last bit of a float32 logit into another score, on another machine or beside another row.

Shape letters: R rows, K knots.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from components.calibrating.calibrator import Floats, sigmoid
from components.calibrating.params import CalibrateParams, Method

_MAX_SHIFTS = 100
_SMALLEST_SHIFT = 1e-15
_MAX_GROUPS = 20_000
_FARTHEST_SHIFT = 60.0  # of a logit: from one end of what float64 can tell apart to the other


def fit_map(
    method: Method, logits_r: Floats, clicks_r: Floats, params: CalibrateParams
) -> tuple[float, float, Floats, Floats]:
    """Fit one method on already corrected logits and clicks (R,): (slope, intercept, knots, heights)."""
    none = np.empty(0)
    if method == "platt":
        return *fit_platt(logits_r, clicks_r, params.platt_slope_sd), none, none
    if method == "spline":
        pieces, bend_sd = params.spline_num_pieces, params.spline_bend_sd
        return 1.0, 0.0, *fit_spline(logits_r, clicks_r, pieces, bend_sd, params.platt_slope_sd)
    if method == "isotonic":
        return 1.0, 0.0, *fit_isotonic(logits_r, clicks_r, params.isotonic_num_knots, params.isotonic_max_slope)
    return 1.0, 0.0, none, none


def clipping_of(num_rows: int) -> float:
    """How near a score fitted on so many rows may come to 0 or 1: half a click."""
    return 1.0 / (2.0 * num_rows)


def fit_platt(logits_r: Floats, clicks_r: Floats, slope_sd: float) -> tuple[float, float]:
    """Fit (slope, intercept) by maximum likelihood; the slope is never negative, and 0 where only one class is there."""
    from scipy.optimize import minimize

    num_rows = len(clicks_r)
    clipping = clipping_of(num_rows)
    rate = float(np.clip(clicks_r.mean(), clipping, 1.0 - clipping))
    flat = (0.0, math.log(rate / (1.0 - rate)))
    if clicks_r.min() == clicks_r.max():
        return flat
    design = np.stack([logits_r, np.ones(num_rows)], axis=1)
    pull = 1.0 / (slope_sd**2 * num_rows)

    def loss(point: Floats) -> float:
        line_r = design @ point
        return float(np.mean(np.logaddexp(0.0, line_r) - clicks_r * line_r) + 0.5 * pull * (point[0] - 1.0) ** 2)

    def gradient(point: Floats) -> Floats:
        wanted: Floats = design.T @ (sigmoid(design @ point) - clicks_r) / num_rows
        wanted[0] += pull * (point[0] - 1.0)
        return wanted

    def curvature(point: Floats) -> Floats:
        scores_r = sigmoid(design @ point)
        wanted: Floats = (design * (scores_r * (1.0 - scores_r))[:, None]).T @ design / num_rows
        wanted[0, 0] += pull
        return wanted

    found = minimize(
        loss,
        np.array([1.0, 0.0]),
        jac=gradient,
        hess=curvature,
        method="trust-exact",
        options={"gtol": 1e-10, "maxiter": 500},
    )
    slope, intercept = (float(value) for value in found.x)
    # The loss is convex: where its minimum has a falling line, the best line that does not fall is flat.
    return (slope, intercept) if slope > 0 else flat


def fit_isotonic(logits_r: Floats, clicks_r: Floats, num_knots: int, max_slope: float) -> tuple[Floats, Floats]:
    """Fit a rising piecewise linear function by least squares: (knots, scores), kept half a click away from 0 and 1.

    The heights are a first one plus rises, each between 0 and max_slope times its width: least squares with bounds. A shift of
    all heights is free, so the mean score is the click rate, as for isotonic regression. Where it would say 0, it says half a
    click among the rows there, but no more than the next height: that nobody clicked on 400 rows is no proof of a rate of one in 30,000.
    Where it would say 1, likewise.
    """
    from scipy.linalg import cholesky, solve_triangular
    from scipy.optimize import lsq_linear

    clipping = clipping_of(len(clicks_r))
    knots = _quantiles(logits_r, num_knots)
    if len(knots) == 1:
        return knots, np.clip(np.array([clicks_r.mean()]), clipping, 1.0 - clipping)
    places, size = _Places.of(logits_r, knots), len(knots)
    left_r, share_r = places.left_r, places.share_r
    # Each row's score is a mix of its two knots' heights, so the normal matrix has three diagonals.
    gram = np.diag(np.bincount(left_r, (1 - share_r) ** 2, size) + np.bincount(left_r + 1, share_r**2, size))
    beside = np.bincount(left_r, share_r * (1 - share_r), size)[:-1]
    gram += np.diag(beside, 1) + np.diag(beside, -1)
    moment = places.sums(clicks_r)
    root = cholesky(gram, lower=True)
    from_rises = np.tril(np.ones((size, size)))
    lower = np.concatenate([[clipping], np.zeros(size - 1)])
    upper = np.concatenate([[1.0 - clipping], np.minimum(max_slope * np.diff(knots), 1.0)])
    found = lsq_linear(
        root.T @ from_rises, solve_triangular(root, moment, lower=True), bounds=(lower, upper), method="bvls", tol=1e-14
    )
    heights = np.cumsum(np.clip(found.x, lower, upper))
    # Raising the lowest moves the mean a little; a level shift, which changes no slope, takes that back.
    rows_of_knot = places.sums(np.ones(len(clicks_r)))
    num_first, num_last = _count_at_most(heights, clipping), _count_at_most(1.0 - heights[::-1], clipping)
    for _ in range(_MAX_SHIFTS):
        heights = np.clip(heights, clipping, 1.0 - clipping)
        if 0 < num_first < size:
            heights[:num_first] = min(0.5 / rows_of_knot[:num_first].sum(), heights[num_first])
        if 0 < num_last < size:
            heights[-num_last:] = max(1.0 - 0.5 / rows_of_knot[-num_last:].sum(), heights[-num_last - 1])
        shift = float(clicks_r.mean() - rows_of_knot @ heights / len(clicks_r))
        if abs(shift) < _SMALLEST_SHIFT:
            break
        heights = heights + shift
    return knots, np.clip(heights, clipping, 1.0 - clipping)


def _count_at_most(heights: Floats, height: float) -> int:
    """How many of heights that do not fall stand there but for rounding."""
    return int(np.sum(heights <= height * (1.0 + 1e-9)))


def fit_spline(
    logits_r: Floats, clicks_r: Floats, num_pieces: int, bend_sd: float, slope_sd: float
) -> tuple[Floats, Floats]:
    """Fit a rising piecewise linear function of the logit by maximum likelihood: (knots, the logits they become).

    The pieces' slopes have a normal prior: their mean around 1, as Platt's slope, each change around 0. The level is free,
    so the mean score is the click rate. Many rows stand in groups of neighbours, each by its mean logit.
    """
    from scipy.optimize import brentq, minimize

    num_rows, clipping = len(clicks_r), clipping_of(len(clicks_r))
    knots = _quantiles(logits_r, num_pieces + 1)
    rate = float(np.clip(clicks_r.mean(), clipping, 1.0 - clipping))
    if len(knots) == 1 or clicks_r.min() == clicks_r.max():
        return knots[:1], np.array([math.log(rate / (1.0 - rate))])
    widths, middle = np.diff(knots), len(knots) // 2
    order = np.argsort(logits_r, kind="stable")
    starts = np.linspace(0, num_rows, min(num_rows, _MAX_GROUPS), endpoint=False).astype(np.int64)
    sizes_g = np.diff(starts, append=num_rows)
    places = _Places.of(np.add.reduceat(logits_r[order], starts) / sizes_g, knots)
    clicks_g = np.add.reduceat(clicks_r[order], starts)

    # Heights at the knots from the level at the middle one and the slopes.
    lift = np.concatenate([np.ones((len(knots), 1)), np.tri(len(knots), len(widths), -1) * widths], axis=1)
    lift[:, 1:] -= lift[middle, 1:]

    def loss(point: Floats) -> tuple[float, Floats]:
        line_g = places.mix(lift @ point)
        bends, off = np.diff(point[1:]) / bend_sd, (point[1:].mean() - 1.0) / slope_sd
        total = sizes_g @ np.logaddexp(0.0, line_g) - clicks_g @ line_g + 0.5 * (bends @ bends + off**2)
        gradient = lift.T @ places.sums(sizes_g * sigmoid(line_g) - clicks_g)
        gradient[1:] += off / slope_sd / len(widths) - np.diff(bends, prepend=0.0, append=0.0) / bend_sd
        return float(total) / num_rows, gradient / num_rows

    found = minimize(
        loss,
        np.concatenate([[knots[middle]], np.ones(len(widths))]),  # the ranker's own probability
        jac=True,
        method="L-BFGS-B",
        bounds=[(None, None)] + [(0.0, None)] * len(widths),
        options={"maxiter": 1_000, "maxcor": 30, "ftol": 1e-15, "gtol": 1e-9},
    )
    heights = np.maximum.accumulate(lift @ found.x)  # a level piece may fall by a rounding
    line_r = _Places.of(logits_r, knots).mix(heights)
    shift = brentq(lambda by: float(sigmoid(line_r + by).mean()) - rate, -_FARTHEST_SHIFT, _FARTHEST_SHIFT, xtol=1e-14)
    return knots, heights + shift


@dataclass(frozen=True)
class _Places:
    """Where R logits lie between K knots: the knot to the left, and how far on the way to the next, 0 to 1. (R,) each."""

    left_r: np.ndarray[Any, np.dtype[np.int64]]
    share_r: Floats
    num_knots: int

    @classmethod
    def of(cls, logits_r: Floats, knots: Floats) -> Self:
        left_r = np.clip(np.searchsorted(knots, logits_r, side="right") - 1, 0, len(knots) - 2)
        return cls(left_r, (logits_r - knots[left_r]) / np.diff(knots)[left_r], len(knots))

    def mix(self, heights: Floats) -> Floats:
        """What the knots' heights (K,) make of each logit. (R,)"""
        mixed: Floats = (1 - self.share_r) * heights[self.left_r] + self.share_r * heights[self.left_r + 1]
        return mixed

    def sums(self, values_r: Floats) -> Floats:
        """Sum values up at the knots, each shared out between its two. (K,)"""
        to_left = np.bincount(self.left_r, (1 - self.share_r) * values_r, self.num_knots)
        to_right = np.bincount(self.left_r + 1, self.share_r * values_r, self.num_knots)
        return np.asarray(to_left + to_right, dtype=np.float64)


def _quantiles(logits_r: Floats, num_knots: int) -> Floats:
    """At most so many logits, rising, as many rows between each two; all where there are no more."""
    unique = np.unique(logits_r)
    if len(unique) <= num_knots:
        return unique
    return np.unique(np.quantile(logits_r, np.linspace(0.0, 1.0, num_knots), method="nearest"))
