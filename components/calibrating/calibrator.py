"""The map from logits to scores: the correction of negative downsampling, then one of four, each monotone.

    identity  the ranker's own probability
    platt     sigmoid(slope * logit + intercept)
    spline    sigmoid of a rising piecewise linear function of the logit; beyond its knots the outer pieces go on
    isotonic  a rising piecewise linear function between knots, level beyond them

Shape letters: R rows, K knots.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from components.artifact import map_array, read_json, write_array, write_json
from components.calibrating.params import Method
from components.errors import IntegrityError
from components.strict import Strict, parse

Floats = np.ndarray[Any, np.dtype[np.float64]]

LOGIT_LIMIT = 30.0
"""Beyond it float64 can no longer tell a score from 1 by more than noise; scores stay strictly within (0, 1)."""

_FARTHEST = 1e6  # a logit that lies farther out is as good as infinite, and a level piece times infinity is no number


@dataclass(frozen=True)
class CalibrationFacts(Strict):
    """What a calibrator is, besides its knots, and why it was chosen.

    negative_keep_rate  the share w of train's rows without click that the ranker saw: q = p / (p + (1 - p) / w)
    slope, intercept    Platt's; 1 and 0 for the others
    cross_fitted        log loss of each method on blocks of time that its fit had not seen (None: never fitted)
    reason              why this method, with figures; empty in calibrators of before 2026-11-23
    """

    method: Method
    is_forced: bool
    negative_keep_rate: float
    slope: float
    intercept: float
    num_rows: int
    num_clicks: int
    cross_fitted: dict[Method, float] | None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Calibrator:
    """The fitted map from logits to scores.

    knots    (K,) logits, strictly rising; empty for identity and platt
    heights  (K,) what they become: scores (isotonic) or logits (spline)
    """

    facts: CalibrationFacts
    knots: Floats
    heights: Floats

    @classmethod
    def identity(cls, negative_keep_rate: float) -> Self:
        """No map at all beyond the correction of downsampling."""
        facts = CalibrationFacts("identity", True, negative_keep_rate, 1.0, 0.0, 0, 0, None)
        return cls(facts, np.empty(0), np.empty(0))

    def apply(self, logits: np.ndarray[Any, Any]) -> Floats:
        """Turn logits (R,) into scores (R,) float64, strictly within (0, 1), never falling where logits rise.

        Infinite logits get the score at the limit. One that is not a number (a chain of products can overflow on a row
        unlike any seen) says nothing of its row, which then gets the click rate of the rows that the fit has seen.
        """
        logits_r = correct_downsampling(logits, self.facts.negative_keep_rate)
        if self.facts.method == "isotonic":
            scores = _interpolate(np.clip(logits_r, self.knots[0], self.knots[-1]), self.knots, self.heights)
        elif self.facts.method == "spline":
            scores = sigmoid(_interpolate(np.clip(logits_r, -_FARTHEST, _FARTHEST), self.knots, self.heights))
        else:
            scores = sigmoid(self.facts.slope * logits_r + self.facts.intercept)
        return np.where(np.isnan(logits_r), self.click_rate, scores)

    @property
    def click_rate(self) -> float:
        """Clicks per row where it was fitted; a half before any fit."""
        return self.facts.num_clicks / self.facts.num_rows if self.facts.num_rows else 0.5

    def __eq__(self, other: object) -> bool:
        """Equal facts and equal knots."""
        return (
            isinstance(other, Calibrator)
            and self.facts == other.facts
            and np.array_equal(self.knots, other.knots)
            and np.array_equal(self.heights, other.heights)
        )

    def save(self, folder: Path) -> None:
        """Write the facts as JSON and the knots as one array (2, K)."""
        write_json(folder / "calibrator.json", self.facts)
        write_array(folder / "knots.npy", np.stack([self.knots, self.heights]).astype(np.float64))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read back; raises IntegrityError for knots that are no monotone map into (0, 1)."""
        facts = parse(
            CalibrationFacts, read_json(folder / "calibrator.json"), str(folder / "calibrator.json"), IntegrityError
        )
        table = np.array(map_array(folder / "knots.npy"))
        is_fit = table.ndim == 2 and len(table) == 2 and table.dtype == np.float64 and bool(np.isfinite(table).all())
        if not is_fit or (facts.method in ("spline", "isotonic")) != (table.shape[1] > 0):
            raise IntegrityError(
                f"{folder / 'knots.npy'}: expected two rows of float64 knots that fit '{facts.method}'"
            )
        knots, heights = table
        if not ((np.diff(knots) > 0).all() and (np.diff(heights) >= 0).all()):
            raise IntegrityError(f"{folder / 'knots.npy'}: knots must rise and what they become must never fall")
        if facts.method == "isotonic" and not ((heights > 0) & (heights < 1)).all():
            raise IntegrityError(f"{folder / 'knots.npy'}: scores within (0, 1) are expected")
        if not 0 < facts.negative_keep_rate <= 1 or facts.slope < 0:
            raise IntegrityError(f"{folder / 'calibrator.json'}: a keep rate in (0, 1] and a slope >= 0 are expected")
        return cls(facts, knots, heights)


def sigmoid(logits: np.ndarray[Any, Any]) -> Floats:
    """Turn logits into probabilities strictly within (0, 1), in float64 without overflow."""
    limited = np.clip(np.asarray(logits, dtype=np.float64), -LOGIT_LIMIT, LOGIT_LIMIT)
    probabilities: Floats = 1.0 / (1.0 + np.exp(-limited))
    return probabilities


def correct_downsampling(logits: np.ndarray[Any, Any], negative_keep_rate: float) -> Floats:
    """Undo negative downsampling exactly: q = p / (p + (1 - p) / w) is a shift of the logit by log(w)."""
    return np.asarray(logits, dtype=np.float64) + math.log(negative_keep_rate)


def _interpolate(logits_r: Floats, knots: Floats, heights: Floats) -> Floats:
    """Walk linearly from knot to knot and on beyond the outer ones; never past a knot's height, whatever the rounding."""
    if len(knots) == 1:
        return np.full(len(logits_r), heights[0])
    left_r = np.clip(np.searchsorted(knots, logits_r, side="right") - 1, 0, len(knots) - 2)
    steepness = np.diff(heights) / np.diff(knots)
    reached = heights[left_r] + steepness[left_r] * (logits_r - knots[left_r])
    following = heights[left_r + 1]
    limited: Floats = np.where(
        logits_r <= knots[left_r + 1], np.minimum(reached, following), np.maximum(reached, following)
    )
    return limited
