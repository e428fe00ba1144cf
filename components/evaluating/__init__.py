"""Challenger and champion on the same raw test rows; stands between the scorer and the verdict.

params         what is drawn, cut and counted
evaluation     the figures, as an artifact
bootstrapping  metrics with paired, clustered percentile intervals
slicing        the rows by a field's values
measuring      evaluate_scorers: raw rows in, figures out
"""

from typing import TYPE_CHECKING, Any

from components.evaluating.evaluation import (
    CalibrationGain,
    Comparison,
    Evaluation,
    EvaluationFacts,
    Figures,
    Interval,
    Oracle,
    Parity,
    RankerCost,
    SliceFigures,
)
from components.evaluating.params import EvaluateParams

if TYPE_CHECKING:
    from components.evaluating.measuring import evaluate_scorers

__all__ = [
    "CalibrationGain",
    "Comparison",
    "EvaluateParams",
    "Evaluation",
    "EvaluationFacts",
    "Figures",
    "Interval",
    "Oracle",
    "Parity",
    "RankerCost",
    "SliceFigures",
    "evaluate_scorers",
]


def __getattr__(name: str) -> Any:
    """`evaluate_scorers`, which needs torch, is imported where it is asked for: who only reads an evaluation needs none."""
    if name != "evaluate_scorers":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from components.evaluating.measuring import evaluate_scorers

    return evaluate_scorers
