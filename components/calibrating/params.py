"""Which map from logits to scores, how it is chosen, and how the scorer that uses it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from components.errors import ConfigError
from components.strict import Strict

Method = Literal["identity", "platt", "spline", "isotonic"]

METHODS: tuple[Method, ...] = ("identity", "platt", "spline", "isotonic")
"""From the simplest to the freest."""


@dataclass(frozen=True)
class CalibrateParams(Strict):
    """How logits become scores, and how the scorer that does it runs.

    method                  "auto": by cross-fitted log loss; or one of "identity", "platt", "spline", "isotonic"
    num_folds               contiguous blocks of calibrate rows in time order; each is scored by a fit on the others
    choice_standard_errors  by how many standard errors of the difference a freer map must win to be taken; 0: the lowest loss
    platt_slope_sd          standard deviation of the prior of Platt's slope around 1, and of the spline's mean slope
    spline_num_pieces       at most so many straight pieces, with as many logits each
    spline_bend_sd          standard deviation of the prior of each change of slope between two pieces around 0
    isotonic_num_knots      at most so many knots, at quantiles of the logits
    isotonic_max_slope      score per logit (a sigmoid's own is at most 0.25)
    num_threads             of the ONNX runtime for one scoring session
    batch_rows              rows scored at once, which bounds the memory
    """

    method: Literal["auto", "identity", "platt", "spline", "isotonic"]
    num_folds: int
    choice_standard_errors: float
    platt_slope_sd: float
    spline_num_pieces: int
    spline_bend_sd: float
    isotonic_num_knots: int
    isotonic_max_slope: float
    num_threads: int
    batch_rows: int

    def __post_init__(self) -> None:
        """Refuse numbers that mean nothing."""
        checks = {
            "num_folds >= 2": self.num_folds >= 2,
            "choice_standard_errors >= 0": self.choice_standard_errors >= 0,
            "platt_slope_sd > 0": self.platt_slope_sd > 0,
            "spline_num_pieces >= 1": self.spline_num_pieces >= 1,
            "spline_bend_sd > 0": self.spline_bend_sd > 0,
            "isotonic_num_knots >= 2": self.isotonic_num_knots >= 2,
            "isotonic_max_slope > 0": self.isotonic_max_slope > 0,
            "num_threads >= 1": self.num_threads >= 1,
            "batch_rows >= 1": self.batch_rows >= 1,
        }
        for words, holds in checks.items():
            if not holds:
                raise ConfigError(f"params.yaml [calibrate]: {words} must hold, got {self}")
