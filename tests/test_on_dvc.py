"""What a step that ran through DVC ended with, where DVC itself ended in its own ways."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.on_dvc import run_through_dvc
from pipeline.run import Workspace

IN_PLACE_OF_DVC = """
import json, os, sys
from pathlib import Path

stage, dvc = {ends!r}
record = Path(".ctr/ends") / (sys.argv[1] + ".json")
if stage is not None:
    record.write_text(json.dumps({{"process": os.getpid(), "exit_code": stage}}))
if dvc < 0:
    os.kill(os.getpid(), -dvc)
sys.exit(dvc)
"""


@pytest.mark.parametrize(
    ("stage", "dvc", "code"),
    [
        (0, 0, 0),
        (None, 0, 0),
        (4, 255, 4),
        (75, 255, 75),
        (143, -15, 143),
        (0, 255, 1),
        (None, 255, 1),
        (None, -15, 143),
        (0, -15, 143),
        (0, -9, 137),
    ],
    ids=[
        "both ended well",
        "nothing had to be done",
        "the gate refused",
        "something outside did not answer",
        "both were stopped",
        "DVC failed after a stage that ended well",
        "DVC failed before the stage",
        "stopped before the stage could say that it runs",
        "stopped while DVC noted the success",
        "killed while DVC noted the success",
    ],
)
def test_a_step_ends_as_its_stage_did_and_a_kill_of_dvc_is_tried_again(
    tmp_path: Path, stage: int | None, dvc: int, code: int
) -> None:
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline/quick_dvc.py").write_text(IN_PLACE_OF_DVC.format(ends=(stage, dvc)))
    assert run_through_dvc(Workspace(tmp_path), "train") == code


def test_an_experiment_that_dvc_runs_elsewhere_has_the_projects_champion_and_data(tmp_path: Path) -> None:
    """`dvc exp run --temp` (and `--queue`) checks the project out below `.dvc/tmp`, where no registry and no log lies."""
    home, said = tmp_path / "project", tmp_path / "said"
    home.mkdir()
    home_of = f"from pathlib import Path as P; from pipeline.outside import *; P({str(said)!r}).write_text(str(home_of(Workspace(P.cwd()))))"
    (home / "stage.py").write_text(home_of)
    (home / "params.yaml").write_text("knob: 1\n")
    (home / "dvc.yaml").write_text(f"stages: {{one: {{cmd: {sys.executable} stage.py, params: [knob]}}}}\n")
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    dvc = str(Path(sys.executable).with_name("dvc"))
    who = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    for command in (
        ("git", "init", "--quiet"),
        (dvc, "init", "--quiet"),
        ("git", "add", "--all"),
        ("git", *who, "commit", "--quiet", "--message", "toy"),
        (dvc, "exp", "run", "--temp", "--set-param", "knob=2"),
    ):
        subprocess.run(command, cwd=home, env=environment, check=True, capture_output=True)
    assert Path(said.read_text()) == home
