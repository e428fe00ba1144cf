"""The test rows by the values of one field: where the scores are right and where they are not.

Shape letter: R test rows.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import polars as pl

from components import metrics
from components.errors import ConfigError
from components.evaluating.evaluation import SliceFigures
from components.evaluating.params import EvaluateParams
from components.log import MICROSECONDS_AN_HOUR, TIME, Field, LogSchema

Array = np.ndarray[Any, Any]


def columns_needed(schema: LogSchema, params: EvaluateParams) -> tuple[str, ...]:
    """Name the column fields that slices and clusters are made of; raises ConfigError for a field the schema has not."""
    fields = {field.name: field for field in schema.fields}
    unknown = sorted(set(params.slice_fields) - set(fields))
    if unknown:
        raise ConfigError(f"[evaluate] slice_fields {unknown} are no fields of the schema; it has {sorted(fields)}")
    needed = {name for name in params.slice_fields if not fields[name].is_from_time}
    cluster_field = _cluster_field(schema, params.cluster_by)
    return tuple(sorted(needed | ({cluster_field} if cluster_field else set())))


def _cluster_field(schema: LogSchema, cluster_by: str | None) -> str | None:
    """Find the column that is resampled by; None where it is the row or the hour."""
    if cluster_by is None:
        return None
    if cluster_by == "hour":
        if schema.time is None:
            raise ConfigError("[evaluate] cluster_by 'hour' needs a time, and this log's schema has none; use null")
        return None
    name = schema.user if cluster_by == "user" else cluster_by
    if name is None:
        raise ConfigError("[evaluate] cluster_by 'user' needs a schema that names its user field; use null or 'hour'")
    columns = [field.name for field in schema.column_fields]
    if name not in columns:
        raise ConfigError(
            f"[evaluate] cluster_by '{name}' is neither null, 'user', 'hour' nor one of the columns {columns}"
        )
    return name


def cluster_numbers(rows: pl.DataFrame, schema: LogSchema, cluster_by: str | None) -> Array:
    """Number each row's cluster from 0 (R,); rows without a value are one cluster together."""
    if cluster_by is None:
        return np.arange(len(rows), dtype=np.int64)
    name = _cluster_field(schema, cluster_by)
    keys = rows[TIME] // MICROSECONDS_AN_HOUR if name is None else rows[name]
    numbers: Array = np.unique(keys.rank("dense").fill_null(0).to_numpy(), return_inverse=True)[1]
    return numbers


def measure_slices(
    rows: pl.DataFrame, clicks: Array, scores: Array, schema: LogSchema, params: EvaluateParams
) -> tuple[SliceFigures, ...]:
    """Measure the challenger on the top values of each field, those with most rows first, then all other rows."""
    slices: list[SliceFigures] = []
    for name in params.slice_fields:
        field = next(field for field in schema.fields if field.name == name)
        values = _values_in_words(rows, field)
        numbered = pl.DataFrame({"value": values}).with_row_index("row")
        groups = numbered.group_by("value").agg(pl.col("row"), pl.len().alias("num_rows"))
        groups = groups.sort(["num_rows", "value"], descending=[True, False], nulls_last=True)
        own = groups.head(params.slice_top_values)
        slices += [
            _slice(name, value, False, chosen.to_numpy(), clicks, scores)
            for value, chosen in zip(own["value"].to_list(), own["row"], strict=True)
        ]
        rest = groups.slice(params.slice_top_values)
        if len(rest) > 0:
            slices.append(_slice(name, None, True, np.sort(rest["row"].explode().to_numpy()), clicks, scores))
    return tuple(slices)


def _values_in_words(rows: pl.DataFrame, field: Field) -> pl.Series:
    """Give each row's value as text: a category, an hour "00" to "23", a weekday "1" to "7", or one of four number ranges."""
    if field.is_from_time:
        moments = rows[TIME].cast(pl.Datetime("us"))
        return (
            moments.dt.hour().cast(pl.String).str.zfill(2)
            if field.kind == "hour"
            else moments.dt.weekday().cast(pl.String)
        )
    if field.kind == "categorical":
        return rows[field.name]
    numbers = rows[field.name]
    known = numbers.drop_nulls()
    if len(known) == 0:
        return pl.Series(field.name, [None] * len(rows), dtype=pl.String)
    cuts = np.unique(np.quantile(known.to_numpy(), [0.25, 0.5, 0.75], method="lower")).tolist()
    words = [
        f"up to {cuts[0]:g}",
        *(f"{low:g} to {high:g}" for low, high in itertools.pairwise(cuts)),
        f"above {cuts[-1]:g}",
    ]
    is_known = numbers.is_not_null().to_numpy()
    place = np.searchsorted(cuts, numbers.fill_null(0.0).to_numpy(), side="left")
    return pl.Series(
        field.name,
        [words[index] if there else None for index, there in zip(place, is_known, strict=True)],
        dtype=pl.String,
    )


def _slice(field: str, value: str | None, is_rest: bool, chosen: Array, clicks: Array, scores: Array) -> SliceFigures:
    clicks_r, scores_r = clicks[chosen], scores[chosen]
    return SliceFigures(
        field=field,
        value=value,
        is_rest=is_rest,
        num_rows=len(chosen),
        num_clicks=int(clicks_r.sum(dtype=np.int64)),
        click_rate=float(clicks_r.mean(dtype=np.float64)),
        mean_score=float(scores_r.mean()),
        score_variance=float((scores_r * (1.0 - scores_r)).sum()),
        calibration_ratio=_defined(metrics.calibration_ratio(clicks_r, scores_r)),
        auc=_defined(metrics.auc(clicks_r, scores_r)),
        log_loss=metrics.log_loss(clicks_r, scores_r),
        normalised_entropy=_defined(metrics.normalised_entropy(clicks_r, scores_r)),
    )


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None
