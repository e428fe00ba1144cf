"""Searched rows of the board: a search a seed, kept, seen by train and tune alone, with what it took; one failing alone."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from typing import Any

import numpy as np
import pytest

from components.autopi.architecture import Architecture
from components.encoding import Encoded, EncodedSplit
from components.errors import ConfigError
from components.rankers import RANKERS
from components.rankers.autorec import read_line, to_line
from pipeline.leaderboard import page, table
from pipeline.leaderboard.bench import SEARCHED, Bench, Task
from pipeline.leaderboard.board import Board, run_leaderboard
from pipeline.leaderboard.digests import data_digest
from pipeline.leaderboard.results import Spent
from pipeline.leaderboard.searches import found_for
from pipeline.leaderboard.tuning import Tuning
from pipeline.leaderboard.work import work
from pipeline.params import Settings
from pipeline.progress import shown_progress
from pipeline.run import RunOptions, StopFlag, Workspace
from tests.board_world import make_workspace, write_search


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("board"), tmp_path_factory.mktemp("line"))


@pytest.fixture(scope="module")
def settings(workspace: Workspace) -> Settings:
    return write_search(workspace.root)


@pytest.fixture(scope="module")
def finished(workspace: Workspace, settings: Settings) -> Board:
    """Two seeds of halving and one of a plain ranker, tuned by one trial, worked here; and a search that diverges in its process."""
    diverging = write_search(workspace.root, weight_rate=1e30)
    broken = run_leaderboard(workspace, diverging, ["autopi_darts"], [1], 1, 0, 0)
    settings = write_search(workspace.root)
    bench = Bench.of(workspace, settings)
    for row, seeds in (("linear", (1,)), ("autopi_halving", (1, 2))):
        trial = Tuning(bench, row).next_task()
        work(bench, trial)
        for seed in seeds:
            work(bench, Task(row, seed, trial.tuned, is_trial=False))
    made = run_leaderboard(workspace, settings, ["linear:1", "autopi_halving"], [1, 2], 1, 1, 0)
    return dataclasses.replace(made, rows=(*made.rows, *broken.rows))


def row_of(board: Board, name: str) -> Any:
    return next(row for row in board.rows if row.name == name)


def options() -> RunOptions:
    with shown_progress("search") as progress:
        return RunOptions("cpu", "auto", None, progress, 1)


@dataclasses.dataclass(frozen=True)
class Guarded(Encoded):
    """An encoded log whose held-out splits nobody may open."""

    def split(self, name: str) -> EncodedSplit:
        assert name in ("train", "tune")
        return super().split(name)


@pytest.mark.parametrize("row", ["autopi_darts", "autopi_random", "autorec_bayesian"])
def test_a_search_opens_train_and_tune_alone_and_is_kept(workspace: Workspace, settings: Settings, row: str) -> None:
    bench = Bench.of(workspace, settings)
    encoded = workspace.read("encoded", Encoded)
    guarded = Guarded(encoded.encoder, encoded.coverage, encoded.num_rows, encoded.folder)
    task, data = Task(row, 3, None, is_trial=False), data_digest(encoded)
    first = found_for(bench, task, guarded, data, options(), StopFlag())
    assert first is not None
    identity = bench.search_identity(task, data)
    assert identity is not None
    kept = bench.results.search(identity)
    assert kept is not None
    assert kept.line == first.line
    if first.architecture is not None:
        assert kept.line == first.architecture.architecture.to_text()
    written = bench.results.place(identity) / "search.json"
    before = written.stat().st_mtime_ns
    tuned = dataclasses.replace(bench.tuned_of(task), learning_rate=0.5)
    again = found_for(bench, dataclasses.replace(task, tuned=tuned), guarded, data, options(), StopFlag())
    assert again == first
    assert written.stat().st_mtime_ns == before
    assert not list((workspace.root / ".ctr" / "checkpoints").glob("leaderboard_search_*"))


def test_each_seed_searches_for_itself_and_its_cost_is_what_passed_through(
    finished: Board, workspace: Workspace
) -> None:
    results = row_of(finished, "autopi_halving").results
    assert [one.seed for one in results] == [1, 2]
    searches = [one.identity["search"] for one in results]
    assert [(one["search"]["strategy"], one["search"]["seed"]) for one in searches] == [("halving", 1), ("halving", 2)]
    num_train = len(workspace.read("encoded", Encoded).split("train").clicks)
    for one in results:
        assert Architecture.from_text(one.architecture, "the board").to_text() == one.architecture
        # Two candidates for half an epoch, one of them for the other half: 1.5 epochs, to a batch of 512 each.
        assert one.searched.rows == pytest.approx(1.5 * num_train, abs=3 * 512)
        assert one.searched.core_seconds > 0


def test_a_search_that_fails_is_told_in_its_row(finished: Board) -> None:
    row = row_of(finished, "autopi_darts")
    assert row.results == ()
    assert "ConfigError: the search diverged in epoch 1" in row.failures[0].reason
    assert "- autopi_darts, seed 1: ConfigError: the search diverged" in table.markdown(finished)


def test_trials_of_tuning_count_as_search_and_seeds_searches_as_their_mean(finished: Board) -> None:
    plain, searched = row_of(finished, "linear"), row_of(finished, "autopi_halving")
    assert table.search_cost(plain) == plain.tuning
    # One trial of logistic regression: as many rows as a training of as many epochs.
    assert plain.tuning.rows == plain.results[0].cost.num_train_rows_seen
    whole = table.search_cost(searched)
    assert whole is not None
    assert searched.tuning is not None
    mean = np.mean([one.searched.core_seconds for one in searched.results])
    assert whole.core_seconds == pytest.approx(mean + searched.tuning.core_seconds)
    unknown = dataclasses.replace(searched, results=(dataclasses.replace(searched.results[0], searched=None),))
    assert table.search_cost(unknown) is None


def test_tables_page_and_files_hold_the_search_cost(finished: Board) -> None:
    facts = json.loads(table.json_text(table.summary(finished)))["rankers"]
    whole = table.search_cost(row_of(finished, "autopi_halving"))
    assert whole is not None
    assert facts["autopi_halving"]["search"] == vars(whole)
    assert sorted(facts["autopi_halving"]["architectures"]) == ["1", "2"]
    assert facts["linear"]["architectures"] == {}
    text = table.markdown(finished)
    seen = f"{whole.rows / 1e6:.2f} + {np.mean([one.cost.num_train_rows_seen for one in finished.rows[0].results]) / 1e6:.2f}"
    assert f"| {seen} |" in text
    assert f"<td class=num>{seen}</td>" in page.html(finished)
    lines = list(csv.DictReader(io.StringIO(table.csv_text(finished))))
    halving = [line for line in lines if line["ranker"] == "autopi_halving"]
    assert [line["architecture"] for line in halving] == [
        one.architecture for one in row_of(finished, "autopi_halving").results
    ]
    assert all(float(line["search_rows_seen"]) > 0 for line in lines)


def test_names_stand_for_groups_and_numbers_of_seeds(workspace: Workspace, settings: Settings) -> None:
    made = run_leaderboard(workspace, settings, ["linear:1"], [1, 2], 1, 0, 0)
    assert [one.seed for one in made.rows[0].results] == [1]
    with pytest.raises(ConfigError, match="'linear:none' asks for no number of seeds; write linear:3"):
        run_leaderboard(workspace, settings, ["linear:none"], [1], 1, 0, 0)
    with pytest.raises(ConfigError, match="there is no nothing; choose among plain, searched, autopi, autopi_darts"):
        run_leaderboard(workspace, settings, ["searched", "nothing"], [1], 1, 0, 0)
    assert {"autopi_darts", "autopi_halving", "autopi_random"} <= set(SEARCHED)
    assert {"autorec_random", "autorec_greedy", "autorec_bayesian"} <= set(SEARCHED)


def test_what_a_search_of_autorecs_space_found_is_what_is_trained(workspace: Workspace, settings: Settings) -> None:
    bench = Bench.of(workspace, settings)
    task, data = Task("autorec_random", 1, None, is_trial=False), data_digest(workspace.read("encoded", Encoded))
    work(bench, task)
    result = bench.results.result(bench.identity(task, data))
    assert result is not None
    assert result.searched is not None
    assert result.architecture == to_line(read_line(result.architecture or ""))
    shape = bench.params_of(task, result.architecture).ranker_params["autorec"]
    sizes = workspace.read("encoded", Encoded).field_sizes
    beside = sum(p.numel() for p in RANKERS["autorec"](sizes, shape).parameters())
    assert result.cost.num_parameters + result.cost.num_embedding_parameters == beside
    other = Task("autorec_greedy", 1, None, is_trial=False)
    assert bench.search_identity(other, data) != bench.search_identity(task, data)


def test_spent_adds_up() -> None:
    assert Spent.total([]) is None
    assert Spent.total([Spent(1.0, 2.0, 3), Spent(10.0, 20.0, 30)]) == Spent(11.0, 22.0, 33)
