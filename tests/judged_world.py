"""Evaluations drawn up by hand, good but for what a test changes, and the limits that they are held to."""

from __future__ import annotations

import dataclasses
from typing import Any

from components.evaluating.evaluation import (
    CalibrationGain,
    Comparison,
    Evaluation,
    EvaluationFacts,
    Figures,
    Interval,
    Parity,
    RankerCost,
    SliceFigures,
)
from components.judging import JudgeParams, KnownBytes, Verdict, decide

PARAMS = JudgeParams(
    first_min_auc=0.55,
    max_normalised_entropy=1.0,
    max_auc_loss=0.003,
    max_log_loss_rise_share=0.01,
    ratio_low=0.9,
    ratio_high=1.1,
    max_ece_excess_share=0.1,
    max_parity_difference=1e-6,
    max_flops_per_row=1_000_000,
    max_bundle_bytes=10_000_000,
    other_bundle_bytes=1_000_000,
    is_schema_break_allowed=False,
)

KNOWN = KnownBytes(scorer=200_000, ranker=100_000, evaluation=10_000)

FIGURES = Figures(
    num_rows=100_000,
    num_clicks=3_000,
    click_rate=0.03,
    mean_score=0.0303,
    auc=Interval(0.75, 0.74, 0.76),
    log_loss=Interval(0.12, 0.118, 0.122),
    normalised_entropy=Interval(0.89, 0.87, 0.91),
    calibration_ratio=Interval(1.01, 0.98, 1.04),
    calibration_error=0.002,
    calibration_error_null=0.0025,
)

COMPARISON = Comparison(
    champion_version="v1.2.0",
    champion_digest="c" * 64,
    num_left_out=0,
    challenger=FIGURES,
    champion=dataclasses.replace(FIGURES, auc=Interval(0.749, 0.739, 0.759), log_loss=Interval(0.12, 0.118, 0.122)),
    auc_difference=Interval(0.001, -0.002, 0.004),
    log_loss_difference=Interval(0.0, -0.001, 0.001),
    normalised_entropy_difference=Interval(0.0, -0.01, 0.01),
    calibration_ratio_difference=Interval(0.0, -0.01, 0.01),
)


def slice_of(
    value: str | None, num_rows: int, num_clicks: int, mean_score: float, is_rest: bool = False
) -> SliceFigures:
    return SliceFigures(
        field="device",
        value=value,
        is_rest=is_rest,
        num_rows=num_rows,
        num_clicks=num_clicks,
        click_rate=num_clicks / num_rows,
        mean_score=mean_score,
        score_variance=num_rows * mean_score * (1 - mean_score),
        calibration_ratio=mean_score * num_rows / num_clicks if num_clicks else None,
        auc=0.7,
        log_loss=0.1,
        normalised_entropy=0.9,
    )


def evaluation(has_champion: bool, slices: tuple[SliceFigures, ...] = (), **changes: Any) -> Evaluation:
    """A good evaluation, with or without a champion, but for `changes` of its facts."""
    facts = EvaluationFacts(
        confidence=0.95,
        num_bootstraps=200,
        cluster_by=None,
        num_clusters=100_000,
        split_rule="time",
        first_time=0,
        last_time=1,
        challenger=FIGURES,
        comparison=COMPARISON if has_champion else None,
        no_comparison=None if has_champion else "no champion yet",
        champion_version="v1.2.0" if has_champion else None,
        champion_digest="c" * 64 if has_champion else None,
        schema_breaks=(),
        oracle=None,
        parity=Parity(10_000, 1e-7),
        calibration=CalibrationGain("platt", 0.121, 0.12, 0.004, 0.002),
        cost=RankerCost("autopi", 1_000, 10_000, 50_000, 100_000),
    )
    return Evaluation(dataclasses.replace(facts, **changes), (), slices)


def compared(**changes: Any) -> dict[str, Any]:
    return {"comparison": dataclasses.replace(COMPARISON, **changes)}


def measured(**changes: Any) -> dict[str, Any]:
    return {"challenger": dataclasses.replace(FIGURES, **changes)}


def cost(**changes: Any) -> dict[str, Any]:
    return {"cost": dataclasses.replace(RankerCost("autopi", 1_000, 10_000, 50_000, 100_000), **changes)}


def judge(evaluation: Evaluation, params: JudgeParams) -> Verdict:
    """The verdict on a bundle that is small enough."""
    return decide(evaluation, KNOWN, params)
