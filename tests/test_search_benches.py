"""The search stage as the command line runs it, killed or asked to stop, goes on to the same bytes; many searches of one log."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest

from components.autopi.architecture import Architecture
from components.autopi.searching import SearchParams
from components.errors import ConfigError
from components.manifest import digest_folder
from pipeline import bench_kills
from pipeline.bench_variants import run_bench_ablation, run_bench_alike, variants_of
from pipeline.params import read_settings

REPO = Path(__file__).parents[1]
multiprocessing.set_forkserver_preload(["tests.preloaded"])  # bench_kills' own list is a part of it


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


def test_each_variant_changes_one_thing_of_the_papers_search() -> None:
    params = read_settings(REPO).section("search", SearchParams)
    variants = dict(variants_of(params))
    assert [(one.use_annealing, one.skip_noise_share) for one in list(variants.values())[:4]] == [
        (True, 0.0),
        (False, 0.0),
        (False, 0.03),
        (True, 0.03),
    ]
    whole = variants["annealing"]
    for operator in params.operators:
        assert set(params.operators) - set(variants[f"without {operator}"].operators) == {operator}
    assert (variants["2 nodes"].num_nodes, variants["top 3"].edges_per_node) == (2, 3)
    assert all(one.strategy == "darts" for one in variants.values())
    assert len({repr(one) for one in variants.values()}) == len(variants) == 8 + len(params.operators)
    assert (whole.num_nodes, whole.edges_per_node) == (4, 2)


def test_an_ablation_and_likeness_are_measured_on_a_workspaces_log_and_gone_on_with(root: Path) -> None:
    def ignore(done: float, total: float, note: str) -> None:
        """Nobody watches."""

    found = run_bench_ablation(root, [1], 1, 0.3, ["without fm", "top 1"], ignore)
    assert run_bench_ablation(root, [1], 1, 0.3, ["without fm", "top 1"], ignore) == found
    with pytest.raises(ConfigError, match="there is no variant without glue; choose among annealing, neither, "):
        run_bench_ablation(root, [1], 1, 0.3, ["without fm", "without glue"], ignore)
    assert "fm" not in Architecture.from_text(found["without fm"]["lines"][0], "here").operators()
    assert len(Architecture.from_text(found["top 1"]["lines"][0], "here").operators()) == 4
    assert 0 < found["top 1"]["tune_auc"] < 1
    alike = run_bench_alike(root, ["random"], [1, 2], 1, ignore)
    assert len(set(alike["random"]["lines"])) == 2
    assert 0 <= alike["random"]["in_common"] < 1
    # Two nodes a cell, two edges a node, six operators: (1 + 2 + 2 + 4/3) / 6 of 7 edges.
    assert alike["by_chance"] == pytest.approx((1 + 2 + 2 + 4 / 3) / 6 / 7, abs=1e-4)
