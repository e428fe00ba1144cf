"""Challenger and champion on the same raw test rows; stands between the scorer and the verdict.

params         what is drawn, cut and counted
evaluation     the figures, as an artifact
bootstrapping  metrics with paired, clustered percentile intervals
slicing        the rows by a field's values
measuring      evaluate_scorers: raw rows in, figures out
"""

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
from components.evaluating.measuring import evaluate_scorers
from components.evaluating.params import EvaluateParams

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
