"""Logit -> score: a calibrator fitted on the calibrate split; stands between the ranker and the scorer.

First the exact correction of negative downsampling, then one of three maps, each monotone:

    identity  the ranker's own probability
    platt     sigmoid(slope * logit + intercept), maximum likelihood (Platt 1999; no smoothed targets, so that the mean
              score is the click rate; instead the slope has a weak normal prior around 1, which keeps it finite)
    isotonic  monotone least squares, piecewise linear between knots at observed logits, its slope bounded. With a knot at
              every logit and no bound it is isotonic regression itself. The bound is there because a jump would turn
              the last bit of a float32 logit into another score, on another machine or beside another row.

No torch here. Shape letters: R rows, K knots.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from components import metrics
from components.artifact import map_array, read_json, write_array, write_json
from components.errors import ConfigError, DataError, IntegrityError
from components.strict import Strict, parse

Floats = np.ndarray[Any, np.dtype[np.float64]]
Method = Literal["identity", "platt", "isotonic"]

METHODS: tuple[Method, ...] = ("identity", "platt", "isotonic")
"""From the simplest to the freest: of two with the same loss the simpler is taken."""

LOGIT_LIMIT = 30.0
"""Beyond it float64 can no longer tell a score from 1 by more than noise; scores stay strictly within (0, 1)."""

_MAX_SHIFTS = 100
_SMALLEST_SHIFT = 1e-15


@dataclass(frozen=True)
class CalibrateParams(Strict):
    """How logits become scores, and how the scorer that does it runs.

    method              "auto": the best by cross-fitted log loss; or one of "identity", "platt", "isotonic"
    num_folds           contiguous blocks of calibrate rows in time order; each is scored by a fit on the others
    platt_slope_sd      standard deviation of the prior of Platt's slope around 1
    isotonic_num_knots  at most so many knots, at quantiles of the logits
    isotonic_max_slope  score per logit (a sigmoid's own is at most 0.25)
    num_threads         of the ONNX runtime for one scoring session
    batch_rows          rows scored at once, which bounds the memory
    """

    method: Literal["auto", "identity", "platt", "isotonic"]
    num_folds: int
    platt_slope_sd: float
    isotonic_num_knots: int
    isotonic_max_slope: float
    num_threads: int
    batch_rows: int

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        checks = {
            "num_folds >= 2": self.num_folds >= 2,
            "platt_slope_sd > 0": self.platt_slope_sd > 0,
            "isotonic_num_knots >= 2": self.isotonic_num_knots >= 2,
            "isotonic_max_slope > 0": self.isotonic_max_slope > 0,
            "num_threads >= 1": self.num_threads >= 1,
            "batch_rows >= 1": self.batch_rows >= 1,
        }
        for words, holds in checks.items():
            if not holds:
                raise ConfigError(f"params.yaml [calibrate]: {words} must hold, got {self}")


@dataclass(frozen=True)
class CalibrationFacts(Strict):
    """What a calibrator is, besides its knots, and why it was chosen.

    negative_keep_rate  the share w of train's rows without click that the ranker saw: q = p / (p + (1 - p) / w)
    slope, intercept    Platt's; 1 and 0 for the others
    cross_fitted        log loss of each method on blocks of time that its fit had not seen (None: never fitted)
    """

    method: Method
    is_forced: bool
    negative_keep_rate: float
    slope: float
    intercept: float
    num_rows: int
    num_clicks: int
    cross_fitted: dict[Method, float] | None


@dataclass(frozen=True, eq=False)
class Calibrator:
    """The fitted map from logits to scores.

    knots, knot_scores  (K,) logits, strictly rising, and their scores; empty unless isotonic
    """

    facts: CalibrationFacts
    knots: Floats
    knot_scores: Floats

    @classmethod
    def identity(cls, negative_keep_rate: float) -> Self:
        """No map at all beyond the correction of downsampling."""
        facts = CalibrationFacts("identity", True, negative_keep_rate, 1.0, 0.0, 0, 0, None)
        return cls(facts, np.empty(0), np.empty(0))

    def apply(self, logits: np.ndarray[Any, Any]) -> Floats:
        """Turn logits (R,) into scores (R,) float64, strictly within (0, 1), never falling where logits rise."""
        logits_r = correct_downsampling(logits, self.facts.negative_keep_rate)
        if self.facts.method == "isotonic":
            return _interpolate(logits_r, self.knots, self.knot_scores)
        return sigmoid(self.facts.slope * logits_r + self.facts.intercept)

    def __eq__(self, other: object) -> bool:
        """Equal facts and equal knots."""
        return (
            isinstance(other, Calibrator)
            and self.facts == other.facts
            and np.array_equal(self.knots, other.knots)
            and np.array_equal(self.knot_scores, other.knot_scores)
        )

    def save(self, folder: Path) -> None:
        """Write the facts as JSON and the knots as one array (2, K)."""
        write_json(folder / "calibrator.json", self.facts)
        write_array(folder / "knots.npy", np.stack([self.knots, self.knot_scores]).astype(np.float64))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read back; raises IntegrityError for knots that are no monotone map into (0, 1)."""
        facts = parse(
            CalibrationFacts, read_json(folder / "calibrator.json"), str(folder / "calibrator.json"), IntegrityError
        )
        table = np.array(map_array(folder / "knots.npy"))
        is_fit = table.ndim == 2 and len(table) == 2 and table.dtype == np.float64 and bool(np.isfinite(table).all())
        if not is_fit or (facts.method == "isotonic") != (table.shape[1] > 0):
            raise IntegrityError(
                f"{folder / 'knots.npy'}: expected two rows of float64 knots that fit '{facts.method}'"
            )
        knots, knot_scores = table
        rises = bool((np.diff(knots) > 0).all() and (np.diff(knot_scores) >= 0).all())
        if not rises or not ((knot_scores > 0) & (knot_scores < 1)).all():
            raise IntegrityError(f"{folder / 'knots.npy'}: knots must rise and their scores lie within (0, 1)")
        if not 0 < facts.negative_keep_rate <= 1 or facts.slope < 0:
            raise IntegrityError(f"{folder / 'calibrator.json'}: a keep rate in (0, 1] and a slope >= 0 are expected")
        return cls(facts, knots, knot_scores)


def sigmoid(logits: np.ndarray[Any, Any]) -> Floats:
    """Turn logits into probabilities strictly within (0, 1), in float64 without overflow."""
    limited = np.clip(np.asarray(logits, dtype=np.float64), -LOGIT_LIMIT, LOGIT_LIMIT)
    probabilities: Floats = 1.0 / (1.0 + np.exp(-limited))
    return probabilities


def correct_downsampling(logits: np.ndarray[Any, Any], negative_keep_rate: float) -> Floats:
    """Undo negative downsampling exactly: q = p / (p + (1 - p) / w) is a shift of the logit by log(w)."""
    return np.asarray(logits, dtype=np.float64) + math.log(negative_keep_rate)


def fit_calibrator(
    logits: np.ndarray[Any, Any],
    clicks: np.ndarray[Any, Any],
    times: np.ndarray[Any, Any],
    negative_keep_rate: float,
    params: CalibrateParams,
) -> Calibrator:
    """Fit on rows that were never downsampled (all (R,)); raises DataError where rows or classes are too few."""
    num_rows, num_clicks = len(clicks), int(np.sum(clicks))
    if not np.isfinite(logits).all():
        raise DataError(
            f"calibrate: {int((~np.isfinite(logits)).sum()):,} of {num_rows:,} logits are not finite; train anew"
        )
    if not 0 < num_clicks < num_rows or num_rows < params.num_folds:
        raise DataError(
            f"calibrate: {num_clicks:,} clicks in {num_rows:,} rows cannot be calibrated on; both classes and at least "
            f"{params.num_folds} rows are needed: give the calibrate split more rows"
        )
    order = np.argsort(times, kind="stable")
    logits_r = correct_downsampling(np.asarray(logits)[order], negative_keep_rate)
    clicks_r = np.asarray(clicks)[order].astype(np.float64)
    losses = cross_fit(logits_r, clicks_r, params)
    method = params.method if params.method != "auto" else min(METHODS, key=lambda name: losses[name])
    slope, intercept, knots, knot_scores = _fit(method, logits_r, clicks_r, params)
    facts = CalibrationFacts(
        method, params.method != "auto", negative_keep_rate, slope, intercept, num_rows, num_clicks, losses
    )
    return Calibrator(facts, knots, knot_scores)


def cross_fit(logits_r: Floats, clicks_r: Floats, params: CalibrateParams) -> dict[Method, float]:
    """Give each method's log loss on blocks of rows (in the given order) that its fit had not seen."""
    losses: dict[Method, float] = {}
    blocks = np.array_split(np.arange(len(clicks_r)), params.num_folds)
    for method in METHODS:
        scores_r = np.empty(len(clicks_r))
        for block in blocks:
            others = np.delete(np.arange(len(clicks_r)), block)
            slope, intercept, knots, knot_scores = _fit(method, logits_r[others], clicks_r[others], params)
            facts = CalibrationFacts(method, False, 1.0, slope, intercept, 0, 0, None)
            scores_r[block] = Calibrator(facts, knots, knot_scores).apply(logits_r[block])
        losses[method] = float(metrics.log_loss(clicks_r, scores_r))
    return losses


def _fit(
    method: Method, logits_r: Floats, clicks_r: Floats, params: CalibrateParams
) -> tuple[float, float, Floats, Floats]:
    """Fit one method on already corrected logits: (slope, intercept, knots, knot scores)."""
    none = np.empty(0)
    if method == "platt":
        return *fit_platt(logits_r, clicks_r, params.platt_slope_sd), none, none
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
        return wanted + np.array([pull * (point[0] - 1.0), 0.0])

    def curvature(point: Floats) -> Floats:
        scores_r = sigmoid(design @ point)
        wanted: Floats = (design * (scores_r * (1.0 - scores_r))[:, None]).T @ design / num_rows
        return wanted + np.diag([pull, 0.0])

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
    """Fit a rising piecewise linear function by least squares: (knots, scores), clipped half a click away from 0 and 1.

    The heights are a first one plus rises, each between 0 and max_slope times its width: least squares with bounds. A shift
    of all heights is free, so the mean score is the click rate, as for isotonic regression.
    """
    from scipy.linalg import cholesky, solve_triangular
    from scipy.optimize import lsq_linear

    clipping = clipping_of(len(clicks_r))
    knots = np.unique(np.quantile(logits_r, np.linspace(0.0, 1.0, num_knots), method="nearest"))
    unique = np.unique(logits_r)
    if len(unique) <= num_knots:
        knots = unique
    if len(knots) == 1:
        return knots, np.clip(np.array([clicks_r.mean()]), clipping, 1.0 - clipping)
    widths = np.diff(knots)
    left_r = np.clip(np.searchsorted(knots, logits_r, side="right") - 1, 0, len(widths) - 1)
    share_r = (logits_r - knots[left_r]) / widths[left_r]
    # Each row's score is a mix of its two knots' heights, so the normal matrix has three diagonals.
    size = len(knots)
    gram = np.diag(np.bincount(left_r, (1 - share_r) ** 2, size) + np.bincount(left_r + 1, share_r**2, size))
    beside = np.bincount(left_r, share_r * (1 - share_r), size)[:-1]
    gram += np.diag(beside, 1) + np.diag(beside, -1)
    moment = np.bincount(left_r, (1 - share_r) * clicks_r, size) + np.bincount(left_r + 1, share_r * clicks_r, size)
    root = cholesky(gram, lower=True)
    from_rises = np.tril(np.ones((size, size)))
    lower = np.concatenate([[clipping], np.zeros(size - 1)])
    upper = np.concatenate([[1.0 - clipping], np.minimum(max_slope * widths, 1.0)])
    found = lsq_linear(
        root.T @ from_rises, solve_triangular(root, moment, lower=True), bounds=(lower, upper), method="bvls", tol=1e-14
    )
    heights = np.cumsum(np.clip(found.x, lower, upper))
    # Clipping moves the mean a little; a level shift, which changes no slope, takes that back.
    rows_of_knot = np.bincount(left_r, 1 - share_r, size) + np.bincount(left_r + 1, share_r, size)
    for _ in range(_MAX_SHIFTS):
        heights = np.clip(heights, clipping, 1.0 - clipping)
        shift = float(clicks_r.mean() - rows_of_knot @ heights / len(clicks_r))
        if abs(shift) < _SMALLEST_SHIFT:
            break
        heights = heights + shift
    return knots, np.clip(heights, clipping, 1.0 - clipping)


def _interpolate(logits_r: Floats, knots: Floats, knot_scores: Floats) -> Floats:
    """Walk linearly between knots, level outside them; never above the right knot, whatever the rounding."""
    if len(knots) == 1:
        return np.full(len(logits_r), knot_scores[0])
    inside = np.clip(logits_r, knots[0], knots[-1])
    left_r = np.clip(np.searchsorted(knots, inside, side="right") - 1, 0, len(knots) - 2)
    steepness = np.diff(knot_scores) / np.diff(knots)
    scores = knot_scores[left_r] + steepness[left_r] * (inside - knots[left_r])
    return np.minimum(scores, knot_scores[left_r + 1])
