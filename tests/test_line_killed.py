"""kill -9 at any moment of any step of the real line: nothing half-written is seen, and run again it gives the same bytes."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import numpy as np
import pytest
import yaml

from components.manifest import digest_folder
from pipeline.run import Workspace
from pipeline.stages import LINE
from tests.killed_stage import run_step

REPO = Path(__file__).parents[1]
STEPS = ("fetch", *(stage.verb for stage in LINE.stages if stage.verb != "watch"))
KINDS = LINE.imported_types()
KILLS_A_STEP = int(os.environ.get("CTR_FAULT_KILLS", "1"))  # `make faults` asks for more

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.preloaded"])


@dataclass(frozen=True)
class Undisturbed:
    """A run that nobody killed: each step's seconds, and the digest of everything there after it."""

    seconds: dict[str, float]
    digests: dict[str, dict[str, str]]


def make_project(folder: Path) -> Path:
    """The default log and params, with so few rows and epochs that each step takes about a second."""
    (folder / "logs").mkdir(parents=True)
    shutil.copyfile(REPO / "window.yaml", folder / "window.yaml")
    preset = yaml.safe_load((REPO / "logs" / "simulated.yaml").read_text(encoding="utf-8"))
    preset["source"]["options"] |= {"rows_per_week": 3_000, "num_users": 200, "num_items": 100}
    preset["check"] |= {"click_rate_band": [0.001, 0.2], "min_rows": 100}
    preset["search"] |= {"trial_rung_epochs": [0.5, 1.0]}
    preset["train"] |= {"max_epochs": 2}
    (folder / "logs" / "simulated.yaml").write_text(yaml.safe_dump(preset, sort_keys=False), encoding="utf-8")
    params = yaml.safe_load((REPO / "params.yaml").read_text(encoding="utf-8"))
    params["check"] |= {"sample_rows": 500}
    params["search"] |= {"num_nodes": 2, "operators": ["skip", "fm"]}
    params["search"]["trial"] |= {"num_candidates": 2}
    params["calibrate"] |= {"num_folds": 2}
    params["evaluate"] |= {"num_bootstraps": 20, "num_parity_rows": 100}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    return folder


def started(root: Path, verb: str) -> ForkServerProcess:
    process = _processes.Process(target=run_step, args=(root, verb))
    process.start()
    return process


def run_to_its_end(root: Path, verb: str) -> None:
    process = started(root, verb)
    process.join()
    assert process.exitcode == 0, f"{verb} ended with {process.exitcode}"


def kill_within(root: Path, verb: str, seconds: float) -> None:
    """Start a step and kill it (-9) before it ends; it may be faster than it was, then sooner."""
    while True:
        process = started(root, verb)
        process.join(seconds)
        process.kill()
        process.join()
        if process.exitcode == -9:
            return
        assert process.exitcode == 0
        seconds /= 2


def digests(root: Path) -> dict[str, str]:
    """The digest of each artifact that can be seen; each is loaded too, so that its own checks have their say."""
    seen = {}
    for folder in sorted((root / "artifacts").glob("[!.]*")):
        Workspace(root).read(folder.name, KINDS[folder.name])
        seen[folder.name] = digest_folder(folder)
    return seen


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    root = make_project(tmp_path_factory.mktemp("line") / "undisturbed")
    seconds, after = {}, {}
    loading = _processes.Process(target=os.getpid)  # the first process waits until everything is imported
    loading.start()
    loading.join()
    for verb in STEPS:
        begun = time.monotonic()
        run_to_its_end(root, verb)
        seconds[verb] = time.monotonic() - begun
        after[verb] = digests(root)
    assert set(after["pack"]) == set(KINDS) - {"served_log", "drift"}
    return Undisturbed(seconds, after)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("line") / "killed")


@pytest.mark.parametrize("verb", STEPS)
def test_a_step_killed_at_any_moment_shows_nothing_half_done_and_ends_in_the_same_bytes(
    verb: str, undisturbed: Undisturbed, killed: Path
) -> None:
    before = undisturbed.digests[STEPS[STEPS.index(verb) - 1]] if verb != STEPS[0] else {}
    after = undisturbed.digests[verb]
    moments = np.random.default_rng(STEPS.index(verb)).uniform(0.1, 0.9, KILLS_A_STEP)
    for moment in moments:
        kill_within(killed, verb, moment * undisturbed.seconds[verb])
        assert before.items() <= digests(killed).items() <= after.items()
    run_to_its_end(killed, verb)
    assert digests(killed) == after
    assert not list((killed / "artifacts").glob(".*")), "what killed runs left behind was not removed"
