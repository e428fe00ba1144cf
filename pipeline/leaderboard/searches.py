"""The search that a (searched row, seed) begins with: run once on train and tune, and kept with what it took."""

from __future__ import annotations

from dataclasses import dataclass

from components.autopi.architecture import FoundArchitecture
from components.autopi.cost import read_cost
from components.autopi.searching import search_architecture
from components.encoding import Encoded
from components.training import AUTOPI
from pipeline.leaderboard.bench import Bench, Task
from pipeline.leaderboard.results import Search, Spent, key_of
from pipeline.leaderboard.stopwatch import Stopwatch
from pipeline.run import RunOptions, StopFlag, workbench_for


@dataclass(frozen=True)
class Found:
    """What a task trains that needs an architecture, and what it took to find; None where nobody wrote that down."""

    architecture: FoundArchitecture
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
        return None if own is None else Found(own, _cost_of_stage(bench, own))
    params, identity = bench.search_params_of(task), bench.search_identity(task, data)
    if params is None or identity is None:
        return None
    kept = bench.results.search(identity)
    if kept is None:
        name = f"leaderboard_search_{key_of(identity)}"
        with workbench_for(name, bench.workspace, options, stop) as workbench:
            with Stopwatch(workbench.checkpoints) as watch:
                found = search_architecture(encoded, params, workbench)
            spent = Spent(watch.seconds, watch.core_seconds, found.rows_seen + found.trial_rows)
            kept = Search(identity, found.architecture.to_text(), spent)
            bench.results.write_search(kept, found)
            watch.forget()
    return Found(bench.results.architecture(kept), kept.spent)


def _cost_of_stage(bench: Bench, found: FoundArchitecture) -> Spent | None:
    """What the search stage left beside its checkpoints, if it is of this architecture."""
    cost = read_cost(bench.workspace.state("checkpoints") / "search", found)
    return None if cost is None else Spent(cost.seconds, cost.core_seconds, cost.supernet_rows + cost.trial_rows)
