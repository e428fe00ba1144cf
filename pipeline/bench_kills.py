"""kill -9 at random moments of a search, again and again: `python -m pipeline bench kills`.

The search stage of a small simulated log runs in a process of its own, as the command line runs it, and keeps a checkpoint
after every step. It is killed at a random moment and started again until it ends; then its artifact must have the bytes of
one that nobody killed, and it begins anew.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import yaml

from components.errors import IntegrityError
from components.manifest import digest_folder
from components.workbench import Progress
from pipeline import __main__ as command_line
from pipeline import acts, stages

assert acts, "imported here, so that each process starts with everything loaded"
assert stages.LINE.imported_types(), "the same"

# So few rows and epochs that a search takes seconds; every step leaves a checkpoint.
_OPTIONS = {"rows_per_week": 1_500, "num_users": 200, "num_items": 100}
_PRESET = {"max_epochs": 2, "batch_rows": 128, "trial_rung_epochs": [0.3, 0.6]}
_KNOBS = {"num_nodes": 2, "embedding_width": 4, "checkpoint_seconds": 0.0}
_TRIAL = {"num_candidates": 3, "supernet_share": 0.34, "hidden_widths": [16]}
_BEFORE_SEARCH = ("check", "split", "encode")

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["pipeline.bench_kills"])


def run_bench_kills(
    home: Path, strategies: Sequence[str], num_kills: int, seed: int, progress: Progress
) -> dict[str, Any]:
    """Kill a search by each strategy `num_kills` times at moments drawn by `seed`.

    Gives, by strategy: kills, how many of them found a checkpoint (the others came before the first), searches that
    ended after them, how many of these have other bytes than the undisturbed one, and seconds. Raises IntegrityError
    where a process ends by itself with an error.
    """
    figures: dict[str, Any] = {"seed": seed}
    with tempfile.TemporaryDirectory(prefix="ctr-kills-") as name:
        root = Path(name)
        make_encoded_log(home, root)
        draws = random.Random(seed)
        for strategy in strategies:
            choose(root, strategy)
            figures[strategy] = kill_again_and_again(root, num_kills, draws, _named(progress, strategy))
    figures["kills"] = sum(figures[strategy]["kills"] for strategy in strategies)
    figures["other_bytes"] = sum(figures[strategy]["other_bytes"] for strategy in strategies)
    return figures


def kill_again_and_again(root: Path, num_kills: int, draws: random.Random, progress: Progress) -> dict[str, Any]:
    """Kill the search of `root` and go on with it, `num_kills` times; gives the figures of one strategy."""
    begun = time.monotonic()
    forget(root)
    run_to_its_end(root, SEARCH)
    undisturbed, longest = digest_folder(_result(root)), time.monotonic() - begun
    kills = with_checkpoint = searches = other = 0
    forget(root)
    while kills < num_kills:
        if _is_killed_within(root, draws.uniform(0.0, longest)):
            kills += 1
            with_checkpoint += any(_checkpoints(root))
            progress(kills, num_kills, f"{searches} searches ended, {other} of them in other bytes")
            if kills < num_kills:
                continue
            run_to_its_end(root, SEARCH)
        searches += 1
        other += digest_folder(_result(root)) != undisturbed
        forget(root)
    return {
        "kills": kills,
        "kills_with_checkpoint": with_checkpoint,
        "searches": searches,
        "other_bytes": other,
        "undisturbed_seconds": round(longest, 2),
        "seconds": round(time.monotonic() - begun, 1),
    }


SEARCH = ("run", "search", "--device", "cpu")


def make_encoded_log(home: Path, root: Path) -> None:
    """A workspace in `root` in which the search comes next."""
    make_small_search(home, root)
    run_to_its_end(root, ("fetch", "--only", "raw_log"))
    for verb in _BEFORE_SEARCH:
        run_to_its_end(root, ("run", verb))


def make_small_search(home: Path, root: Path) -> None:
    """The project's params with a small log and a short search, in `root`."""
    (root / "logs").mkdir(parents=True)
    shutil.copyfile(home / "window.yaml", root / "window.yaml")
    preset = yaml.safe_load((home / "logs" / "simulated.yaml").read_text("utf-8"))
    preset["source"]["options"] |= _OPTIONS
    preset["check"] |= {"click_rate_band": [0.001, 0.2], "min_rows": 100}
    preset["search"] |= _PRESET
    (root / "logs" / "simulated.yaml").write_text(yaml.safe_dump(preset, sort_keys=False), "utf-8")
    params = yaml.safe_load((home / "params.yaml").read_text("utf-8"))
    params["log"] = "simulated"
    params["check"] |= {"sample_rows": 500}
    params["search"] |= _KNOBS
    params["search"]["trial"] |= _TRIAL
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), "utf-8")


def choose(root: Path, strategy: str) -> None:
    """Set the strategy in the params of `root`."""
    params = yaml.safe_load((root / "params.yaml").read_text("utf-8"))
    params["search"] |= {"strategy": strategy, "fixed_architecture": None}
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), "utf-8")


def started(root: Path, command: Sequence[str]) -> ForkServerProcess:
    """The command line in a process of its own that has everything imported already."""
    process = _processes.Process(target=run_command, args=(root, tuple(command)))
    process.start()
    return process


def run_command(root: Path, command: tuple[str, ...]) -> None:
    """What such a process does; what it shows goes nowhere."""
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    sys.argv = ["pipeline", *command, "--workspace", str(root)]
    command_line.main()


def run_to_its_end(root: Path, command: Sequence[str]) -> None:
    """Run it and wait; raises IntegrityError where it does not end well."""
    process = started(root, command)
    process.join()
    if process.exitcode != 0:
        raise IntegrityError(f"`python -m pipeline {' '.join(command)}` ended with {process.exitcode}")


def forget(root: Path) -> None:
    """Remove what a search left, so that the next begins anew."""
    shutil.rmtree(_result(root), ignore_errors=True)
    shutil.rmtree(_kept(root), ignore_errors=True)


def _is_killed_within(root: Path, seconds: float) -> bool:
    """Start a search and kill it (-9) after so many seconds; False where it had ended before."""
    process = started(root, SEARCH)
    process.join(seconds)
    process.kill()
    process.join()
    if process.exitcode not in (0, -9):
        raise IntegrityError(f"a search that was killed before and went on ended with {process.exitcode}")
    return process.exitcode == -9


def _result(root: Path) -> Path:
    return root / "artifacts" / "architecture"


def _kept(root: Path) -> Path:
    return root / ".ctr" / "checkpoints" / "search"


def _checkpoints(root: Path) -> Iterator[Path]:
    return _kept(root).rglob("checkpoint.safetensors")


def _named(progress: Progress, name: str) -> Progress:
    def tell(done: float, total: float, note: str) -> None:
        progress(done, total, f"{name}: {note}")

    return tell
