"""What train teaches about each field: its vocabulary or its buckets. No other split is looked at."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import polars as pl

from components.encoding.codes import Buckets, Calendar, Code, Vocabulary
from components.encoding.counting import Counting
from components.encoding.keys import keys_of, texts_of
from components.encoding.params import EncodeParams
from components.log import CleanLog, Field
from components.splitting import SPLIT_NAMES, Splits

_FIELDS_AT_ONCE = 2  # sorting one field keeps one core busy
_PIECE_ROWS = 2_097_152  # of one column, sorted at once: 60 MB
_LOWEST_WHOLE = -64  # whole numbers up to 2 have a bucket each, down to here

Values = np.ndarray[Any, np.dtype[np.float64]]
Counts = np.ndarray[Any, np.dtype[np.int64]]


def fit_codes(
    clean_log: CleanLog, splits: Splits, params: EncodeParams, told: Callable[[int, str], None]
) -> tuple[tuple[Code, ...], tuple[int | None, ...]]:
    """A code for each field in schema order, and how many distinct values train had (None for fields of the calendar).

    Two fields at a time, so that memory is bounded by the two with the most distinct values.
    """

    def fit(field: Field) -> tuple[Code, int | None]:
        if field.is_from_time:
            return Calendar(field.kind), None
        if field.kind == "numeric":
            numbers = Counting()
            for piece in _pieces_of_train(clean_log, splits, field.name):
                numbers.add(piece.to_numpy() + 0.0)  # one zero, not two
            counted = numbers.total()
            return _buckets(field, *counted, params), len(counted[0])
        by_key = _frequent_by_key(_pieces_of_train(clean_log, splits, field.name), params.min_count)
        frequent, num_distinct = by_key or _frequent(_pieces_of_train(clean_log, splits, field.name), params.min_count)
        num_hash_buckets = params.num_hash_buckets if len(frequent) > params.max_vocabulary else 0
        values = frequent.head(params.max_vocabulary).alias(field.name)
        return Vocabulary(field.name, values, num_hash_buckets), num_distinct

    fields = clean_log.schema.fields
    fitted: list[tuple[Code, int | None]] = []
    with ThreadPoolExecutor(max_workers=_FIELDS_AT_ONCE) as side_by_side:
        for number, one in enumerate(side_by_side.map(fit, fields)):
            told(number, fields[number].name)
            fitted.append(one)
    return tuple(code for code, _ in fitted), tuple(num_distinct for _, num_distinct in fitted)


def _pieces_of_train(clean_log: CleanLog, splits: Splits, name: str) -> Iterator[pl.Series]:
    """One column of train without its nulls, a piece after the other; one at least."""
    is_train = splits.assignment == SPLIT_NAMES.index("train")
    rows = splits.rows_of("train")
    for first in range(int(rows[0]), int(rows[-1]) + 1, _PIECE_ROWS):
        chosen = is_train[first : min(first + _PIECE_ROWS, int(rows[-1]) + 1)]
        values = clean_log.scan().select(name).slice(first, len(chosen)).collect().to_series()
        yield (values if chosen.all() else values.filter(pl.Series(chosen))).drop_nulls()


def _frequent_by_key(pieces: Iterator[pl.Series], min_count: int) -> tuple[pl.Series, int] | None:
    """What `_frequent` gives, where every text has a key; else None."""
    counting = Counting()
    for piece in pieces:
        keys = keys_of(piece)
        if keys is None:
            return None
        counting.add(keys)
    keys, num_rows = counting.total()
    is_frequent = num_rows >= min_count
    order = np.argsort(-num_rows[is_frequent], kind="stable")  # keys stand in the order of their texts
    return texts_of(keys[is_frequent][order]), len(keys)


def _frequent(pieces: Iterator[pl.Series], min_count: int) -> tuple[pl.Series, int]:
    """The texts with at least so many rows, the most frequent first, ties in alphabetical order; and how many there are in all."""
    counts = pl.DataFrame(schema={"value": pl.String, "num_rows": pl.Int64})
    for piece in pieces:
        own = piece.alias("value").to_frame().group_by("value").agg(pl.len().cast(pl.Int64).alias("num_rows"))
        counts = pl.concat([counts, own]).group_by("value").agg(pl.col("num_rows").sum())
    frequent = counts.filter(pl.col("num_rows") >= min_count)
    return frequent.sort(["num_rows", "value"], descending=[True, False])["value"], counts.height


def _buckets(field: Field, values: Values, num_rows: Counts, params: EncodeParams) -> Buckets:
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
