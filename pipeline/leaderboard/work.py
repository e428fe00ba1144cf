"""One (ranker, seed) in a process of its own: searched where its row says so, trained, calibrated, exported, measured on test, and kept.

`python -m pipeline.leaderboard.work ROOT TASK` with the task as JSON; a process each, so that its peak memory is its own
and that one which dies takes no other along. Shape letter: R test rows.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from components import metrics
from components.calibrating import Calibrator
from components.encoding import Encoded
from components.errors import CtrError, IntegrityError
from components.evaluating.bootstrapping import measure
from components.exporting import calibrated_scorer, trained_logits
from components.log import RawLog
from components.scoring import Scorer
from components.stepping import threads
from components.strict import parse
from components.training import TrainedRanker, train_ranker
from pipeline.leaderboard.bench import AUTOREC_SEARCHES, Bench, Task, test_clusters
from pipeline.leaderboard.digests import data_digest
from pipeline.leaderboard.planted import PLANTED, with_planted
from pipeline.leaderboard.results import Cost, Identity, Result, Spent, Trial
from pipeline.leaderboard.searches import Found, found_for
from pipeline.leaderboard.stopwatch import Stopwatch
from pipeline.params import read_settings
from pipeline.progress import shown_progress
from pipeline.run import RunOptions, StopFlag, Workspace, stop_signals, workbench_for
from pipeline.subprocesses import ask_for_sigterm_when_the_parent_dies

_PARITY_ROWS = 1000
_TIMINGS = 3


def work(bench: Bench, task: Task) -> None:
    """Do one task and keep what came of it; raises Stopped after a checkpoint when asked to stop."""
    workspace = bench.workspace
    encoded = workspace.read("encoded", Encoded)
    data = data_digest(encoded)
    identity = bench.identity(task, data)
    name = f"leaderboard_{bench.results.place(identity).name}"
    stop = StopFlag()
    with shown_progress(f"{task.row}/{task.seed}") as progress, stop_signals(stop):
        options = RunOptions("auto", "auto", None, progress, 1)
        found = found_for(bench, task, encoded, data, options, stop)
        with workbench_for(name, workspace, options, stop) as workbench:
            if task.row == PLANTED:
                request = workspace.read("raw_log", RawLog).request
                encoded = with_planted(request, encoded, workbench.scratch / "planted")
            with Stopwatch(workbench.checkpoints) as watch:
                architecture = None if found is None else found.architecture
                network = found.line if found is not None and task.row in AUTOREC_SEARCHES else None
                trained = train_ranker(encoded, architecture, bench.params_of(task, network), workbench)
            if task.is_trial:
                spent = Spent(watch.seconds, watch.core_seconds, trained.num_rows_seen)
                trial = Trial(task.row, task.seed, identity, bench.tuned_of(task), trained.tune_auc, spent)
                bench.results.write(trial, None)
            else:
                _keep_result(bench, task, identity, encoded, found, trained, watch)
            watch.forget()


def _keep_result(
    bench: Bench,
    task: Task,
    identity: Identity,
    encoded: Encoded,
    found: Found | None,
    trained: TrainedRanker,
    watch: Stopwatch,
) -> None:
    scorer = calibrated_scorer(encoded.encoder.schema, encoded, trained, bench.calibrate)
    test = encoded.split("test")
    clicks_r = np.asarray(test.clicks)
    logits_r = scorer.logits(test.ids)
    scores_r = scorer.calibrator.apply(logits_r)
    raw_r = Calibrator.identity(trained.negative_keep_rate).apply(logits_r)
    own_r = scorer.calibrator.apply(trained_logits(trained, test.ids[:_PARITY_ROWS]))
    cost = Cost(
        num_parameters=scorer.facts.num_parameters,
        num_embedding_parameters=scorer.facts.num_embedding_parameters,
        num_flops_per_row=scorer.facts.num_flops_per_row,
        num_threads=bench.train.num_threads,
        num_epochs=trained.num_epochs,
        train_seconds=watch.seconds,
        train_core_seconds=watch.core_seconds,
        num_train_rows_seen=trained.num_rows_seen,
        rows_per_second=trained.num_rows_seen / max(watch.seconds, 1e-9),
        peak_memory_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        milliseconds_per_1000=_milliseconds_per_1000(scorer, test.ids[: bench.board.timed_rows]),
    )
    result = Result(
        row=task.row,
        seed=task.seed,
        identity=identity,
        tuned=bench.tuned_of(task),
        tune_auc=trained.tune_auc,
        figures=measure(clicks_r, {task.row: scores_r}, test_clusters(bench), bench.evaluate).figures[task.row],
        raw_log_loss=metrics.log_loss(clicks_r, raw_r),
        raw_calibration_error=metrics.expected_calibration_error(clicks_r, raw_r, bench.evaluate.num_bins),
        calibration=scorer.calibrator.facts.method,
        parity=float(np.abs(own_r - scores_r[:_PARITY_ROWS]).max()),
        architecture=None if found is None else found.line,
        searched=None if found is None else found.spent,
        cost=cost,
    )
    bench.results.write(result, scores_r)


def _milliseconds_per_1000(scorer: Scorer, ids_rf: np.ndarray[Any, Any]) -> float:
    """The fastest of a few passes, because a busy machine only ever adds."""
    scorer.logits(ids_rf[:1])
    seconds = []
    for _ in range(_TIMINGS):
        started = time.perf_counter()
        scorer.logits(ids_rf)
        seconds.append(time.perf_counter() - started)
    return min(seconds) / len(ids_rf) * 1000 * 1000


def main() -> None:
    """Do the task that the command line names; an error of ours becomes one line on stderr and its exit code."""
    ask_for_sigterm_when_the_parent_dies()
    root, text = sys.argv[1:]
    try:
        task = parse(Task, json.loads(text), "the board's task", IntegrityError)
        workspace = Workspace(Path(root))
        bench = Bench.of(workspace, read_settings(workspace.root))
        with threads(bench.train.num_threads):  # several processes at once share the cores
            work(bench, task)
    except CtrError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
