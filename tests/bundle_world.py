"""A small line from clean log to bundle, made once a session: 4,000 rows of a marketplace drawn by hand, a linear ranker.

For the tests of champion, packing and report; every artifact is made by its own component, none is mocked.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import polars as pl
import pytest
import safetensors.torch
import torch
from onnx import helper, numpy_helper

from components.autopi.architecture import Architecture, FoundArchitecture
from components.calibrating import CalibrateParams, Calibrator, fit_calibrator
from components.champion import Champion
from components.encoding import Encoded, EncodeParams, encode_log
from components.evaluating import EvaluateParams, Evaluation, evaluate_scorers
from components.judging import JudgeParams, Verdict, judge
from components.log import (
    CheckReport,
    CheckResult,
    CleanLog,
    Field,
    LogRequest,
    LogSchema,
    RawLog,
    SourceParams,
    TimeColumn,
    Window,
)
from components.packing import Bundle, PackParams, pack_bundle
from components.profiling import ProfileParams
from components.scoring import Scorer, ScorerFacts
from components.splitting import SplitParams, Splits, split_log
from components.training import TrainedRanker, TrainParams, train_ranker
from components.workbench import Workbench
from pipeline.params import read_settings

DAY = 86_400 * 1_000_000
START = 1_767_225_600 * 1_000_000  # 2026-01-01 UTC in microseconds
NUM_ROWS = 4_000

SCHEMA = LogSchema(
    click="click",
    time=TimeColumn("time", "microseconds"),
    impression=None,
    user="user",
    item="item",
    fields=(
        Field("user", "categorical", None, 0.0, None, None),
        Field("item", "categorical", None, 0.0, None, None),
        Field("device", "categorical", None, 0.2, None, None),
        Field("price", "numeric", "quantiles", 0.2, 0.0, 100.0),
        Field("hour", "hour", None, 0.0, None, None),
    ),
)
REQUEST = LogRequest("market", SourceParams("table", ("market.csv",), {}), SCHEMA, Window(None, None, None))

JUDGE_PARAMS = JudgeParams(
    first_min_auc=0.55,
    max_normalised_entropy=1.0,
    max_auc_loss=0.02,
    max_log_loss_rise_share=0.05,
    ratio_low=0.7,
    ratio_high=1.4,
    max_ece_excess_share=0.3,
    max_parity_difference=1e-6,
    max_flops_per_row=1_000_000,
    max_bundle_bytes=10_000_000,
    other_bundle_bytes=100_000,
    is_schema_break_allowed=False,
)
PACK_PARAMS = PackParams(
    intended_use="ranking impressions",
    unintended_use="anything else",
    card_slices=5,
    profile=ProfileParams(top_values=20, numeric_buckets=5, score_buckets=10, sample_rows=50, seed=1),
)
SETTINGS = read_settings(Path(__file__).parents[1])
EVALUATE_PARAMS = dataclasses.replace(
    SETTINGS.section("evaluate", EvaluateParams),
    num_bins=10,
    num_null_draws=20,
    num_bootstraps=40,
    confidence=0.9,
    cluster_by=None,
    slice_fields=("device",),
    slice_top_values=3,
    num_parity_rows=200,
    chunk_rows=1_500,
)
LINE = "5 fields | interaction fm(0):0.4 skip(0):0.2+fm(1):0.3 | ensemble fm(0):0.3+skip(1):0.2 perceptron(1):0.3+fm(2):0.1"


@dataclass(frozen=True)
class World:
    """Every artifact of the line; `verdict` is the first promotion's."""

    raw_log: RawLog
    clean_log: CleanLog
    splits: Splits
    encoded: Encoded
    architecture: FoundArchitecture
    ranker: TrainedRanker
    scorer: Scorer
    evaluation: Evaluation
    verdict: Verdict
    workbench: Workbench

    def pack(self) -> Bundle:
        """The world's bundle."""
        return pack_bundle(
            self.clean_log,
            self.splits,
            self.encoded,
            self.architecture,
            self.ranker,
            self.scorer,
            self.evaluation,
            self.verdict,
            PACK_PARAMS,
        )

    def against(self, champion: Champion) -> World:
        """The same challenger, evaluated and judged against a champion."""
        evaluation = evaluate_scorers(
            self.raw_log,
            self.clean_log,
            self.splits,
            self.encoded,
            self.ranker,
            self.scorer,
            champion,
            EVALUATE_PARAMS,
            self.workbench,
        )
        return dataclasses.replace(self, evaluation=evaluation, verdict=judge(self.scorer, evaluation, JUDGE_PARAMS))


_WORLDS: list[World] = []


def shared_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The world of this process, made at the first call."""
    if not _WORLDS:
        _WORLDS.append(make_world(tmp_path_factory.mktemp("world") / "world"))
    return _WORLDS[0]


def make_world(folder: Path) -> World:
    """Draw the rows and run every component over them, with one thread."""
    torch.set_num_threads(1)
    workbench = Workbench(
        scratch=folder / "scratch",
        checkpoints=folder / "checkpoints",
        progress=lambda done, total, note: None,
        device="cpu",
        resume="never",
        limit_batches=None,
        stop_signal=lambda: None,
        cores=1,
    )
    workbench.scratch.mkdir(parents=True)
    (folder / "raw" / "files").mkdir(parents=True)
    raw_log = RawLog(REQUEST, (), (), folder / "raw")
    clean_log = _clean_log(folder / "clean")
    splits = split_log(clean_log, SplitParams("time", 0.15, 0.15, 0.25, 1.0, 1))
    encoded = encode_log(clean_log, splits, EncodeParams(2, 1_000, 0, 8), workbench)
    architecture = FoundArchitecture(
        Architecture.from_text(LINE, "test"), "fixed", ("skip", "fm", "perceptron"), (), None, None, 0, None
    )
    params = dataclasses.replace(
        SETTINGS.section("train", TrainParams), ranker="linear", max_epochs=4, batch_rows=200, monitor="log_loss"
    )
    params = dataclasses.replace(params, learning_rate=dict.fromkeys(params.learning_rate, 0.05))
    ranker = train_ranker(encoded, architecture, params, workbench)
    scorer = _scorer(encoded, ranker)
    evaluation = evaluate_scorers(
        raw_log, clean_log, splits, encoded, ranker, scorer, Champion.none(), EVALUATE_PARAMS, workbench
    )
    verdict = judge(scorer, evaluation, JUDGE_PARAMS)
    return World(raw_log, clean_log, splits, encoded, architecture, ranker, scorer, evaluation, verdict, workbench)


def _scorer(encoded: Encoded, ranker: TrainedRanker) -> Scorer:
    """Calibrate the linear ranker's ONNX, written down by hand, which takes no time: sum of the ids' weights and bias."""
    weights = safetensors.torch.load(ranker.weights)
    table, bias = (next(tensor.numpy() for name, tensor in weights.items() if end in name) for end in ("table", "bias"))
    offsets = np.cumsum([0, *encoded.field_sizes[:-1]]).astype(np.int32)
    constants = {"table": table.reshape(-1), "bias": bias, "offsets": offsets, "fields": np.array([1])}
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["ids", "offsets"], ["places"]),
            helper.make_node("Gather", ["table", "places"], ["weights"]),
            helper.make_node("ReduceSum", ["weights", "fields"], ["sums"], keepdims=0),
            helper.make_node("Add", ["sums", "bias"], ["logits"]),
        ],
        "linear",
        [helper.make_tensor_value_info("ids", onnx.TensorProto.INT32, ["B", len(offsets)])],
        [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["B"])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    facts = ScorerFacts("linear", 1, table.size, 0, 1.0, 1, 1_000)
    raw = Scorer(SCHEMA, encoded.encoder, Calibrator.identity(1.0), model.SerializeToString(), facts)
    split = encoded.split("calibrate")
    params = dataclasses.replace(SETTINGS.section("calibrate", CalibrateParams), method="platt")
    calibrator = fit_calibrator(raw.logits(split.ids), np.asarray(split.clicks), np.asarray(split.times), 1.0, params)
    return dataclasses.replace(raw, calibrator=calibrator)


def _clean_log(folder: Path) -> CleanLog:
    generator = np.random.default_rng(3)
    users, items = generator.integers(0, 60, NUM_ROWS), generator.integers(0, 30, NUM_ROWS)
    prices = generator.gamma(2.0, 10.0, NUM_ROWS).clip(0, 100)
    devices = generator.choice(np.array(["phone", "tablet", "desk | top"]), NUM_ROWS, p=[0.6, 0.1, 0.3])
    logits = -1.6 + np.sin(users) + np.cos(items) + 0.6 * (devices == "tablet")
    clicks = generator.random(NUM_ROWS) < 1 / (1 + np.exp(-logits))
    rows = pl.DataFrame(
        {
            "_row": np.arange(NUM_ROWS),
            "_time": START + np.sort(generator.integers(0, 14 * DAY, NUM_ROWS)),
            "_click": clicks.astype(np.int8),
            "_impression": pl.Series([None] * NUM_ROWS, dtype=pl.String),
            "user": [f"u{number}" for number in users],
            "item": [f"i{number}" for number in items],
            "device": pl.Series(devices).set(pl.Series(generator.random(NUM_ROWS) < 0.05), None),
            "price": prices,
        }
    )
    folder.mkdir()
    rows.write_parquet(folder / "rows.parquet")
    quarantine = pl.DataFrame({"_source": ["market.csv"] * 3, "_number": [1, 2, 3], "_reason": ["click is 2"] * 3})
    quarantine.write_parquet(folder / "quarantine.parquet")
    report = CheckReport(
        num_rows_read=NUM_ROWS + 5,
        num_rows_outside_window=2,
        num_duplicates=0,
        num_quarantined=3,
        num_rows=NUM_ROWS,
        num_clicks=int(clicks.sum()),
        first_time=int(rows["_time"][0]),
        last_time=int(rows["_time"][-1]),
        quarantine_reasons={"click is 2": 3},
        results=(
            CheckResult("click is 0 or 1", "click", 3.0, 40.0, True, True),
            CheckResult("share of rows without a value at most", "device", 0.05, 0.2, True, False),
        ),
    )
    return CleanLog(REQUEST, report, folder)
