"""Candidates that learn in processes of their own: the same result, and whatever ends a process loses nothing and leaves none behind."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.autopi.architecture import FoundArchitecture
from components.autopi.searching import search_architecture
from components.autopi.trial import Trial
from components.errors import ConfigError, Stopped
from tests.forked import Crowd, asked_to_stop_when, dying_once, wait_until
from tests.search_world import PARAMS, Log, bench

HALVING = dataclasses.replace(PARAMS, strategy="halving")
CORES = 3


@pytest.fixture(scope="module")
def small() -> Any:
    return Log(2_000, 20, 1)


@pytest.fixture(scope="module")
def one_by_one(small: Any, tmp_path_factory: pytest.TempPathFactory) -> FoundArchitecture:
    return search_architecture(small, HALVING, bench(tmp_path_factory.mktemp("one")))


def noting(folder: Path, then: Callable[[], int | None] = lambda: None) -> Callable[[], int | None]:
    """A signal that nobody sends; whoever looks at it leaves its process number in `folder`."""
    folder.mkdir()

    def look() -> int | None:
        (folder / str(os.getpid())).touch()
        return then()

    return look


def numbers(folder: Path) -> set[int]:
    return {int(path.name) for path in folder.iterdir()}


def is_alive(process: int) -> bool:
    try:
        return Path("/proc", str(process), "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_side_by_side_and_one_by_one_are_the_same_search(
    small: Any, one_by_one: FoundArchitecture, tmp_path: Path
) -> None:
    told: list[tuple[float, float]] = []
    lent = bench(tmp_path, noting(tmp_path / "seen"), cores=CORES)
    lent = dataclasses.replace(lent, progress=lambda done, total, note: told.append((done, total)))
    assert search_architecture(small, HALVING, lent) == one_by_one
    assert len(numbers(tmp_path / "seen") - {os.getpid()}) == 6 + 3 + 2, "a process for each trial of each rung"
    assert all(done <= total for done, total in told)
    assert told[-1] == (6 * 2 + 3 * 2 + 2 * 4, 6 * 2 + 3 * 2 + 2 * 4)
    assert not multiprocessing.active_children()


def test_no_more_processes_at_once_than_cores(small: Any, tmp_path: Path) -> None:
    crowd = Crowd(tmp_path, 2)
    search_architecture(small, HALVING, bench(tmp_path / "search", crowd.look, cores=2))
    assert crowd.most == 2


def test_a_stop_reaches_every_process_and_the_search_goes_on_from_there(
    small: Any, one_by_one: FoundArchitecture, tmp_path: Path
) -> None:
    search = tmp_path / "search"

    def is_under_way() -> bool:
        return len(list(search.glob("trial_*/checkpoint.safetensors"))) > 1

    with (
        asked_to_stop_when(is_under_way) as stop,
        pytest.raises(Stopped, match="in rung 1 of the candidates") as stopped,
    ):
        search_architecture(small, HALVING, bench(search, stop, cores=CORES))
    assert stopped.value.exit_code == 143
    assert not multiprocessing.active_children()
    assert search_architecture(small, HALVING, bench(search, cores=CORES)) == one_by_one


def test_what_a_killed_process_leaves_is_finished_by_the_search_itself(
    small: Any, one_by_one: FoundArchitecture, tmp_path: Path
) -> None:
    killed = tmp_path / "killed"
    notes: list[str] = []
    lent = bench(tmp_path / "search", dying_once(killed), cores=CORES)
    lent = dataclasses.replace(lent, progress=lambda _done, _total, note: notes.append(note))
    assert search_architecture(small, HALVING, lent) == one_by_one
    assert killed.exists()
    assert any("its process ended early; it goes on in this one" in note for note in notes)


def test_no_process_outlives_a_search_that_was_killed(small: Any, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    long = dataclasses.replace(
        HALVING, trial_rung_epochs=(500.0, 1000.0)
    )  # minutes, as every batch takes at least 50 ms
    lent = bench(tmp_path / "search", noting(seen, lambda: time.sleep(0.05)), cores=CORES)
    search = multiprocessing.get_context("fork").Process(target=search_architecture, args=(small, long, lent))
    search.start()
    wait_until(lambda: len(numbers(seen)) > CORES)
    search.kill()
    search.join()
    wait_until(lambda: not any(is_alive(number) for number in numbers(seen) - {os.getpid()}))


def test_an_error_in_a_process_is_told_by_the_search(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge(trial: Trial, _network: Any) -> tuple[float, float]:
        if trial.candidate.number == 1:
            raise ConfigError("candidate 1 has no luck")
        return 0.5, 0.7

    monkeypatch.setattr(Trial, "_judge", judge)
    with pytest.raises(ConfigError, match="candidate 1 has no luck"):
        search_architecture(small, HALVING, bench(tmp_path, cores=CORES))
    assert not multiprocessing.active_children()
