"""The board itself: which tasks there are, what came of them, and the files that say it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from components.encoding import Encoded
from components.errors import ConfigError, CtrError
from components.evaluating import Figures
from components.evaluating.bootstrapping import measure
from components.log import CleanLog, RawLog
from components.splitting import Splits
from pipeline.leaderboard.asked import rows_asked_for
from pipeline.leaderboard.bench import Bench, Task, test_clusters
from pipeline.leaderboard.comparing import Difference, SeedsDifference, differences, differences_over_seeds
from pipeline.leaderboard.digests import data_digest
from pipeline.leaderboard.planted import ORACLE, true_scores
from pipeline.leaderboard.results import Failure, Result, Spent, Trial
from pipeline.leaderboard.running import run_tasks
from pipeline.leaderboard.tuning import Tuning
from pipeline.params import Settings
from pipeline.run import Workspace

Kept = TypeVar("Kept", Result, Trial)


@dataclass(frozen=True)
class BoardRow:
    """One line of the table: a ranker's results, or why there is none; differences are from the best of each metric, or from the row asked for.

    tuning      what its trials took; None where it was not tuned
    ..._by_seeds  paired by seed; None for the row compared with, and where fewer than two seeds are common
    """

    name: str
    results: tuple[Result, ...]
    failures: tuple[Failure, ...]
    tuning: Spent | None
    auc_difference: Difference | None
    log_loss_difference: Difference | None
    auc_by_seeds: SeedsDifference | None
    log_loss_by_seeds: SeedsDifference | None


@dataclass(frozen=True)
class Board:
    """Everything the table and the page are made of; rows stand by mean test AUC, those that failed last.

    against  the row that all are compared with; None: the best of each metric
    """

    log: str
    split_rule: str
    num_test_rows: int
    num_test_clicks: int
    cluster_by: str | None
    num_trials: int
    significance: float
    num_bootstraps: int
    data: str
    against: str | None
    rows: tuple[BoardRow, ...]
    oracle: Figures | None


def run_leaderboard(
    workspace: Workspace,
    settings: Settings,
    rankers: Sequence[str],
    seeds: Sequence[int],
    num_workers: int,
    num_trials: int,
    num_first_seeds: int,
    against: str | None = None,
) -> Board:
    """Train, calibrate and measure each ranker with each seed on the workspace's encoded log, and compare them.

    The three rankers that are best on tune then get the seeds 1 to `num_first_seeds` as well (0: none). `against` names the row
    that all are compared with; by default it is the best one.

    What was measured before is taken from where it is kept. Raises ConfigError for a name that is no ranker's, before
    anything starts; a ranker that fails has its reason in its row.
    """
    bench = Bench.of(workspace, settings)
    rows = rows_asked_for(rankers, seeds, bench)
    if against is not None and against not in rows:
        raise ConfigError(f"--against: {against} is not among the rows of this board: {', '.join(rows)}")
    data = data_digest(workspace.read("encoded", Encoded))
    runner = _Runner(bench, data, num_workers)
    tunings = _tune(bench, runner, list(rows), num_trials)
    chosen = {row: tuning.best for row, tuning in tunings.items()}
    tasks = [Task(row, seed, chosen.get(row), is_trial=False) for row, own in rows.items() for seed in own]
    results, failures = _measured(bench, runner, data, tasks)
    first = [
        Task(row, seed, chosen.get(row), is_trial=False)
        for row in _best_on_tune(results)
        for seed in range(1, num_first_seeds + 1)
        if seed not in rows[row]
    ]
    if first:
        results, failures = _measured(bench, runner, data, tasks + first)
    spent = {row: tuning.spent for row, tuning in tunings.items()}
    return _assembled(bench, settings.log, data, num_trials, results, failures, spent, against)


def _measured(
    bench: Bench, runner: _Runner, data: str, tasks: Sequence[Task]
) -> tuple[dict[str, list[Result]], list[Failure]]:
    """Run what is missing of the tasks; give all results by row, in the order of the seeds, and the failures."""
    failures = runner.run(tasks)
    failed = {(one.row, one.seed) for one in failures}
    results: dict[str, list[Result]] = {task.row: [] for task in tasks}
    for task in sorted(tasks, key=lambda task: task.seed):
        if (task.row, task.seed) not in failed:
            found = bench.results.result(bench.identity(task, data))
            results[task.row].append(_there(found, bench))
    return results, failures


def _best_on_tune(results: dict[str, list[Result]]) -> list[str]:
    """The three rankers with the best mean tune AUC: test chooses nothing."""
    measured = [row for row, several in results.items() if several]
    return sorted(measured, key=lambda row: -sum(one.tune_auc for one in results[row]) / len(results[row]))[:3]


def _there(found: Kept | None, bench: Bench) -> Kept:
    """What a process has just left; it lies elsewhere where what it read is no longer what this board began with."""
    if found is None:
        raise ConfigError(
            f"{bench.workspace.root}: params, logs/, artifacts or code changed while the board was running, and a result of "
            "before is not put beside one of after; run the same command again, and let it end before the next change"
        )
    return found


class _Runner:
    """Runs tasks whose results are not kept yet, and says each that is done."""

    def __init__(self, bench: Bench, data: str, num_workers: int) -> None:
        self._bench = bench
        self._data = data
        self._num_workers = num_workers

    def run(self, tasks: Sequence[Task]) -> list[Failure]:
        """Give the failures; a task with impossible params fails before it starts."""
        failures: list[Failure] = []
        missing: list[Task] = []
        for task in tasks:
            try:
                place = self._bench.results.place(self._bench.identity(task, self._data))
            except CtrError as error:
                failures.append(Failure(task.row, task.seed, f"{type(error).__name__}: {error}"))
                continue
            if (place / "result.json").is_file():
                self._say(task)
            else:
                missing.append(task)
        logs = self._bench.workspace.state("leaderboard") / "logs"
        root = self._bench.workspace.root
        return failures + run_tasks(root, missing, logs, self._num_workers, self._say)

    def _say(self, task: Task) -> None:
        identity = self._bench.identity(task, self._data)
        if task.is_trial:
            trial = _there(self._bench.results.trial(identity), self._bench)
            tuned = trial.tuned
            print(
                f"{task.row:<20} trial: tune AUC {trial.tune_auc:.5f} with embedding L2 {tuned.embedding_l2:.3g}, "
                f"learning rate {tuned.learning_rate:.3g}, dropout {tuned.dropout:g}",
                flush=True,
            )
            return
        result = _there(self._bench.results.result(identity), self._bench)
        figures = result.figures
        searched = "" if result.searched is None else f" after {result.searched.core_seconds:.0f} of search"
        print(
            f"{task.row:<20} seed {task.seed}: tune AUC {result.tune_auc:.5f}, test AUC {figures.auc.value:.5f}, log loss "
            f"{result.raw_log_loss:.5f} raw, {figures.log_loss.value:.5f} calibrated, ECE {figures.calibration_error:.5f} "
            f"(null {figures.calibration_error_null:.5f}), {result.cost.num_epochs} epochs in "
            f"{result.cost.train_core_seconds:.0f} core-seconds{searched}",
            flush=True,
        )


def _tune(bench: Bench, runner: _Runner, rows: Sequence[str], num_trials: int) -> dict[str, Tuning]:
    """The finished tunings; a row whose params are impossible has none, and says why when it is to be measured."""
    tunings: dict[str, Tuning] = {}
    if num_trials == 0:
        return tunings
    for row in rows:
        with suppress(CtrError):
            tunings[row] = Tuning(bench, row)
    data = data_digest(bench.workspace.read("encoded", Encoded))
    for _ in range(num_trials):
        tasks = {row: tuning.next_task() for row, tuning in tunings.items()}
        failed = {one.row for one in runner.run(list(tasks.values()))}
        for row, task in tasks.items():
            tunings[row].take(None if row in failed else bench.results.trial(bench.identity(task, data)))
    return tunings


def _assembled(
    bench: Bench,
    log: str,
    data: str,
    num_trials: int,
    results: dict[str, list[Result]],
    failures: list[Failure],
    tuning: Mapping[str, Spent | None],
    against: str | None,
) -> Board:
    workspace = bench.workspace
    clicks_r = np.asarray(workspace.read("encoded", Encoded).split("test").clicks)
    clusters_r = test_clusters(bench)
    splits = workspace.read("splits", Splits)
    scores = {row: [bench.results.scores(one) for one in several] for row, several in results.items() if several}
    board = bench.board
    against = against if against in scores else None  # a row that failed is nothing to be compared with
    compared = differences(clicks_r, scores, clusters_r, board.num_bootstraps, board.seed, against) if scores else {}
    of_seeds = {
        "auc": {
            row: {one.seed: one.figures.auc.value for one in several} for row, several in results.items() if several
        },
        "log_loss": {
            row: {one.seed: one.figures.log_loss.value for one in several}
            for row, several in results.items()
            if several
        },
    }
    by_seeds = {
        metric: differences_over_seeds(
            figures, next(row for row in figures if row not in compared[metric]), board.significance
        )
        for metric, figures in of_seeds.items()
        if figures
    }
    truth = true_scores(workspace.read("raw_log", RawLog), workspace.read("clean_log", CleanLog), splits)
    oracle = None
    if truth is not None:
        oracle = measure(clicks_r, {ORACLE: truth}, clusters_r, bench.evaluate).figures[ORACLE]
    rows = [
        BoardRow(
            name,
            tuple(several),
            tuple(one for one in failures if one.row == name),
            tuning.get(name),
            compared.get("auc", {}).get(name),
            compared.get("log_loss", {}).get(name),
            by_seeds.get("auc", {}).get(name),
            by_seeds.get("log_loss", {}).get(name),
        )
        for name, several in results.items()
    ]
    rows.sort(key=lambda row: -sum(one.figures.auc.value for one in row.results) / max(len(row.results), 1))
    return Board(
        log=log,
        split_rule=splits.rule,
        num_test_rows=len(clicks_r),
        num_test_clicks=int(clicks_r.sum(dtype=np.int64)),
        cluster_by=bench.evaluate.cluster_by,
        num_trials=num_trials,
        significance=board.significance,
        num_bootstraps=board.num_bootstraps,
        data=data,
        against=against,
        rows=tuple(rows),
        oracle=oracle,
    )


def write_board(board: Board, folder: Path) -> dict[str, Any]:
    """Write leaderboard.md, .csv, .json and .html into `folder`; give the JSON's content."""
    from pipeline.leaderboard import page, table

    folder.mkdir(parents=True, exist_ok=True)
    summary = table.summary(board)
    files = {
        "leaderboard.md": table.markdown(board),
        "leaderboard.csv": table.csv_text(board),
        "leaderboard.json": table.json_text(summary),
        "leaderboard.html": page.html(board),
    }
    for name, text in files.items():
        unfinished = folder / f".{name}.{os.getpid()}"
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(folder / name)
    return summary
