"""One (ranker, seed) in a process of its own: trained, calibrated, exported, measured on test, and kept.

`python -m pipeline.leaderboard.work ROOT TASK` with the task as JSON; a process each, so that its peak memory is its own
and that one which dies takes no other along. Shape letter: R test rows.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from components import metrics
from components.autopi.architecture import FoundArchitecture
from components.calibrating import Calibrator
from components.encoding import Encoded
from components.errors import CtrError, IntegrityError
from components.evaluating import EvaluateParams
from components.evaluating.bootstrapping import measure
from components.evaluating.slicing import cluster_numbers, columns_needed
from components.exporting import CalibrateParams, calibrated_scorer, trained_logits
from components.log import TIME, CleanLog, RawLog
from components.rankers import RANKERS
from components.scoring import Scorer
from components.splitting import Splits
from components.strict import Strict, parse
from components.training import AUTOPI, TrainedRanker, TrainParams, train_ranker
from components.training.promises import check_params
from pipeline.leaderboard.digests import code_digest, data_digest
from pipeline.leaderboard.params import LeaderboardParams
from pipeline.leaderboard.planted import PLANTED, with_planted
from pipeline.leaderboard.results import Cost, Identity, Result, Results, Trial, Tuned
from pipeline.params import Settings, read_settings
from pipeline.progress import shown_progress
from pipeline.run import RunOptions, StopFlag, Workspace, stop_signals, workbench_for
from pipeline.subprocesses import ask_for_sigterm_when_the_parent_dies

_PARITY_ROWS = 1000
_TIMINGS = 3


@dataclass(frozen=True)
class Task(Strict):
    """What one process does.

    row       the name in the table
    tuned     takes the place of the preset; None: the preset
    is_trial  look at tune alone
    """

    row: str
    seed: int
    tuned: Tuned | None
    is_trial: bool

    @property
    def ranker(self) -> str:
        """The ranker's name behind the row's."""
        return "linear" if self.row == PLANTED else self.row


@dataclass(frozen=True)
class Bench:
    """A workspace with the params that every task reads."""

    workspace: Workspace
    train: TrainParams
    calibrate: CalibrateParams
    evaluate: EvaluateParams
    board: LeaderboardParams

    @classmethod
    def of(cls, workspace: Workspace, settings: Settings) -> Bench:
        """Read the four sections; raises ConfigError."""
        return cls(
            workspace,
            settings.section("train", TrainParams),
            settings.section("calibrate", CalibrateParams),
            settings.section("evaluate", EvaluateParams),
            settings.section("leaderboard", LeaderboardParams),
        )

    @property
    def results(self) -> Results:
        """Where results are kept."""
        return Results(self.workspace.state("leaderboard"))

    def architecture(self) -> FoundArchitecture | None:
        """The searched architecture, if the search was run here."""
        is_there = self.workspace.folder("architecture").is_dir()
        return self.workspace.read("architecture", FoundArchitecture) if is_there else None

    def params_of(self, task: Task) -> TrainParams:
        """What this task trains with; raises ConfigError for params that make no sense."""
        params = dataclasses.replace(self.train, ranker=task.ranker, seed=task.seed)
        check_params(params)
        if task.tuned is None:
            return params
        shape = dataclasses.replace(params.ranker_params[task.ranker], dropout=task.tuned.dropout)
        return dataclasses.replace(
            params,
            ranker_params=params.ranker_params | {task.ranker: shape},
            embedding_l2=params.embedding_l2 | {task.ranker: task.tuned.embedding_l2},
            learning_rate=params.learning_rate | {task.ranker: task.tuned.learning_rate},
        )

    def tuned_of(self, task: Task) -> Tuned:
        """The numbers that tuning may change, as this task has them."""
        params = self.params_of(task)
        shape = params.ranker_params[task.ranker]
        return Tuned(params.own_embedding_l2, params.own_learning_rate, shape.dropout)

    def identity(self, task: Task, data: str) -> Identity:
        """What the task's result belongs to; `data` is the digest of the encoded log."""
        params = self.params_of(task)
        facts = dataclasses.asdict(params)
        for by_ranker in ("ranker_params", "embedding_l2", "learning_rate"):  # others' params change nothing here
            facts[by_ranker] = {}
        found = self.architecture() if task.ranker == AUTOPI else None
        own = {
            "shape": dataclasses.asdict(params.ranker_params[task.ranker]),
            "embedding_l2": params.own_embedding_l2,
            "learning_rate": params.own_learning_rate,
        }
        return {
            "row": task.row,
            "is_trial": task.is_trial,
            "data": data,
            "code": code_digest(task.ranker),
            "train": json.loads(json.dumps(facts | own)),
            "calibrate": None if task.is_trial else dataclasses.asdict(self.calibrate),
            "evaluate": None if task.is_trial else json.loads(json.dumps(dataclasses.asdict(self.evaluate))),
            "architecture": None if found is None else found.architecture.to_text(),
            "torch": torch.__version__,
        }


def work(bench: Bench, task: Task) -> None:
    """Do one task and keep what came of it; raises Stopped after a checkpoint when asked to stop."""
    workspace = bench.workspace
    encoded = workspace.read("encoded", Encoded)
    identity = bench.identity(task, data_digest(encoded))
    name = f"leaderboard_{bench.results.place(identity).name}"
    stop = StopFlag()
    with shown_progress(f"{task.row}/{task.seed}") as progress:
        options = RunOptions("auto", "auto", None, progress)
        with stop_signals(stop), workbench_for(name, workspace, options, stop) as bench_of_stage:
            if task.row == PLANTED:
                request = workspace.read("raw_log", RawLog).request
                encoded = with_planted(request, encoded, bench_of_stage.scratch / "planted")
            with _Stopwatch(bench_of_stage.checkpoints) as watch:
                trained = train_ranker(encoded, bench.architecture(), bench.params_of(task), bench_of_stage)
            tune_auc = max(record.tune_auc for record in trained.history)
            if task.is_trial:
                trial = Trial(task.row, task.seed, identity, bench.tuned_of(task), tune_auc)
                bench.results.write(trial, None)
            else:
                _keep_result(bench, task, identity, encoded, trained, watch)
            watch.forget()


def _keep_result(
    bench: Bench, task: Task, identity: Identity, encoded: Encoded, trained: TrainedRanker, watch: _Stopwatch
) -> None:
    scorer = calibrated_scorer(encoded.encoder.schema, encoded, trained, bench.calibrate)
    test = encoded.split("test")
    clicks_r = np.asarray(test.clicks)
    logits_r = scorer.logits(test.ids)
    scores_r = scorer.calibrator.apply(logits_r)
    raw_r = Calibrator.identity(trained.negative_keep_rate).apply(logits_r)
    own_r = scorer.calibrator.apply(trained_logits(trained, test.ids[:_PARITY_ROWS]))
    rows_seen = trained.num_train_rows * len(trained.history)
    cost = Cost(
        num_parameters=scorer.facts.num_parameters,
        num_embedding_parameters=scorer.facts.num_embedding_parameters,
        num_flops_per_row=scorer.facts.num_flops_per_row,
        num_threads=torch.get_num_threads(),
        num_epochs=len(trained.history),
        train_seconds=watch.seconds,
        train_core_seconds=watch.core_seconds,
        rows_per_second=rows_seen / max(watch.seconds, 1e-9),
        peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        milliseconds_per_1000=_milliseconds_per_1000(scorer, test.ids[: bench.board.timed_rows]),
    )
    result = Result(
        row=task.row,
        seed=task.seed,
        identity=identity,
        tuned=bench.tuned_of(task),
        tune_auc=max(record.tune_auc for record in trained.history),
        figures=measure(clicks_r, {task.row: scores_r}, test_clusters(bench), bench.evaluate).figures[task.row],
        raw_log_loss=metrics.log_loss(clicks_r, raw_r),
        raw_calibration_error=metrics.expected_calibration_error(clicks_r, raw_r, bench.evaluate.num_bins),
        calibration=scorer.calibrator.facts.method,
        parity=float(np.abs(own_r - scores_r[:_PARITY_ROWS]).max()),
        cost=cost,
    )
    bench.results.write(result, scores_r)


def test_clusters(bench: Bench) -> np.ndarray[Any, Any]:
    """What the bootstrap resamples: the number of each test row's cluster (R,), as evaluate has it."""
    clean_log, splits = bench.workspace.read("clean_log", CleanLog), bench.workspace.read("splits", Splits)
    params = dataclasses.replace(bench.evaluate, slice_fields=())
    columns = [TIME, *columns_needed(clean_log.schema, params)]
    rows = clean_log.scan().select(columns).collect()[splits.rows_of("test")]
    return cluster_numbers(rows, clean_log.schema, params.cluster_by)


def _milliseconds_per_1000(scorer: Scorer, ids_rf: np.ndarray[Any, Any]) -> float:
    """The fastest of a few passes, because a busy machine only ever adds."""
    scorer.logits(ids_rf[:1])
    seconds = []
    for _ in range(_TIMINGS):
        started = time.perf_counter()
        scorer.logits(ids_rf)
        seconds.append(time.perf_counter() - started)
    return min(seconds) / len(ids_rf) * 1000 * 1000


class _Stopwatch:
    """Seconds of a training, those of its earlier, stopped parts included; kept beside its checkpoint."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "spent.json"
        self.seconds = self.core_seconds = 0.0

    def __enter__(self) -> _Stopwatch:
        if self._file.is_file():
            self.seconds, self.core_seconds = json.loads(self._file.read_text(encoding="utf-8"))
        self._started = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._started[0]
        self.core_seconds += time.process_time() - self._started[1]
        if self._folder.is_dir():
            self._file.write_text(json.dumps([self.seconds, self.core_seconds]), encoding="utf-8")

    def forget(self) -> None:
        """Remove the checkpoint: the result is kept."""
        for path in self._folder.glob("*"):
            path.unlink()
        self._folder.rmdir()


def main() -> None:
    """Do the task that the command line names; an error of ours becomes one line on stderr and its exit code."""
    ask_for_sigterm_when_the_parent_dies()
    root, text = sys.argv[1:]
    torch.set_num_threads(int(os.environ["CTR_LEADERBOARD_THREADS"]))
    try:
        task = parse(Task, json.loads(text), "the board's task", IntegrityError)
        workspace = Workspace(Path(root))
        work(Bench.of(workspace, read_settings(workspace.root)), task)
    except CtrError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def known_rows() -> list[str]:
    """Every name that a table may be asked for."""
    return [AUTOPI, *RANKERS, PLANTED]


if __name__ == "__main__":
    main()
