"""How values fall into bins: learned from the reference rows, and used alike on them and on served rows.

Shape letters: R rows of a table. Bin 0 holds rows without a value, bin 1 values outside the top ones, each later bin
one value (categorical) or one bucket (numeric). Among scores bin 0 holds what is no probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import polars as pl

from components.log import MICROSECONDS_AN_HOUR, LogSchema
from components.strict import Strict

HOURS = 24
MISSING = "__missing__"
OTHER = "__other__"
MISSING_BIN = 0
OTHER_BIN = 1
FIRST_VALUE_BIN = 2
INVALID_SCORE_BIN = 0

Counts = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class FieldBins(Strict):
    """How one field is binned: top `values` of a categorical field, inner bucket `edges` of a numeric one.

    minimum, maximum, max_missing_share  what the schema promises of the field
    """

    name: str
    kind: Literal["categorical", "numeric"]
    values: tuple[str, ...]
    edges: tuple[float, ...]
    minimum: float | None
    maximum: float | None
    max_missing_share: float

    @property
    def num_bins(self) -> int:
        """Missing, other, and one for each value or bucket."""
        return FIRST_VALUE_BIN + (len(self.values) if self.kind == "categorical" else len(self.edges) + 1)

    def label(self, number: int) -> str:
        """What a person calls a bin."""
        if number in (MISSING_BIN, OTHER_BIN):
            return (MISSING, OTHER)[number]
        if self.kind == "categorical":
            return self.values[number - FIRST_VALUE_BIN]
        bounds = ["-inf", *(f"{edge:g}" for edge in self.edges), "inf"]
        return f"[{bounds[number - FIRST_VALUE_BIN]}, {bounds[number - FIRST_VALUE_BIN + 1]})"

    def bins_of(self, values: pl.Series) -> Counts:
        """The bin of each value (R,); null and NaN are missing."""
        if self.kind == "categorical":
            known = values.cast(pl.Enum(self.values), strict=False).to_physical().cast(pl.Int64) + FIRST_VALUE_BIN
            return np.where(values.is_null().to_numpy(), MISSING_BIN, known.fill_null(OTHER_BIN).to_numpy())
        numbers = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        buckets = np.searchsorted(np.asarray(self.edges, dtype=np.float64), numbers, side="right")
        return np.where(np.isnan(numbers), MISSING_BIN, buckets + FIRST_VALUE_BIN).astype(np.int64)

    def is_out_of_range(self, values: pl.Series) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which numbers (R,) lie outside the schema's promised range; none of a categorical field."""
        if self.kind == "categorical":
            return np.zeros(len(values), dtype=np.bool_)
        numbers = values.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        low = numbers < (-np.inf if self.minimum is None else self.minimum)
        return np.asarray(low | (numbers > (np.inf if self.maximum is None else self.maximum)))


@dataclass(frozen=True)
class Binning(Strict):
    """How rows are counted: the same way when a profile is made and when served rows are held against it."""

    has_time: bool
    fields: tuple[FieldBins, ...]
    score_edges: tuple[float, ...]

    @property
    def num_score_bins(self) -> int:
        """Invalid scores, and one for each bucket."""
        return len(self.score_edges) + 2

    def hours_of(self, times: Counts) -> Counts:
        """Hour of the day (UTC) of each row; 0 throughout where the log has no time."""
        return times // MICROSECONDS_AN_HOUR % HOURS if self.has_time else np.zeros(len(times), dtype=np.int64)

    def score_bins_of(self, scores: Floats) -> Counts:
        """The bin of each score (R,); what is not in [0, 1] is invalid."""
        is_valid = (scores >= 0) & (scores <= 1)
        buckets = np.searchsorted(np.asarray(self.score_edges, dtype=np.float64), scores, side="right") + 1
        return np.where(is_valid, buckets, INVALID_SCORE_BIN).astype(np.int64)

    def fold(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The column fields alone, categorical values outside the top ones as OTHER, so that few are left to compare."""
        return rows.select(
            pl.when(pl.col(field.name).is_null() | pl.col(field.name).is_in(list(field.values)))
            .then(pl.col(field.name))
            .otherwise(pl.lit(OTHER))
            .alias(field.name)
            if field.kind == "categorical"
            else pl.col(field.name).fill_nan(None)
            for field in self.fields
        )


def fit_binning(
    rows: pl.DataFrame, scores: Floats, schema: LogSchema, top_values: int, numeric_buckets: int, score_buckets: int
) -> Binning:
    """Choose top values and bucket edges from reference rows; fields made from the row's time are left out."""
    fields = []
    for field in schema.column_fields:
        values = rows[field.name].drop_nulls()
        top: tuple[str, ...] = ()
        edges: tuple[float, ...] = ()
        kind: Literal["categorical", "numeric"] = "numeric"
        if field.kind == "categorical":
            kind = "categorical"
            counts = values.alias("value").value_counts().sort(["count", "value"], descending=[True, False])
            top = tuple(counts["value"].head(top_values).to_list())
        else:
            edges = _inner_edges(values.drop_nans().to_numpy(), numeric_buckets)
        fields.append(FieldBins(field.name, kind, top, edges, field.minimum, field.maximum, field.max_missing_share))
    return Binning(schema.time is not None, tuple(fields), _inner_edges(scores, score_buckets))


def _inner_edges(values: Floats, num_buckets: int) -> tuple[float, ...]:
    """Distinct inner quantiles; fewer than asked where single values have more than a bucket's mass."""
    if len(values) == 0:
        return ()
    quantiles = np.quantile(values, np.arange(1, num_buckets) / num_buckets, method="inverted_cdf")
    return tuple(float(edge) for edge in np.unique(quantiles))
