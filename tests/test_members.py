"""Members of a ranker that learn side by side, against those that learn one after the other."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
from pathlib import Path

import pytest

from components.encoding import Encoded
from components.errors import ConfigError, Stopped
from components.training import TrainedRanker, train_ranker
from tests.forked import Crowd, asked_to_stop_when, dying_once
from tests.search_world import bench
from tests.test_training import encoded_rows, with_params

THREE = with_params(num_members=3, max_epochs=2)


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> Encoded:
    return encoded_rows(tmp_path_factory.mktemp("encoded") / "rows", {"train": 2001, "tune": 1000})


@pytest.fixture(scope="module")
def one_by_one(encoded: Encoded, tmp_path_factory: pytest.TempPathFactory) -> TrainedRanker:
    return train_ranker(encoded, None, THREE, bench(tmp_path_factory.mktemp("one")))


def test_side_by_side_they_learn_the_same_in_processes_of_their_own(
    encoded: Encoded, one_by_one: TrainedRanker, tmp_path: Path
) -> None:
    told: list[tuple[float, float, str]] = []
    seen, crowd = tmp_path / "processes", Crowd(tmp_path, 2)
    seen.mkdir()

    def look() -> int | None:
        (seen / str(os.getpid())).touch()
        return crowd.look()

    lent = bench(tmp_path, look, cores=2, progress=lambda *said: told.append(said))
    assert train_ranker(encoded, None, THREE, lent) == one_by_one
    assert len(list(seen.iterdir())) == 1 + 3, "this process and one of each member"
    assert crowd.most == 2
    assert not multiprocessing.active_children()
    assert all(0 <= done <= total == 3 for done, total, _ in told)
    assert told[-1][0] == 3
    assert {note[:3] for _, _, note in told} == {"1/3", "2/3", "3/3"}


def test_members_of_several_threads_learn_one_after_the_other(encoded: Encoded, tmp_path: Path) -> None:
    processes = set[int]()

    def look() -> int | None:
        processes.add(len(multiprocessing.active_children()))
        return None

    train_ranker(encoded, None, dataclasses.replace(THREE, num_threads=2), bench(tmp_path, look, cores=2))
    assert processes == {0}


def test_a_stop_reaches_every_member_and_they_go_on_from_there(encoded: Encoded, tmp_path: Path) -> None:
    long = with_params(num_members=3, max_epochs=15, patience_epochs=15)
    words = "while 3 members learned side by side"
    is_under_way = (tmp_path / "checkpoint.safetensors").exists
    with asked_to_stop_when(is_under_way) as stop, pytest.raises(Stopped, match=words) as stopped:
        train_ranker(encoded, None, long, bench(tmp_path, stop, cores=2))
    assert stopped.value.exit_code == 143
    assert not multiprocessing.active_children()
    assert (tmp_path / "member_1" / "checkpoint.safetensors").exists()
    whole = train_ranker(encoded, None, long, bench(tmp_path / "whole"))
    assert train_ranker(encoded, None, long, bench(tmp_path, cores=2)) == whole
    assert whole.num_epochs == 45


def test_what_a_killed_process_leaves_is_finished_by_this_one_and_said(
    encoded: Encoded, one_by_one: TrainedRanker, tmp_path: Path
) -> None:
    killed = tmp_path / "killed"
    notes: list[str] = []
    lent = bench(tmp_path, dying_once(killed), cores=2, progress=lambda _done, _total, note: notes.append(note))
    assert train_ranker(encoded, None, THREE, lent) == one_by_one
    assert any("ended early (exit code -9); it goes on in this one" in note for note in notes)


@pytest.mark.parametrize("resume", ["always", "never"])
def test_resume_means_what_it_means_for_one(
    encoded: Encoded, one_by_one: TrainedRanker, tmp_path: Path, resume: str
) -> None:
    lent = bench(tmp_path, cores=2, resume=resume)
    if resume == "always":
        with pytest.raises(ConfigError, match="there is no checkpoint"):
            train_ranker(encoded, None, THREE, lent)
        assert train_ranker(encoded, None, THREE, bench(tmp_path, cores=2)) == one_by_one
        assert train_ranker(encoded, None, THREE, lent) == one_by_one
        return
    notes: list[str] = []
    assert train_ranker(encoded, None, THREE, bench(tmp_path, cores=2)) == one_by_one
    lent = dataclasses.replace(lent, progress=lambda _done, _total, note: notes.append(note))
    assert train_ranker(encoded, None, THREE, lent) == one_by_one
    assert any(note.startswith("3/3 mlp: epoch 1") for note in notes), "learned anew"
