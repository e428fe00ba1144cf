"""The search stage as the command line runs it, killed or asked to stop: it goes on to the same bytes, and says how it ended."""

from __future__ import annotations

import os
import random
import signal
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from components.manifest import digest_folder
from pipeline import bench_kills

REPO = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a small simulated log, encoded."""
    made = tmp_path_factory.mktemp("search") / "work"
    bench_kills.make_encoded_log(REPO, made)
    return made


def kept(root: Path) -> int | None:
    """Which checkpoint there is: each one is a file of its own."""
    path = root / ".ctr" / "checkpoints" / "search" / "checkpoint.safetensors"
    return path.stat().st_ino if path.exists() else None


def wait_for_a_step(root: Path, process: ForkServerProcess, before: int | None) -> None:
    while kept(root) == before:
        assert process.is_alive(), f"the search ended with {process.exitcode} before it had taken a step"
        time.sleep(0.01)


def test_a_signal_ends_a_search_by_its_own_exit_code_and_it_goes_on_to_the_same_bytes(root: Path) -> None:
    bench_kills.choose(root, "darts")
    bench_kills.run_to_its_end(root, bench_kills.SEARCH)
    undisturbed = digest_folder(root / "artifacts" / "architecture")
    bench_kills.forget(root)
    for number, exit_code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        before = kept(root)
        process = bench_kills.started(root, bench_kills.SEARCH)
        wait_for_a_step(root, process, before)
        assert process.pid is not None
        os.kill(process.pid, number)
        process.join()
        assert process.exitcode == exit_code
        assert not (root / "artifacts" / "architecture").exists()
    bench_kills.run_to_its_end(root, (*bench_kills.SEARCH, "--resume", "always"))
    assert digest_folder(root / "artifacts" / "architecture") == undisturbed


def test_a_search_killed_at_a_random_moment_ends_in_the_same_bytes(root: Path) -> None:
    bench_kills.choose(root, "darts")
    found = bench_kills.kill_again_and_again(root, 1, random.Random(1), lambda done, total, note: None)
    assert found["kills"] == 1
    assert found["searches"] >= 1
    assert found["other_bytes"] == 0
