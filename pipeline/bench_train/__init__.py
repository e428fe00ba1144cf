"""How fast rankers train beside FuxiCTR 2.3.10: `python -m pipeline bench train --peer PYTHON`.

PYTHON is an interpreter that has FuxiCTR (it needs polars 1.33, so it lives outside the lock). Both sides are processes
that stay: each builds DeepFM and DCN-V2 at Frappe's shape, and they step in turn, so that whatever else the machine does
meets both alike; the fastest of the rounds counts. Ours fetches every batch from the encoded rows, FuxiCTR's is handed its
batch ready made, so what its loader costs is left out. Ours is there twice, for each of the two that `train.kernels` knows,
where the machine has a C compiler.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from components.compiling import can_compile
from components.errors import ConfigError, OutsideError
from pipeline.bench_search import threads_in_words
from pipeline.environment import WAITING_THREADS

MODELS = ("deepfm", "dcnv2")
BATCH_ROWS = 4096
STEPS = 3


def run_bench_train(peer: Path, num_rounds: int, threads: Sequence[int]) -> dict[str, Any]:
    """Time `num_rounds` times 3 steps of each side and model at each number of threads.

    Gives kernels (those of the figures without a name: "compiled", or "torch" where there is no C compiler),
    ratio_<model>_<n>_thread(s), the rounds' median ratio and both sides' rows per second, the same of ours without compiled
    kernels (torch in the name); ratio_<model> is that of the last number. Raises ConfigError where `peer` is no interpreter,
    OutsideError where a side ends before its time.
    """
    if not peer.is_file():
        raise ConfigError(
            f"--peer {peer}: no such interpreter; make one with `python -m venv DIR` and "
            "`DIR/bin/pip install fuxictr==2.3.10 'polars==1.33.*' torch`, and give DIR/bin/python"
        )
    ways = {"": "compiled", "torch_": "torch"} if can_compile() else {"": "torch"}
    figures: dict[str, Any] = {"batch_rows": BATCH_ROWS, "rounds": num_rounds, "kernels": ways[""]}
    for num_threads in threads:
        at = threads_in_words(num_threads)
        for name, figure in _time_in_turn(peer, ways, num_rounds, num_threads).items():
            figures[f"{name}_{at}"] = figure
        for model in MODELS:
            figures[f"ratio_{model}"] = figures[f"ratio_{model}_{at}"]
    return figures


def _time_in_turn(peer: Path, ways: Mapping[str, str], num_rounds: int, num_threads: int) -> dict[str, float]:
    """The figures of all models; `ways` says by which kernels ours steps, by what the figures' names begin with."""
    here = Path(__file__).parent
    # Ours waits for its threads as every command of ours does, FuxiCTR as torch does where nobody says otherwise.
    others = {name: value for name, value in os.environ.items() if name not in WAITING_THREADS}
    sides = {
        **{
            f"{prefix}ours": _Side([sys.executable, "-m", "pipeline.bench_train.ours", way], num_threads, os.environ)
            for prefix, way in ways.items()
        },
        "fuxictr": _Side([str(peer), str(here / "peer.py")], num_threads, others),
    }
    figures: dict[str, float] = {}
    try:
        for model in MODELS:
            seconds: dict[str, list[float]] = {name: [] for name in sides}
            for number in range(num_rounds + 1):
                for name, side in sides.items():
                    took = side.steps(model)
                    if number > 0:  # the first warms up
                        seconds[name].append(took)
            for prefix in ways:
                own = seconds[f"{prefix}ours"]
                ratios = [theirs / ours for theirs, ours in zip(seconds["fuxictr"], own, strict=True)]
                figures[f"{prefix}ratio_{model}"] = round(min(seconds["fuxictr"]) / min(own), 2)
                figures[f"{prefix}median_ratio_{model}"] = round(statistics.median(ratios), 2)
            for name in sides:
                figures[f"rows_per_second_{model}_{name}"] = round(STEPS * BATCH_ROWS / min(seconds[name]))
    finally:
        for side in sides.values():
            side.end()
    return figures


class _Side:
    """A process that answers each model's name with the seconds that its steps took."""

    def __init__(self, command: list[str], num_threads: int, environment: Mapping[str, str]) -> None:
        counts = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(num_threads))
        self._command = command
        self._process = subprocess.Popen(
            command, env={**environment, **counts}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def steps(self, model: str) -> float:
        """Let it step; gives seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(f"{model}\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise OutsideError(
                f"{' '.join(self._command)} ended with {self._process.wait()} before it had stepped; see above"
            )
        return float(json.loads(answer))

    def end(self) -> None:
        """Let it go."""
        self._process.terminate()
        self._process.communicate()
