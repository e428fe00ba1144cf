"""A step's entry of dvc.lock is put in place with the bytes that DVC itself would write."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import dumps_yaml, modify_yaml

from pipeline.quick_dvc import modified, reproduce_step

REPO = Path(__file__).parents[1]
STEPS = ("fetch", "split", "pack")  # nulls and dates, a short one, texts that are folded


@pytest.fixture(scope="module")
def entries() -> dict[str, Any]:
    stages = yaml.load((REPO / "dvc.lock").read_text("utf-8"), yaml.CSafeLoader)["stages"]
    return {step: stages[step] for step in STEPS}


@pytest.mark.parametrize(
    "change",
    [
        {
            "split": {
                "cmd": "another",
                "params": {"params.yaml": {"split.gap": None, "split.rate": 1e-05, "split.on": True}},
            }
        },
        {
            "fetch": {
                "cmd": "x " * 90,
                "deps": [{"path": "a b: c", "md5": "61e12345678901234567890123456789", "size": 3}],
            }
        },
        {"later": {"cmd": "said 'so'", "outs": [{"path": "artifacts/später", "md5": "0" * 32 + ".dir", "nfiles": 2}]}},
    ],
)
def test_the_lock_has_the_bytes_that_dvc_would_write(
    tmp_path: Path, entries: dict[str, Any], change: dict[str, Any]
) -> None:
    texts = []
    for name, modify in (("theirs", modify_yaml), ("ours", modified)):
        lock = tmp_path / name / "dvc.lock"
        lock.parent.mkdir()
        lock.write_text(dumps_yaml({"schema": "2.0", "stages": entries}), "utf-8")
        with modify(str(lock)) as content:
            content["stages"].update(change)
        texts.append(lock.read_text("utf-8"))
    assert texts[0] == texts[1]
    assert all(step in texts[1] for step in change)


def test_a_first_entry_has_the_bytes_that_dvc_would_write(tmp_path: Path, entries: dict[str, Any]) -> None:
    lock = tmp_path / "dvc.lock"
    with modified(str(lock)) as content:
        content["stages"].update({"pack": entries["pack"]})
    assert lock.read_text("utf-8") == dumps_yaml({"schema": "2.0", "stages": {"pack": entries["pack"]}})


def test_a_lock_with_a_comment_is_left_to_dvc_which_keeps_it(tmp_path: Path, entries: dict[str, Any]) -> None:
    lock = tmp_path / "dvc.lock"
    lock.write_text("# mine\n" + dumps_yaml({"schema": "2.0", "stages": {"split": entries["split"]}}), "utf-8")
    with modified(str(lock)) as content:
        content["stages"].update({"split": {"cmd": "another"}})
    assert lock.read_text("utf-8") == "# mine\nschema: '2.0'\nstages:\n  split:\n    cmd: another\n"


_KILLED_BY_THE_KERNEL = """
import resource, signal
from pipeline.quick_dvc import modified

signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))  # bytes of one file, after which the kernel ends who writes on
with modified("dvc.lock") as content:
    content["stages"]["split"] = {"cmd": "another"}
"""


def test_a_kill_in_the_middle_of_writing_leaves_the_lock_as_it_was(tmp_path: Path, entries: dict[str, Any]) -> None:
    lock = tmp_path / "dvc.lock"
    before = dumps_yaml({"schema": "2.0", "stages": entries})
    lock.write_text(before, "utf-8")
    command = [sys.executable, "-c", _KILLED_BY_THE_KERNEL]
    killed = subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(REPO)}, check=False)
    assert killed.returncode == -signal.SIGXFSZ
    assert lock.read_text("utf-8") == before
    with modified(str(lock)) as content:
        content["stages"]["split"] = {"cmd": "another"}
    assert yaml.safe_load(lock.read_text("utf-8"))["stages"] == entries | {"split": {"cmd": "another"}}


def test_why_a_step_failed_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    (tmp_path / "dvc.yaml").write_text("stages: {lose: {cmd: exit 7}, win: {cmd: touch won, outs: [won]}}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dvc.dvcfile.modify_yaml", modify_yaml)  # put back at the end
    assert (reproduce_step("lose"), reproduce_step("win"), reproduce_step("nowhere")) == (255, 0, 255)
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("ERROR: ")]
    assert said[0] == "ERROR: failed to reproduce 'lose': failed to run: exit 7, exited with 7"
    assert "'nowhere' not found" in said[1]
    (tmp_path / "dvc.lock").replace(tmp_path / "ours")
    subprocess.run(["dvc", "commit", "--quiet", "--force", "win"], check=True)
    assert (tmp_path / "dvc.lock").read_text() == (tmp_path / "ours").read_text()
