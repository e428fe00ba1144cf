"""A log of forty fields that stays as it is, drawn row by row or, by the same law, as counts; faults are made on top of it.

Fields are independent, so the counts of a field's bins in a window are one multinomial draw; a row's click is drawn from
its score, so a window's clicks are one binomial draw for each cell of the score. Nothing here decides anything.
Shape letters: R rows, F fields, B bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from components.calibrating import Calibrator
from components.champion import Champion, Term
from components.encoding import Encoder
from components.encoding.codes import Buckets, Calendar, Vocabulary
from components.log import (
    MICROSECONDS_AN_HOUR,
    Field,
    LogRequest,
    LogSchema,
    ServedLog,
    SourceParams,
    TimeColumn,
    Window,
)
from components.profiling import ProfileParams, build_profile
from components.scoring import Scorer, ScorerFacts

Array = np.ndarray[Any, Any]

HOUR = MICROSECONDS_AN_HOUR
START = 490_000 * HOUR
DIGEST, OLD_DIGEST = "ab" * 32, "cd" * 32
TERMS = (Term("v0.9.0", OLD_DIGEST, START - 30 * 24 * HOUR), Term("v1.0.0", DIGEST, START - 24 * HOUR))
SIZES = (3, 8, 20, 60, 200)  # values of a categorical field, in turn
SLICE_FIELD, NUM_SLICES = "c0", 5
MISSING = 0.02
MAX_MISSING = 0.05
_BIAS = -3.9  # logits: about 3 % clicks
PROFILE = ProfileParams(top_values=50, numeric_buckets=20, score_buckets=20, sample_rows=5_000, seed=1)


@dataclass(frozen=True)
class BenchWorld:
    """A schema, the share of each value of each categorical field, and a scorer whose scores are true."""

    schema: LogSchema
    shares: dict[str, Array]
    scorer: Scorer

    def rows(
        self, generator: np.random.Generator, num_rows: int, first: int, duration: int, shares: dict[str, Array]
    ) -> pl.DataFrame:
        """Rows in time order from microsecond `first` on; `shares` replaces those of some fields."""
        columns = {}
        for field in self.schema.column_fields:
            if field.kind == "numeric":
                values = pl.Series(generator.gamma(2.0, 3.0, num_rows))
            else:
                share = shares.get(field.name, self.shares[field.name])
                codes = np.searchsorted(np.cumsum(share)[:-1], generator.random(num_rows))
                values = pl.Series([f"v{number}" for number in range(len(share))]).gather(codes)
            is_known = pl.Series(generator.random(num_rows) >= MISSING)
            columns[field.name] = pl.select(pl.when(is_known).then(values)).to_series()
        times = np.sort(generator.integers(first, first + duration, num_rows))
        key = int(generator.integers(1 << 60))
        impressions = (f"{key:x}-" + pl.Series(np.arange(num_rows)).cast(pl.String)).alias("_impression")
        return pl.DataFrame({"_impression": impressions, "_time": times, **columns})

    def champion(self, generator: np.random.Generator, num_rows: int, days: int) -> Champion:
        """A champion since the day before START, profiled on `num_rows` rows of the days before; its evaluation is not at hand."""
        rows = self.rows(generator, num_rows, START - days * 24 * HOUR, days * 24 * HOUR, {})
        scores = self.scorer.score(rows)
        clicks = (generator.random(num_rows) < scores).astype(np.int64)
        profile = build_profile(rows, scores, clicks, self.scorer.encoder, PROFILE)
        return Champion("v1.0.0", DIGEST, None, None, self.scorer, profile, None, TERMS)

    def served_log(self, folder: Path, rows: pl.DataFrame, window: Window) -> ServedLog:
        """Rows as served; a column `score` or `bundle` stands as it is, clicks have not come yet."""
        folder.mkdir(parents=True)
        table = rows if "score" in rows.columns else rows.with_columns(pl.Series("score", self.scorer.score(rows)))
        table = table if "bundle" in rows.columns else table.with_columns(pl.lit(DIGEST).alias("bundle"))
        table.with_columns(pl.lit(None, pl.Int8).alias("_click")).write_parquet(folder / "rows.parquet")
        request = LogRequest("bench", SourceParams("table", ("rows.csv",), {}), self.schema, window)
        return ServedLog(request, folder)


def make_world(num_fields: int, seed: int) -> BenchWorld:
    """A tenth of the fields are numbers; the rarest values of the others are unknown to the champion."""
    generator = np.random.default_rng(seed)
    num_numeric = num_fields // 10
    sizes = [NUM_SLICES, *(SIZES[number % len(SIZES)] for number in range(1, num_fields - num_numeric))]
    shares = {f"c{number}": generator.dirichlet(np.full(size, 2.0)) for number, size in enumerate(sizes)}
    fields = [
        *(Field(name, "categorical", None, MAX_MISSING, None, None) for name in shares),
        *(Field(f"n{number}", "numeric", "quantiles", MAX_MISSING, 0.0, None) for number in range(num_numeric)),
        Field("hour", "hour", None, 0.0, None, None),
    ]
    schema = LogSchema("click", TimeColumn("time", "iso8601"), "id", None, None, tuple(fields))
    codes: list[Vocabulary | Buckets | Calendar] = []
    for field in fields:
        if field.kind == "categorical":
            known = [f"v{value}" for value in range(max(int(len(shares[field.name]) * 0.98), 2))]
            codes.append(Vocabulary(field.name, pl.Series(field.name, known), 0))
        else:
            codes.append(Buckets(field.name, (2.0, 4.0, 6.0, 9.0)) if field.kind == "numeric" else Calendar("hour"))
    encoder = Encoder(schema, tuple(codes))
    return BenchWorld(schema, shares, make_scorer(schema, encoder, seed))


def make_scorer(schema: LogSchema, encoder: Encoder, seed: int) -> Scorer:
    """One weight an id, summed, and a bias that makes about 3 % clicks; another seed is another bundle."""
    generator = np.random.default_rng(seed)
    sizes = encoder.field_sizes
    weights = generator.normal(0, 1 / np.sqrt(len(sizes)), sum(sizes)).astype(np.float32)
    facts = ScorerFacts("linear", 1, sum(sizes), 1, 1.0, 1, 65_536)
    return Scorer(schema, encoder, Calibrator.identity(1.0), linear_ranker(sizes, weights, _BIAS), facts)


def linear_ranker(field_sizes: tuple[int, ...], weights: Array, bias: float) -> bytes:
    """The ONNX model of one weight an id, summed, and a bias."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    constants = {
        "weights": weights,
        "offsets": np.concatenate([[0], np.cumsum(field_sizes)[:-1]]).astype(np.int32),
        "axis": np.array([1], dtype=np.int64),
        "bias": np.array(bias, dtype=np.float32),
    }
    nodes = [
        helper.make_node("Add", ["ids", "offsets"], ["places"]),
        helper.make_node("Gather", ["weights", "places"], ["terms"]),
        helper.make_node("ReduceSum", ["terms", "axis"], ["sums"], keepdims=0),
        helper.make_node("Add", ["sums", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("ids", TensorProto.INT32, ["rows", len(field_sizes)])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows"])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
