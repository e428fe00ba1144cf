"""What is known of a challenger on the test rows: the artifact that the verdict, the card and the report are made of.

Everything in it is plain figures; it stands after the scorer and before the verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import polars as pl

from components.artifact import read_json, read_table, write_json, write_table
from components.errors import IntegrityError
from components.metrics import ReliabilityBin
from components.strict import Strict, parse


@dataclass(frozen=True)
class Interval(Strict):
    """A figure with its bootstrap percentile interval; the bounds are None where too few resamples had both classes."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Figures(Strict):
    """One scorer on one set of rows.

    calibration_ratio       mean score / click rate
    calibration_error       ECE over equal-mass bins; no interval, because a bootstrap of it is biased upwards
    calibration_error_null  the quantile (at the confidence) of the ECE were clicks drawn from the very scores
    """

    num_rows: int
    num_clicks: int
    click_rate: float
    mean_score: float
    auc: Interval
    log_loss: Interval
    normalised_entropy: Interval
    calibration_ratio: Interval
    calibration_error: float
    calibration_error_null: float


@dataclass(frozen=True)
class Comparison(Strict):
    """Challenger and champion on the same rows, none of which the champion was trained on; differences are challenger - champion.

    num_left_out  test rows at or before the champion's last training row
    """

    champion_version: str
    champion_digest: str
    num_left_out: int
    challenger: Figures
    champion: Figures
    auc_difference: Interval
    log_loss_difference: Interval
    normalised_entropy_difference: Interval
    calibration_ratio_difference: Interval


@dataclass(frozen=True)
class SliceFigures(Strict):
    """The challenger on the test rows that share one value of a field.

    value           the value in words; None for rows without one, or for all the values that have no slice of their own
    is_rest         the rows of all values that have no slice of their own
    score_variance  sum of p (1 - p): the variance of the number of clicks if each score p is true
    the figures     None where the slice holds one class only (calibration_ratio: no click)
    """

    field: str
    value: str | None
    is_rest: bool
    num_rows: int
    num_clicks: int
    click_rate: float
    mean_score: float
    score_variance: float
    calibration_ratio: float | None
    auc: float | None
    log_loss: float
    normalised_entropy: float | None


@dataclass(frozen=True)
class Oracle(Strict):
    """The true click probability of a simulated log on the same rows, and how far the challenger is from it.

    num_rows       test rows that have a true probability (all of them, or the evaluation is refused)
    mean_distance  mean |score - probability| of the challenger
    champion_mean_distance  the same of the champion, None without one
    """

    num_rows: int
    auc: float
    log_loss: float
    normalised_entropy: float
    mean_distance: float
    champion_mean_distance: float | None


@dataclass(frozen=True)
class Parity(Strict):
    """Raw rows through the exported scorer against encoded rows through the trained network, same calibrator."""

    num_rows: int
    max_score_difference: float


@dataclass(frozen=True)
class CalibrationGain(Strict):
    """What calibrating changed on the test rows; "raw" is the ranker's own probability, corrected for downsampling.

    reason  why this method and no other, in words; empty where the calibrator does not say
    """

    method: str
    raw_log_loss: float
    calibrated_log_loss: float
    raw_calibration_error: float
    calibrated_calibration_error: float
    reason: str = ""


@dataclass(frozen=True)
class RankerCost(Strict):
    """What a score costs, beside the embeddings: parameters, floating point operations of a row, bytes of the export."""

    ranker: str
    num_parameters: int
    num_embedding_parameters: int
    num_flops_per_row: int
    num_onnx_bytes: int


@dataclass(frozen=True)
class EvaluationFacts(Strict):
    """The whole of evaluation.json.

    cluster_by          what the bootstrap resamples: None for rows, else "hour", "user" or a field
    num_clusters        how many of them the test rows hold
    champion_version    of the champion it was to be held against, and champion_digest; None where there is none yet
    comparison          None without a comparison, then `no_comparison` says why
    schema_breaks       why the champion cannot score these rows, or clients of the champion not the challenger, in words
    """

    confidence: float
    num_bootstraps: int
    cluster_by: str | None
    num_clusters: int
    split_rule: str
    first_time: int | None
    last_time: int | None
    challenger: Figures
    champion_version: str | None
    champion_digest: str | None
    comparison: Comparison | None
    no_comparison: str | None
    schema_breaks: tuple[str, ...]
    oracle: Oracle | None
    parity: Parity
    calibration: CalibrationGain
    cost: RankerCost


@dataclass(frozen=True)
class Evaluation:
    """The figures, the reliability diagram's bins and the slices; equal when all figures are."""

    facts: EvaluationFacts
    reliability: tuple[ReliabilityBin, ...]
    slices: tuple[SliceFigures, ...]

    @property
    def challenger(self) -> Figures:
        """The challenger on all test rows."""
        return self.facts.challenger

    @property
    def comparison(self) -> Comparison | None:
        """Challenger and champion on the same rows, or None."""
        return self.facts.comparison

    def save(self, folder: Path) -> None:
        """Write evaluation.json, reliability.parquet and slices.parquet."""
        write_json(folder / "evaluation.json", self.facts)
        write_table(folder / "reliability.parquet", _table(self.reliability, _RELIABILITY_COLUMNS))
        write_table(folder / "slices.parquet", _table(self.slices, _SLICE_COLUMNS))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read back what `save` wrote; raises IntegrityError naming the damaged file."""
        path = folder / "evaluation.json"
        facts = parse(EvaluationFacts, read_json(path), str(path), IntegrityError)
        tables = parse(
            _Tables,
            {
                "reliability": read_table(folder / "reliability.parquet").to_dicts(),
                "slices": read_table(folder / "slices.parquet").to_dicts(),
            },
            f"{folder}: reliability.parquet and slices.parquet",
            IntegrityError,
        )
        return cls(facts, tables.reliability, tables.slices)


@dataclass(frozen=True)
class _Tables(Strict):
    reliability: tuple[ReliabilityBin, ...]
    slices: tuple[SliceFigures, ...]


_RELIABILITY_COLUMNS: dict[str, type[pl.DataType]] = {
    "num_rows": pl.Int64,
    "lowest_score": pl.Float64,
    "highest_score": pl.Float64,
    "mean_score": pl.Float64,
    "click_rate": pl.Float64,
}
_SLICE_COLUMNS: dict[str, type[pl.DataType]] = {
    "field": pl.String,
    "value": pl.String,
    "is_rest": pl.Boolean,
    "num_rows": pl.Int64,
    "num_clicks": pl.Int64,
    "click_rate": pl.Float64,
    "mean_score": pl.Float64,
    "score_variance": pl.Float64,
    "calibration_ratio": pl.Float64,
    "auc": pl.Float64,
    "log_loss": pl.Float64,
    "normalised_entropy": pl.Float64,
}


def _table(
    rows: tuple[ReliabilityBin, ...] | tuple[SliceFigures, ...], columns: dict[str, type[pl.DataType]]
) -> pl.DataFrame:
    return pl.DataFrame([[getattr(row, name) for name in columns] for row in rows], schema=columns, orient="row")
