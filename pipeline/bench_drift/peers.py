"""Evidently's default preset on the same rows: what a team has that installs it and changes nothing."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from typing import Any

import polars as pl

from components.profiling import ReferenceProfile


@dataclass(frozen=True)
class Peer:
    """`DataDriftPreset()` on `sample_rows` rows of either log, columns as they come, in so many trials of each fault."""

    num_trials: int
    sample_rows: int

    def says_drift(self, profile: ReferenceProfile, rows: pl.DataFrame, faulty: str | None) -> tuple[bool, bool]:
        """Whether it flags the faulty column (any column where none is at fault), and the data set as a whole."""
        os.environ.setdefault("DO_NOT_TRACK", "1")
        names = [field.name for field in profile.binning.fields]
        reference = profile.sample.select(names).head(self.sample_rows)
        served = profile.binning.fold(rows.sample(min(self.sample_rows, rows.height), seed=1)).select(names)
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # its own imports warn of deprecated names, and empty columns of many things
            metrics = _run(reference, served, profile)
        share = next(one["value"]["share"] for one in metrics if "DriftedColumnsCount" in one["metric_name"])
        flags = {
            one["config"]["column"]: _is_flag(one) for one in metrics if one["metric_name"].startswith("ValueDrift")
        }
        flagged = flags.get(faulty, False) if faulty is not None else any(flags.values())
        return flagged, share >= 0.5


def _run(reference: pl.DataFrame, served: pl.DataFrame, profile: ReferenceProfile) -> list[dict[str, Any]]:
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    numeric = [field.name for field in profile.binning.fields if field.kind == "numeric"]
    others = [field.name for field in profile.binning.fields if field.kind != "numeric"]
    definition = DataDefinition(numerical_columns=numeric, categorical_columns=others)

    def data_set(table: pl.DataFrame) -> object:
        import pandas

        return Dataset.from_pandas(
            pandas.DataFrame({name: table[name].to_list() for name in table.columns}), data_definition=definition
        )

    snapshot = Report([DataDriftPreset()]).run(data_set(served), data_set(reference))
    metrics: list[dict[str, Any]] = snapshot.dict()["metrics"]
    return metrics


def _is_flag(metric: dict[str, Any]) -> bool:
    """Distances flag above their threshold, p-values below it."""
    config, value = metric["config"], float(metric["value"])
    threshold = float(config["threshold"])
    return value < threshold if "p_value" in str(config["method"]) else value > threshold
