"""What a step that ran through DVC ended with, where DVC itself ended in its own ways."""

from __future__ import annotations

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
