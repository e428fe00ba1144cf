"""An evaluation of rows of the small world, for the tests of watching quality against it."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from components.evaluating import CalibrationGain, EvaluateParams, Evaluation, EvaluationFacts, Parity, RankerCost
from components.evaluating.bootstrapping import measure
from components.evaluating.slicing import measure_slices
from components.log import LogSchema
from components.metrics import reliability_bins


def evaluation_of(
    rows: pl.DataFrame, clicks: np.ndarray[Any, Any], scores: np.ndarray[Any, Any], schema: LogSchema
) -> Evaluation:
    """An evaluation of these rows, with no champion to be held against, from the evaluation's own parts."""
    params = EvaluateParams(10, 50, 50, 0.95, None, ("c0", "hour", "n0"), 10, 10, 1_000, 1)
    figures = measure(clicks, {"challenger": scores}, np.arange(len(clicks)), params).figures["challenger"]
    facts = EvaluationFacts(
        confidence=params.confidence,
        num_bootstraps=params.num_bootstraps,
        cluster_by=None,
        num_clusters=len(clicks),
        split_rule="time",
        first_time=None,
        last_time=None,
        challenger=figures,
        champion_version=None,
        champion_digest=None,
        comparison=None,
        no_comparison="there is no champion yet",
        schema_breaks=(),
        oracle=None,
        parity=Parity(10, 0.0),
        calibration=CalibrationGain("identity", 0.1, 0.1, 0.0, 0.0),
        cost=RankerCost("linear", 1, 1, 1, 1),
    )
    return Evaluation(
        facts, reliability_bins(clicks, scores, params.num_bins), measure_slices(rows, clicks, scores, schema, params)
    )
