"""The search that a (searched row, seed) begins with: run once on train and tune, and kept with what it took."""

from __future__ import annotations

from dataclasses import dataclass, replace

from components.autopi.architecture import FoundArchitecture
from components.autopi.cost import read_cost
from components.autopi.searching import search_architecture
from components.encoding import Encoded
from components.training import AUTOPI
from components.workbench import Workbench
from pipeline.leaderboard.autorec import search_autorec
from pipeline.leaderboard.bench import AUTOPI_SEARCHES, AUTOREC_SEARCHES, Bench, Task
from pipeline.leaderboard.results import Search, Spent, key_of
from pipeline.leaderboard.stopwatch import Stopwatch
from pipeline.run import RunOptions, StopFlag, workbench_for


@dataclass(frozen=True)
class Found:
    """What a task's search found, as one line, and what it took (None where nobody wrote that down).

    architecture  of AutoPI's space; None where the line is a network of AutoRec's
    """

    line: str
    architecture: FoundArchitecture | None
    spent: Spent | None


def found_for(
    bench: Bench, task: Task, encoded: Encoded, data: str, options: RunOptions, stop: StopFlag
) -> Found | None:
    """The architecture of a task's row: the workspace's own, or that of this seed's search, which is run if it is not kept.

    None for a plain ranker, and for "autopi" where the search stage was not run (the training says so). Raises what a
    search raises, and Stopped after a checkpoint when asked to stop.
    """
    if task.row == AUTOPI:
        own = bench.architecture()
        return None if own is None else Found(own.architecture.to_text(), own, _cost_of_stage(bench, own))
    identity = bench.search_identity(task, data)
    if identity is None:
        return None
    kept = bench.results.search(identity)
    if kept is None:
        with workbench_for(f"leaderboard_search_{key_of(identity)}", bench.workspace, options, stop) as workbench:
            with Stopwatch(workbench.checkpoints) as watch:
                line, rows, found = _search(bench, task, encoded, workbench)
            kept = Search(identity, line, Spent(watch.seconds, watch.core_seconds, rows))
            bench.results.write_search(kept, found)
            watch.forget()
    architecture = bench.results.architecture(kept) if task.row in AUTOPI_SEARCHES else None
    return Found(kept.line, architecture, kept.spent)


def _search(
    bench: Bench, task: Task, encoded: Encoded, workbench: Workbench
) -> tuple[str, int, FoundArchitecture | None]:
    """The line, the rows seen, and AutoPI's artifact."""
    params = bench.search_params_of(task)
    if task.row in AUTOPI_SEARCHES:
        found = search_architecture(encoded, params, workbench)
        return found.architecture.to_text(), found.rows_seen + found.trial_rows, found
    preset = bench.params_of(replace(task, tuned=None))
    strategy, epochs = AUTOREC_SEARCHES[task.row], bench.board.autorec_epochs
    return (*search_autorec(encoded, preset, params, strategy, epochs, workbench), None)


def _cost_of_stage(bench: Bench, found: FoundArchitecture) -> Spent | None:
    """What the search stage left beside its checkpoints, if it is of this architecture."""
    cost = read_cost(bench.workspace.state("checkpoints") / "search", found)
    return None if cost is None else Spent(cost.seconds, cost.core_seconds, cost.supernet_rows + cost.trial_rows)
