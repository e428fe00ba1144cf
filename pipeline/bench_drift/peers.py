"""Evidently's default preset on the same rows: what a team has that installs it and changes nothing."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl


@dataclass(frozen=True)
class Tables:
    """What it is shown of one hour: two tables of the same columns, and the one at fault; without one any flag counts."""

    reference: pl.DataFrame
    served: pl.DataFrame
    numeric: Sequence[str]
    faulty: str | None


@dataclass(frozen=True)
class Peer:
    """`DataDriftPreset()` in so many trials of each fault.

    sample_rows  rows of either log that it is shown of a fault of rows; of a fault of clicks it is shown all
    """

    num_trials: int
    sample_rows: int


def says_drift(tables: Tables) -> tuple[bool, bool] | None:
    """Whether it flags the faulty column (any column where none is at fault), and the data set; None where it refuses."""
    os.environ.setdefault("DO_NOT_TRACK", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own imports warn of deprecated names, and empty columns of many things
        try:
            metrics = _run(tables)
        except ValueError:  # of a column without a value: it refuses the whole report
            return None
    share = next(one["value"]["share"] for one in metrics if "DriftedColumnsCount" in one["metric_name"])
    flags = {one["config"]["column"]: _is_flag(one) for one in metrics if one["metric_name"].startswith("ValueDrift")}
    flagged = flags.get(tables.faulty, False) if tables.faulty is not None else any(flags.values())
    return flagged, share >= 0.5


def _run(tables: Tables) -> list[dict[str, Any]]:
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    others = [name for name in tables.served.columns if name not in tables.numeric]
    definition = DataDefinition(numerical_columns=list(tables.numeric), categorical_columns=others)

    def data_set(table: pl.DataFrame) -> object:
        import pandas

        return Dataset.from_pandas(
            pandas.DataFrame({name: table[name].to_list() for name in table.columns}), data_definition=definition
        )

    snapshot = Report([DataDriftPreset()]).run(data_set(tables.served), data_set(tables.reference))
    metrics: list[dict[str, Any]] = snapshot.dict()["metrics"]
    return metrics


def _is_flag(metric: dict[str, Any]) -> bool:
    """Distances flag above their threshold, p-values below it."""
    config, value = metric["config"], float(metric["value"])
    threshold = float(config["threshold"])
    return value < threshold if "p_value" in str(config["method"]) else value > threshold
