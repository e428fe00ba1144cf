"""How a calibrator is chosen: the simplest map that no freer one surely beats on blocks of time that its fit had not seen.

The ranker's own probability or Platt's line, whichever has the lower log loss; from there to the spline, and on to isotonic
regression, only for a gain of more than so many standard errors of the paired difference over rows (Breiman et al. 1984, section
3.4.3). Where clicks are few a freer map often wins by chance, and then costs more than it had gained (docs/leaderboard.md).

Shape letters: R rows.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from components.calibrating.calibrator import CalibrationFacts, Calibrator, Floats, correct_downsampling
from components.calibrating.fitting import fit_map
from components.calibrating.params import METHODS, CalibrateParams, Method
from components.errors import DataError


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
    if params.method == "auto":
        method, reason = choose(losses, params.choice_standard_errors)
    else:
        method, reason = params.method, "asked for by params"
    slope, intercept, knots, heights = fit_map(method, logits_r, clicks_r, params)
    facts = CalibrationFacts(
        method=method,
        is_forced=params.method != "auto",
        negative_keep_rate=negative_keep_rate,
        slope=slope,
        intercept=intercept,
        num_rows=num_rows,
        num_clicks=num_clicks,
        cross_fitted={name: float(own.mean()) for name, own in losses.items()},
        reason=reason,
    )
    return Calibrator(facts, knots, heights)


def cross_fit(logits_r: Floats, clicks_r: Floats, params: CalibrateParams) -> dict[Method, Floats]:
    """Give each method's log loss of each row (R,), by fits on the other blocks of rows (in the given order)."""
    losses: dict[Method, Floats] = {}
    blocks = np.array_split(np.arange(len(clicks_r)), params.num_folds)
    for method in METHODS:
        scores_r = np.empty(len(clicks_r))
        for block in blocks:
            others = np.delete(np.arange(len(clicks_r)), block)
            slope, intercept, knots, heights = fit_map(method, logits_r[others], clicks_r[others], params)
            facts = CalibrationFacts(method, False, 1.0, slope, intercept, 0, 0, None)
            scores_r[block] = Calibrator(facts, knots, heights).apply(logits_r[block])
        losses[method] = -np.where(clicks_r == 1, np.log(scores_r), np.log1p(-scores_r))
    return losses


def choose(losses: dict[Method, Floats], num_standard_errors: float) -> tuple[Method, str]:
    """Choose among the maps by their losses of the same rows (R,); and say why, with figures."""
    chosen: Method = "identity" if losses["identity"].mean() <= losses["platt"].mean() else "platt"
    found = []
    for freer in METHODS[2:]:
        gains_r = losses[chosen] - losses[freer]
        gain, error = float(gains_r.mean()), float(gains_r.std(ddof=1) / math.sqrt(len(gains_r)))
        found.append(f"{freer} {'gains' if gain > 0 else 'loses'} {abs(gain):.5f} ± {error:.5f} on {chosen}")
        chosen = freer if gain > num_standard_errors * error else chosen
    figures = ", ".join(f"{name} {own.mean():.5f}" for name, own in losses.items())
    reason = (
        f"cross-fitted log loss: {figures}; {', '.join(found)}; a freer map must gain more than "
        f"{num_standard_errors:g} standard error{'' if num_standard_errors == 1 else 's'}"
    )
    return chosen, reason
