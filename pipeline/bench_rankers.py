"""Rankers side by side on a workspace's encoded log: trained, calibrated and measured alike, over several seeds.

`linear_planted` is a logistic regression that is also given the fields' combinations that the simulated log plants;
`oracle` is the true probability. Both are there on a simulated log only. Choices are made on tune before this is run:
it looks at the test split.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from components import metrics, sources
from components.autopi.architecture import FoundArchitecture
from components.calibrating import fit_calibrator, sigmoid
from components.encoding import Encoded, EncodedSplit
from components.errors import ConfigError
from components.exporting import CalibrateParams
from components.log import CLICK, IMPRESSION, CleanLog, RawLog
from components.sources.reader import options_of
from components.sources.simulated import SimulatedParams, planted_terms
from components.splitting import SPLIT_NAMES, Splits
from components.training import TrainedRanker, TrainParams, train_ranker
from components.workbench import Progress
from pipeline.params import Settings
from pipeline.run import RunOptions, StopFlag, Workspace, stop_signals, workbench_for

PLANTED = "linear_planted"
_NUM_BINS = 20
_CALIBRATION_DRAWS = 200


@dataclass(frozen=True)
class Result:
    """One ranker and seed on the test split; `raw` is before calibration."""

    ranker: str
    seed: int
    tune_auc: float
    auc: float
    raw_log_loss: float
    log_loss: float
    calibration_error: float
    calibration_error_null: float
    num_parameters: int


def run_bench_rankers(
    workspace: Workspace, settings: Settings, rankers: Sequence[str], seeds: Sequence[int], progress: Progress
) -> dict[str, Any]:
    """Train each ranker with each seed, print a table, and give the figures by ranker as mean and standard deviation."""
    encoded, found = workspace.read("encoded", Encoded), workspace.read("architecture", FoundArchitecture)
    params, calibrate = settings.section("train", TrainParams), settings.section("calibrate", CalibrateParams)
    results: list[Result] = []
    options = RunOptions("auto", "auto", None, progress)
    for name in rankers:
        for seed in seeds:
            stop = StopFlag()
            with stop_signals(stop), workbench_for(f"bench_{name}_{seed}", workspace, options, stop) as workbench:
                rows = _with_planted(workspace, encoded, workbench.scratch) if name == PLANTED else encoded
                chosen = dataclasses.replace(params, ranker="linear" if name == PLANTED else name, seed=seed)
                trained = train_ranker(rows, found, chosen, workbench)
                results.append(_measured(name, seed, trained, rows, calibrate))
            print(_line(results[-1]), flush=True)
    table = {name: _summary([one for one in results if one.ranker == name]) for name in rankers}
    oracle = _oracle(workspace)
    if oracle is not None:
        table["oracle"] = oracle
    print(_markdown(table))
    return {"log": settings.log, "seeds": list(seeds), "rankers": table}


def _measured(name: str, seed: int, trained: TrainedRanker, encoded: Encoded, params: CalibrateParams) -> Result:
    near, far = encoded.split("calibrate"), encoded.split("test")
    clicks_near, clicks_far = np.asarray(near.clicks), np.asarray(far.clicks)
    rate = trained.negative_keep_rate
    logits = trained.logits(far.ids)
    calibrator = fit_calibrator(trained.logits(near.ids), clicks_near, np.asarray(near.times), rate, params)
    scores = calibrator.apply(logits)
    ranker = trained.build()
    num_embeddings = sum(table.numel() for table in ranker.embedding_parameters())
    return Result(
        ranker=name,
        seed=seed,
        tune_auc=max(record.tune_auc for record in trained.history),
        auc=metrics.auc(clicks_far, scores),
        raw_log_loss=metrics.log_loss(clicks_far, sigmoid(logits)),
        log_loss=metrics.log_loss(clicks_far, scores),
        calibration_error=metrics.expected_calibration_error(clicks_far, scores, _NUM_BINS),
        calibration_error_null=metrics.calibration_error_null(scores, _NUM_BINS, _CALIBRATION_DRAWS, 0.95, seed),
        num_parameters=sum(parameter.numel() for parameter in ranker.parameters()) - num_embeddings,
    )


def _with_planted(workspace: Workspace, encoded: Encoded, scratch: Path) -> Encoded:
    """The encoded log with one more field for each planted combination; ids from train, 1 for combinations not in it."""
    request = workspace.read("raw_log", RawLog).request
    if request.source.format != "simulated":
        raise ConfigError(
            f"{PLANTED} needs a simulated log: only there it is known what was planted, not in {request.log}"
        )
    terms = planted_terms(options_of(request, SimulatedParams))
    names = encoded.field_names
    columns = [[names.index(field) for field in term.fields] for term in terms]
    folder = scratch / "planted"
    folder.mkdir()
    keys = {name: [_combined(encoded, name, places) for places in columns] for name in SPLIT_NAMES}
    known = [np.unique(keys["train"][number]) for number in range(len(terms))]
    for name in SPLIT_NAMES:
        split = encoded.split(name)
        crossed = [_places(known[number], keys[name][number]) for number in range(len(terms))]
        np.save(folder / f"ids_{name}.npy", np.column_stack([np.asarray(split.ids), *crossed]).astype(np.int32))
        np.save(folder / f"clicks_{name}.npy", np.asarray(split.clicks))
        np.save(folder / f"times_{name}.npy", np.asarray(split.times))
    sizes = (*encoded.field_sizes, *(len(values) + 2 for values in known))
    return _Crossed(encoded.encoder, encoded.coverage, encoded.num_rows, folder, sizes)


@dataclass(frozen=True)
class _Crossed(Encoded):
    """An encoded log with fields that no encoder makes."""

    sizes: tuple[int, ...] = ()

    @property
    def field_sizes(self) -> tuple[int, ...]:
        return self.sizes

    def split(self, name: str) -> EncodedSplit:
        ids, clicks, times = (
            np.load(self.folder / f"{kind}_{name}.npy", mmap_mode="r") for kind in ("ids", "clicks", "times")
        )
        return EncodedSplit(ids, clicks, times)


def _combined(encoded: Encoded, name: str, places: list[int]) -> np.ndarray[Any, Any]:
    ids = np.asarray(encoded.split(name).ids).astype(np.int64)
    key = np.zeros(len(ids), np.int64)
    for place in places:
        key = key * encoded.field_sizes[place] + ids[:, place]
    return key


def _places(known: np.ndarray[Any, Any], keys: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    at = np.clip(np.searchsorted(known, keys), 0, len(known) - 1)
    return np.where(known[at] == keys, at + 2, 1)


def _oracle(workspace: Workspace) -> dict[str, Any] | None:
    truth = sources.scan_truth(workspace.read("raw_log", RawLog))
    if truth is None:
        return None
    rows = workspace.read("splits", Splits).rows_of("test")
    clean = workspace.read("clean_log", CleanLog).scan().select("_row", IMPRESSION, CLICK)
    test = clean.collect()[rows].join(truth.collect(), on=IMPRESSION, how="inner")
    clicks, scores = test[CLICK].to_numpy(), test["probability"].to_numpy()
    return {
        "num_seeds": 1,
        "auc": [metrics.auc(clicks, scores), 0.0],
        "log_loss": [metrics.log_loss(clicks, scores), 0.0],
        "calibration_error": [metrics.expected_calibration_error(clicks, scores, _NUM_BINS), 0.0],
        "calibration_error_null": metrics.calibration_error_null(scores, _NUM_BINS, _CALIBRATION_DRAWS, 0.95, 0),
    }


def _summary(results: list[Result]) -> dict[str, Any]:
    def spread(name: str) -> list[float]:
        values = [float(getattr(one, name)) for one in results]
        return [statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0]

    names = ("tune_auc", "auc", "raw_log_loss", "log_loss", "calibration_error")
    return {
        "num_seeds": len(results),
        **{name: spread(name) for name in names},
        "calibration_error_null": statistics.fmean(one.calibration_error_null for one in results),
        "num_parameters": results[0].num_parameters,
    }


def _line(one: Result) -> str:
    return (
        f"{one.ranker:<16} seed {one.seed}: tune AUC {one.tune_auc:.5f}, test AUC {one.auc:.5f}, "
        f"log loss {one.raw_log_loss:.5f} raw, {one.log_loss:.5f} calibrated, ECE {one.calibration_error:.5f} "
        f"(null {one.calibration_error_null:.5f}), {one.num_parameters:,} parameters"
    )


def _markdown(table: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| ranker | seeds | test AUC | log loss, raw | log loss, calibrated | ECE (null) | parameters |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, figures in table.items():
        lines.append(
            f"| {name} | {figures['num_seeds']} | {_pm(figures['auc'])} | {_pm(figures.get('raw_log_loss'))} | "
            f"{_pm(figures['log_loss'])} | {figures['calibration_error'][0]:.4f} ({figures['calibration_error_null']:.4f}) | "
            f"{figures.get('num_parameters', 0):,} |"
        )
    return "\n".join(lines)


def _pm(pair: list[float] | None) -> str:
    return "" if pair is None else f"{pair[0]:.5f} ± {pair[1]:.5f}"
