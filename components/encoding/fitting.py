"""What train teaches about each field: its vocabulary or its buckets. No other split is looked at."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import polars as pl

from components.encoding.codes import Buckets, Calendar, Code, Vocabulary
from components.encoding.params import EncodeParams
from components.log import CleanLog, Field
from components.splitting import Splits

_FIELDS_AT_ONCE = 2  # sorting one field's counts keeps one core busy
_LOWEST_WHOLE = -64  # whole numbers up to 2 have a bucket each, down to here

Values = np.ndarray[Any, np.dtype[np.float64]]
Counts = np.ndarray[Any, np.dtype[np.int64]]


def fit_codes(
    clean_log: CleanLog, splits: Splits, params: EncodeParams, told: Callable[[int, str], None]
) -> tuple[tuple[Code, ...], tuple[int | None, ...]]:
    """A code for each field in schema order, and how many distinct values train had (None for fields of the calendar).

    Two fields at a time, so that memory is bounded by the two with the most distinct values.
    """
    train = _train_rows(clean_log, splits)

    def fit(field: Field) -> tuple[Code, int | None]:
        if field.is_from_time:
            return Calendar(field.kind), None
        column = pl.col(field.name).alias("value")
        counts = train(field.name).group_by(column).agg(pl.len().cast(pl.Int64).alias("num_rows"))
        counts = counts.filter(pl.col("value").is_not_null())
        if field.kind == "numeric":
            counted = counts.sort("value").collect(engine="streaming")
            return _buckets(field, counted, params), counted.height
        return _vocabulary(field.name, counts.collect(engine="streaming"), params)

    fields = clean_log.schema.fields
    fitted: list[tuple[Code, int | None]] = []
    with ThreadPoolExecutor(max_workers=_FIELDS_AT_ONCE) as side_by_side:
        for number, one in enumerate(side_by_side.map(fit, fields)):
            told(number, fields[number].name)
            fitted.append(one)
    return tuple(code for code, _ in fitted), tuple(num_distinct for _, num_distinct in fitted)


def _train_rows(clean_log: CleanLog, splits: Splits) -> Callable[[str], pl.LazyFrame]:
    """One column of train, lazily; as a slice where train is one run of rows, as it is when cut by time."""
    rows = splits.rows_of("train")
    first, num_rows = int(rows[0]), len(rows)
    if int(rows[-1]) - first + 1 == num_rows:
        return lambda name: clean_log.scan().select(name).slice(first, num_rows)
    is_train = pl.LazyFrame({"_is_train": splits.assignment == 0})
    return lambda name: (
        pl.concat([clean_log.scan().select(name), is_train], how="horizontal").filter("_is_train").select(name)
    )


def _vocabulary(name: str, counts: pl.DataFrame, params: EncodeParams) -> tuple[Vocabulary, int]:
    frequent = counts.filter(pl.col("num_rows") >= params.min_count)
    ordered = frequent.sort(["num_rows", "value"], descending=[True, False])
    is_too_large = frequent.height > params.max_vocabulary
    values = ordered["value"].head(params.max_vocabulary).alias(name)
    return Vocabulary(name, values, params.num_hash_buckets if is_too_large else 0), counts.height


def _buckets(field: Field, counted: pl.DataFrame, params: EncodeParams) -> Buckets:
    values, num_rows = counted["value"].to_numpy(), counted["num_rows"].to_numpy()
    if not len(values):
        return Buckets(field.name, ())
    if field.buckets == "quantiles":
        return Buckets(field.name, quantile_edges(values, num_rows, params.num_buckets))
    edges = squared_log_edges(float(values[0]), float(values[-1]))
    return Buckets(field.name, without_thin_buckets(edges, values, num_rows, params.min_count))


def quantile_edges(values: Values, num_rows: Counts, num_buckets: int) -> tuple[float, ...]:
    """Edges that share the rows out evenly; each is a value of train, the first of its bucket, so no bucket is empty."""
    through = np.cumsum(num_rows)
    wanted = through[-1] * np.arange(1, num_buckets) / num_buckets
    last = np.searchsorted(through, wanted, side="left")
    return tuple(float(values[position + 1]) for position in np.unique(last) if position + 1 < len(values))


def squared_log_edges(lowest: float, highest: float) -> tuple[float, ...]:
    """Edges at which floor(log(x) ** 2) steps for x > 2; at most 2, each whole number has a bucket of its own.

    As edges, not as a formula, because two libraries' logarithms need not agree in the last bit.
    Criteo's winners' buckets: https://www.csie.ntu.edu.tw/~r01922136/kaggle-2014-criteo.pdf
    """
    whole = [float(number) for number in range(max(math.floor(lowest), _LOWEST_WHOLE) + 1, 3)]
    logs = []
    if highest > 2:
        logs.append(math.nextafter(2.0, math.inf))
        steps = math.floor(math.log(highest) ** 2) + 1
        logs += [math.exp(math.sqrt(step)) for step in range(1, steps + 1)]
    return tuple(edge for edge in [*whole, *logs] if lowest < edge <= highest)


def without_thin_buckets(
    edges: tuple[float, ...], values: Values, num_rows: Counts, min_count: int
) -> tuple[float, ...]:
    """The edges whose buckets have enough rows; a bucket with too few is joined with the one below, the first with the next."""
    bucket = np.searchsorted(np.asarray(edges), values, side="right")
    sizes = np.bincount(bucket, weights=num_rows, minlength=len(edges) + 1).astype(np.int64)
    kept: list[float] = []
    below = int(sizes[0])
    for edge, size in zip(edges, sizes[1:], strict=True):
        if size >= min_count and below >= min_count:
            kept.append(edge)
            below = int(size)
        else:
            below += int(size)
    return tuple(kept)
