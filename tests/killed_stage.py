"""What a process of `test_line_killed` does: one step of the line, as the command line runs it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from pipeline import acts, stages

assert stages.LINE.imported_types(), "imported here, so that each process starts with everything loaded"


def run_step(root: Path, verb: str) -> None:
    """Run `fetch` or one stage in `root`; what it shows goes nowhere."""
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    torch.set_num_threads(1)
    if verb == "fetch":
        acts.fetch(root, ["raw_log", "champion"])
    else:
        acts.run_one_stage(root, verb, "cpu", "auto", None, 2)
    sys.exit(0)
