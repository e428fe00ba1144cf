"""What a row of the served log holds: impression, time and fields as they came in, score and bundle as they went out."""

from __future__ import annotations

import polars as pl

from components.errors import ConfigError, DataError
from components.log import CLICK, IMPRESSION, SERVED_BUNDLE, SERVED_SCORE, TIME, LogSchema
from components.profiling.binning import Floats

_LAST_TIME = 4_102_444_800_000_000  # 2100-01-01


def served_schema(schema: LogSchema) -> pl.Schema:
    """The columns of a served log; raises ConfigError where a field takes one of their names."""
    fields = {field.name: pl.Float64() if field.kind == "numeric" else pl.String() for field in schema.column_fields}
    taken = sorted({SERVED_SCORE, SERVED_BUNDLE} & fields.keys())
    if taken:
        raise ConfigError(f"the served log has columns {taken} of its own: give the fields of that name another one")
    own = {IMPRESSION: pl.String(), TIME: pl.Int64(), CLICK: pl.Int8()}
    return pl.Schema({**own, **fields, SERVED_SCORE: pl.Float64(), SERVED_BUNDLE: pl.String()})


def served_table(rows: pl.DataFrame, scores: Floats, digest: str, schema: LogSchema) -> pl.DataFrame:
    """Rows and their scores in the served log's columns; clicks null where `rows` has none.

    Raises DataError for a time outside 1970 to 2099, which no file's name could hold.
    """
    wrong = (~rows[TIME].is_between(0, _LAST_TIME - 1)).arg_true()
    if len(wrong):
        raise DataError(
            f"row {wrong[0]}: time {rows[TIME][wrong[0]]} microseconds since 1970 lies outside 1970 to 2099; is it in another unit?"
        )
    columns = served_schema(schema)
    clicks = rows[CLICK] if CLICK in rows.columns else pl.Series(CLICK, [None] * rows.height)
    table = rows.with_columns(
        clicks.cast(pl.Int8), pl.Series(SERVED_SCORE, scores, dtype=pl.Float64), pl.lit(digest).alias(SERVED_BUNDLE)
    )
    return table.select(columns.names()).cast(columns)
