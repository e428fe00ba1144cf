"""What each way to handle few clicks does to calibration: `python -m pipeline bench imbalance`, on a log whose truth is known.

One ranker is trained on all rows as they are, on a share of the negatives, with weighted clicks and with the focal loss.
Then its scores are held against the clicks and the true probabilities of test: as they come out, after the exact
correction q = p / (p + (1 - p) / w), and after each calibration on top. Shape letter: R test rows.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from components import metrics
from components.calibrating import METHODS, CalibrateParams, fit_calibrator, sigmoid
from components.encoding import Encoded
from components.errors import ConfigError
from components.log import CleanLog, RawLog
from components.splitting import Splits
from components.training import TrainedRanker, TrainParams, train_ranker
from components.workbench import Progress
from pipeline.leaderboard.planted import true_scores
from pipeline.params import Settings
from pipeline.run import RunOptions, StopFlag, Workspace, stop_signals, workbench_for

_NUM_BINS = 20
_WAYS: dict[str, dict[str, float]] = {
    "all rows alike": {},
    "a tenth of the negatives": {"negative_keep_rate": 0.1},
    "clicks count ten times": {"click_weight": 10.0},
    "focal loss, gamma 2": {"focal_gamma": 2.0},
}


def run_bench_imbalance(workspace: Workspace, settings: Settings, ranker: str, progress: Progress) -> dict[str, Any]:
    """Train `ranker` in each way, print a table, and give the figures by way and treatment; raises ConfigError without truth."""
    encoded = workspace.read("encoded", Encoded)
    truth_r = true_scores(
        workspace.read("raw_log", RawLog), workspace.read("clean_log", CleanLog), workspace.read("splits", Splits)
    )
    if truth_r is None:
        raise ConfigError(
            f"bench imbalance: the true probabilities of '{settings.log}' are not known; take a simulated log"
        )
    plain = dataclasses.replace(
        settings.section("train", TrainParams), ranker=ranker, negative_keep_rate=1.0, click_weight=1.0, focal_gamma=0.0
    )
    calibrate = settings.section("calibrate", CalibrateParams)
    options = RunOptions("auto", "auto", None, progress, 1)
    found: dict[str, Any] = {}
    for number, (way, changes) in enumerate(_WAYS.items()):
        stop = StopFlag()
        with stop_signals(stop), workbench_for(f"bench_imbalance_{number}", workspace, options, stop) as workbench:
            trained = train_ranker(encoded, None, dataclasses.replace(plain, **changes), workbench)  # type: ignore[arg-type]
        found[way] = _treated(trained, encoded, truth_r, calibrate)
    print(_markdown(found))
    return {"log": settings.log, "ranker": ranker, "ways": found}


def _treated(
    trained: TrainedRanker, encoded: Encoded, truth_r: np.ndarray[Any, Any], params: CalibrateParams
) -> dict[str, dict[str, float]]:
    near, far = encoded.split("calibrate"), encoded.split("test")
    logits_near, logits_far = trained.logits(near.ids), trained.logits(far.ids)
    scores = {"as it comes out": sigmoid(logits_far)}
    for method in METHODS:
        forced = dataclasses.replace(params, method=method)
        clicks, times = np.asarray(near.clicks), np.asarray(near.times)
        calibrator = fit_calibrator(logits_near, clicks, times, trained.negative_keep_rate, forced)
        scores["corrected" if method == "identity" else f"corrected, {method}"] = calibrator.apply(logits_far)
    clicks_r = np.asarray(far.clicks)
    return {
        name: {
            "auc": metrics.auc(clicks_r, one),
            "log_loss": metrics.log_loss(clicks_r, one),
            "calibration_ratio": metrics.calibration_ratio(clicks_r, one),
            "calibration_error": metrics.expected_calibration_error(clicks_r, one, _NUM_BINS),
            "mean_distance": float(np.abs(one - truth_r).mean()),
        }
        for name, one in scores.items()
    }


def _markdown(found: dict[str, Any]) -> str:
    lines = [
        "| trained on | scores | AUC | log loss | mean score / click rate | ECE | mean distance from the truth |",
        "|---|---|---|---|---|---|---|",
    ]
    for way, treated in found.items():
        for name, one in treated.items():
            lines.append(
                f"| {way} | {name} | {one['auc']:.4f} | {one['log_loss']:.5f} | {one['calibration_ratio']:.3f} | "
                f"{one['calibration_error']:.4f} | {one['mean_distance']:.4f} |"
            )
    return "\n".join(lines)
