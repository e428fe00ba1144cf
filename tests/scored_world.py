"""A small finished line for the tests of exporting, scoring and evaluating: the clicks are drawn from the ranker's own logits.

The true click probability is sigmoid(SLOPE * logit + INTERCEPT) of a random network, so calibration has a planted truth,
the oracle is known, and the challenger is as good as its calibrator.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import safetensors.torch
import torch

from components.autopi.architecture import Architecture
from components.calibrating import CalibrateParams, sigmoid
from components.encoding import Encoded, EncodeParams, encode_log
from components.log import (
    CheckReport,
    CleanLog,
    Field,
    LogRequest,
    LogSchema,
    Partition,
    RawLog,
    SourceParams,
    TimeColumn,
    Window,
)
from components.rankers import RankerParams
from components.splitting import SPLIT_NAMES, Splits, SplitSpan
from components.training import Member, TrainedRanker
from components.training.trained import build_ranker
from components.workbench import Workbench

SLOPE, INTERCEPT = 1.4, -1.0
HOUR = 3_600_000_000
START = 500_000 * HOUR

SCHEMA = LogSchema(
    click="clicked",
    time=TimeColumn("shown_at", "iso8601"),
    impression="id",
    user="user",
    item="item",
    fields=(
        Field("user", "categorical", None, 0.0, None, None),
        Field("item", "categorical", None, 0.0, None, None),
        Field("device", "categorical", None, 0.2, None, None),
        Field("price", "numeric", "quantiles", 0.2, 0.0, None),
        Field("hour", "hour", None, 0.0, None, None),
    ),
)
CALIBRATE = CalibrateParams(
    method="platt",
    num_folds=4,
    choice_standard_errors=1.0,
    platt_slope_sd=10.0,
    spline_num_pieces=20,
    spline_bend_sd=0.3,
    isotonic_num_knots=50,
    isotonic_max_slope=0.5,
    num_threads=1,
    batch_rows=1_000,
)
ARCHITECTURE = Architecture.from_text(
    "5 fields | interaction self_attention(0) fm(0)+convolution_1d(1) "
    "| ensemble senet(0)+single_layer_perceptron(1) skip(1)+fm(2)",
    "tests",
)


@dataclass(frozen=True)
class Line:
    """The artifacts up to the ranker, and the true click probability of each clean row."""

    raw_log: RawLog
    clean_log: CleanLog
    splits: Splits
    encoded: Encoded
    ranker: TrainedRanker
    probabilities: np.ndarray[Any, Any]

    def test_rows(self) -> pl.DataFrame:
        """The raw rows of the test split."""
        return self.clean_log.scan().collect()[self.splits.rows_of("test")]


def make_line(folder: Path, num_rows: int, seed: int) -> Line:
    """Draw rows, a network and clicks; split by time into 40, 10, 20 and 30 % of the rows."""
    generator = np.random.default_rng(seed)
    rows = pl.DataFrame(
        {
            "_row": np.arange(num_rows),
            "_time": np.sort(START + generator.integers(0, 96 * HOUR, num_rows)),
            "_click": pl.Series([0] * num_rows, dtype=pl.Int8),
            "_impression": [f"i{number}" for number in range(num_rows)],
            "user": [f"u{number}" for number in generator.zipf(1.5, num_rows) % 300],
            "item": [f"é{number}" for number in generator.zipf(1.5, num_rows) % 100],
            "device": [None if draw > 0.9 else f"d{int(draw * 5)}" for draw in generator.random(num_rows)],
            "price": [None if draw > 0.95 else draw * 10 for draw in generator.random(num_rows)],
        }
    )
    schedule = np.searchsorted([0.4, 0.5, 0.7], np.arange(num_rows) / num_rows, side="right").astype(np.int8)
    clean_log, splits = _clean(folder / "unclicked", rows, schedule)
    encoded = _encode(folder / "unclicked", clean_log, splits)
    ranker = make_ranker("mlp", encoded.field_sizes, seed)
    ids = np.concatenate([encoded.split(name).ids for name in SPLIT_NAMES])
    probabilities = sigmoid(SLOPE * ranker.logits(ids) + INTERCEPT)
    clicks = (generator.random(num_rows) < probabilities).astype(np.int8)
    clean_log, splits = _clean(folder / "clicked", rows.with_columns(pl.Series("_click", clicks)), schedule)
    encoded = _encode(folder / "clicked", clean_log, splits)
    raw_log = _raw(folder, clean_log.request, rows["_impression"], probabilities)
    return Line(raw_log, clean_log, splits, encoded, ranker, probabilities)


def make_ranker(name: str, field_sizes: tuple[int, ...], seed: int) -> TrainedRanker:
    """A network of random weights whose logits spread by about 1.5."""
    architecture = ARCHITECTURE if name == "autopi" else None
    params = RankerParams(embedding_width=4, hidden_widths=(16, 8), dropout=0.1, use_batch_norm=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_ranker(name, field_sizes, params, architecture).eval()
        with torch.no_grad():
            for parameter in network.embedding_parameters():
                parameter.normal_()
            for buffer_name, buffer in network.named_buffers():
                if buffer_name.endswith("running_mean"):
                    buffer.normal_(std=0.1)
            ids = torch.stack([torch.randint(0, size, (2_000,)) for size in field_sizes], dim=1).to(torch.int32)
            spread = float(network(ids).std())
            last = [module for module in network.modules() if isinstance(module, torch.nn.Linear)]
            if last:
                last[-1].weight.mul_(1.5 / spread)
    weights = safetensors.torch.save({key: value.contiguous() for key, value in network.state_dict().items()})
    return TrainedRanker(
        name, field_sizes, params, architecture, 1.0, 0.5, 0.7, None, (Member(seed, 1_000, 0, ()),), weights
    )


def _clean(folder: Path, rows: pl.DataFrame, schedule: np.ndarray[Any, Any]) -> tuple[CleanLog, Splits]:
    (folder / "clean").mkdir(parents=True)
    rows.write_parquet(folder / "clean" / "rows.parquet")
    rows.head(0).write_parquet(folder / "clean" / "quarantine.parquet")
    request = LogRequest("tests", SourceParams("table", ("rows.csv",), {}), SCHEMA, Window(None, None, None))
    first, last = int(rows["_time"][0]), int(rows["_time"][-1])
    num_clicks = int(rows["_click"].sum())
    report = CheckReport(len(rows), 0, 0, 0, len(rows), num_clicks, first, last, {}, ())
    spans = []
    for number, name in enumerate(SPLIT_NAMES):
        part = rows.filter(pl.Series(schedule == number))
        times = part["_time"]
        spans.append(SplitSpan(name, len(part), int(part["_click"].sum()), int(times[0]), int(times[-1])))
    return CleanLog(request, report, folder / "clean"), Splits("time", tuple(spans), 0, "by time", schedule)


def _encode(folder: Path, clean_log: CleanLog, splits: Splits) -> Encoded:
    (folder / "scratch").mkdir()
    bench = Workbench(folder / "scratch", folder, lambda done, total, note: None, "cpu", "never", None, lambda: None, 1)
    return encode_log(clean_log, splits, EncodeParams(2, 10_000, 0, 8), bench)


def _raw(folder: Path, request: LogRequest, impressions: pl.Series, probabilities: np.ndarray[Any, Any]) -> RawLog:
    (folder / "raw" / "files").mkdir(parents=True)
    path = folder / "raw" / "files" / "truth"
    mixed = np.random.default_rng(0).permutation(len(impressions))
    truth = pl.DataFrame({"_impression": impressions, "probability": probabilities})[mixed]
    truth.write_parquet(path)
    return RawLog(
        request, (), (Partition("truth.parquet", "truth", path.stat().st_size, len(truth), None),), folder / "raw"
    )


def with_keep_rate(ranker: TrainedRanker, keep_rate: float) -> TrainedRanker:
    """The same network as if it had seen only a share of the rows without click."""
    return dataclasses.replace(ranker, negative_keep_rate=keep_rate)
