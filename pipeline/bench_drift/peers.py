"""Evidently's default preset on the same rows: what a team has that installs it and changes nothing."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

_DRIFT_SHARE = 0.5  # its default


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
    """Whether it flags the faulty column (any column where none is at fault), and the data set; None where it refuses.

    The metrics are those that the preset is made of, at its own defaults; the columns' drawings, four fifths of its time, are
    left out.
    """
    os.environ.setdefault("DO_NOT_TRACK", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own imports warn of deprecated names, and empty columns of many things
        from evidently import DataDefinition, Dataset, Report
        from evidently.metrics import DriftedColumnsCount, ValueDrift

        others = [name for name in tables.served.columns if name not in tables.numeric]
        definition = DataDefinition(numerical_columns=list(tables.numeric), categorical_columns=others)

        def data_set(table: pl.DataFrame) -> object:
            import pandas

            columns = {name: table[name].to_list() for name in table.columns}
            return Dataset.from_pandas(pandas.DataFrame(columns), data_definition=definition)

        of_column = [] if tables.faulty is None else [ValueDrift(column=tables.faulty)]
        try:
            snapshot = Report([DriftedColumnsCount(), *of_column]).run(
                data_set(tables.served), data_set(tables.reference)
            )
        except ValueError:  # of a column without a value: it refuses the whole report
            return None
    metrics: list[dict[str, Any]] = snapshot.dict()["metrics"]
    drifted = metrics[0]["value"]
    return _is_flag(metrics[1]) if of_column else drifted["count"] > 0, drifted["share"] >= _DRIFT_SHARE


def _is_flag(metric: dict[str, Any]) -> bool:
    """Distances flag above their threshold, p-values below it."""
    config, value = metric["config"], float(metric["value"])
    threshold = float(config["threshold"])
    return value < threshold if "p_value" in str(config["method"]) else value > threshold
