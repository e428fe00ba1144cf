"""What every task reads: the workspace with its params; and what one task is, with the identity that its result is kept by."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from components.autopi.architecture import FoundArchitecture
from components.autopi.search_params import SearchParams
from components.autopi.search_params import check_params as check_search_params
from components.autopi.searching import STRATEGIES
from components.evaluating import EvaluateParams
from components.evaluating.slicing import cluster_numbers, columns_needed
from components.exporting import CalibrateParams
from components.log import TIME, CleanLog
from components.rankers import RANKERS
from components.rankers.autorec import AutoRecParams
from components.splitting import Splits
from components.strict import Strict
from components.training import AUTOPI, TrainParams
from components.training.promises import check_params
from pipeline.leaderboard.autorec import AUTOREC
from pipeline.leaderboard.autorec import STRATEGIES as AUTOREC_STRATEGIES
from pipeline.leaderboard.digests import code_digest, search_digest
from pipeline.leaderboard.params import LeaderboardParams
from pipeline.leaderboard.planted import PLANTED
from pipeline.leaderboard.results import Identity, Results, Tuned
from pipeline.params import Settings
from pipeline.run import Workspace

AUTOPI_SEARCHES = {f"{AUTOPI}_{strategy}": strategy for strategy in STRATEGIES if strategy != "fixed"}
AUTOREC_SEARCHES = {f"{AUTOREC}_{strategy}": strategy for strategy in AUTOREC_STRATEGIES}
SEARCHED = AUTOPI_SEARCHES | AUTOREC_SEARCHES
"""Row -> strategy of the search that each of its seeds begins with."""


def known_rows() -> list[str]:
    """Every name that a table may be asked for."""
    return [AUTOPI, *SEARCHED, *(name for name in RANKERS if name != AUTOREC), PLANTED]


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
        if self.row == PLANTED:
            return "linear"
        if self.row in AUTOREC_SEARCHES:
            return AUTOREC
        return AUTOPI if self.row in AUTOPI_SEARCHES else self.row


@dataclass(frozen=True)
class Bench:
    """A workspace with the params that every task reads."""

    workspace: Workspace
    train: TrainParams
    search: SearchParams
    calibrate: CalibrateParams
    evaluate: EvaluateParams
    board: LeaderboardParams

    @classmethod
    def of(cls, workspace: Workspace, settings: Settings) -> Bench:
        """Read the five sections; raises ConfigError."""
        return cls(
            workspace,
            settings.section("train", TrainParams),
            settings.section("search", SearchParams),
            settings.section("calibrate", CalibrateParams),
            settings.section("evaluate", EvaluateParams),
            settings.section("leaderboard", LeaderboardParams),
        )

    @property
    def results(self) -> Results:
        """Where results are kept."""
        return Results(self.workspace.state("leaderboard"))

    def architecture(self) -> FoundArchitecture | None:
        """What the workspace's own search stage found, if it was run here."""
        is_there = self.workspace.folder("architecture").is_dir()
        return self.workspace.read("architecture", FoundArchitecture) if is_there else None

    def search_params_of(self, task: Task) -> SearchParams:
        """How a searched row's task searches: the search stage's params with the task's seed, and the row's strategy where it is AutoPI's."""
        strategy = AUTOPI_SEARCHES.get(task.row, "random")
        changes: dict[str, Any] = {"strategy": strategy, "seed": task.seed, "fixed_architecture": None}
        params = dataclasses.replace(self.search, **changes)
        check_search_params(params)
        return params

    def params_of(self, task: Task, network: str | None = None) -> TrainParams:
        """What this task trains with, `network` being what a search of AutoRec's space found; raises ConfigError for params that make no sense."""
        params = dataclasses.replace(self.train, ranker=task.ranker, seed=task.seed)
        check_params(params)
        shape = params.ranker_params[task.ranker]
        if network is not None:
            assert isinstance(shape, AutoRecParams)
            shape = dataclasses.replace(shape, network=network)
        if task.tuned is not None:
            shape = dataclasses.replace(shape, dropout=task.tuned.dropout)
            params = dataclasses.replace(
                params,
                embedding_l2=params.embedding_l2 | {task.ranker: task.tuned.embedding_l2},
                learning_rate=params.learning_rate | {task.ranker: task.tuned.learning_rate},
            )
        return dataclasses.replace(params, ranker_params=params.ranker_params | {task.ranker: shape})

    def tuned_of(self, task: Task) -> Tuned:
        """The numbers that tuning may change, as this task has them."""
        params = self.params_of(task)
        shape = params.ranker_params[task.ranker]
        return Tuned(params.own_embedding_l2, params.own_learning_rate, shape.dropout)

    def search_identity(self, task: Task, data: str) -> Identity | None:
        """What the search of a searched row's task belongs to, None for other rows; tuning changes no search."""
        if task.row not in SEARCHED:
            return None
        search = dataclasses.asdict(self.search_params_of(task))
        if task.row in AUTOREC_SEARCHES:
            search = {
                "strategy": task.row,
                "seed": task.seed,
                "trial": search["trial"],
                "epochs": self.board.autorec_epochs,
                "train": self._train_facts(self.params_of(dataclasses.replace(task, tuned=None))),
            }
        return {
            "search": _plain(search),
            "data": data,
            "code": search_digest(task.ranker),
            "torch": torch.__version__,
        }

    def identity(self, task: Task, data: str) -> Identity:
        """What the task's result belongs to; `data` is the digest of the encoded log."""
        found = self.architecture() if task.row == AUTOPI else None
        return {
            "row": task.row,
            "is_trial": task.is_trial,
            "data": data,
            "code": code_digest(task.ranker),
            "train": _plain(self._train_facts(self.params_of(task))),
            "search": self.search_identity(task, data),
            "calibrate": None if task.is_trial else dataclasses.asdict(self.calibrate),
            "evaluate": None if task.is_trial else _plain(dataclasses.asdict(self.evaluate)),
            "architecture": None if found is None else found.architecture.to_text(),
            "torch": torch.__version__,
        }

    @staticmethod
    def _train_facts(params: TrainParams) -> dict[str, Any]:
        """What of the params counts for their ranker: others' own change nothing."""
        own: dict[str, Any] = {
            "ranker_params": {},
            "shape": dataclasses.asdict(params.ranker_params[params.ranker]),
            "embedding_l2": params.own_embedding_l2,
            "learning_rate": params.own_learning_rate,
        }
        return dataclasses.asdict(params) | own


def test_clusters(bench: Bench) -> np.ndarray[Any, Any]:
    """What the bootstrap resamples: the number of each test row's cluster (R,), as evaluate has it."""
    clean_log, splits = bench.workspace.read("clean_log", CleanLog), bench.workspace.read("splits", Splits)
    params = dataclasses.replace(bench.evaluate, slice_fields=())
    columns = [TIME, *columns_needed(clean_log.schema, params)]
    rows = clean_log.scan().select(columns).collect()[splits.rows_of("test")]
    return cluster_numbers(rows, clean_log.schema, params.cluster_by)


def _plain(facts: dict[str, Any]) -> Any:
    """As it is after a way through JSON, so that identities read back are equal."""
    return json.loads(json.dumps(facts))
