"""What an exit code means to a scheduler, what a stopped task leaves, and what the ledger says is due."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.runs import Done, Ledger, claim_message, digests_in_lock, give_message_back
from pipeline.subprocesses import Subprocess

REPO = Path(__file__).parents[1]
sys.path.insert(0, str(REPO / "tests"))
from s3_world import BUCKET, serving_s3  # noqa: E402
from toy_project import make_project  # noqa: E402

ENDS = """
import sys
from datetime import UTC, datetime
from types import SimpleNamespace
from pipeline.on_airflow.tasks import PipelineTask
from pipeline.resources import RunRules

rules = RunRules(stop_grace_seconds=5, keep_failed_days=1, rest_hours=6, race_attempts=3, keep_checkpoint_seconds=60)
run = SimpleNamespace(
    dag_id="search", run_id="a", run_type="manual", data_interval_end=None, run_after=datetime(2026, 4, 1, 13, 5, tzinfo=UTC)
)
for codes in sys.argv[1:]:
    open("codes", "w").write(codes)
    task = PipelineTask(
        task_id="promote", arguments=("promote", "{start}", "{end}"), is_in_run=False, rules=rules,
        on_race=(("again",),), announcement=("announce", 0),
    )
    try:
        end = str(task.execute({"dag_run": run, "params": {"window_days": 28}}))
    except BaseException as error:
        end = type(error).__name__
    print("ANSWER", codes, end)
"""
# Its exit codes stand in a file, one a call; what it was told is kept.
INTERPRETER = """#!/bin/sh
echo "$@" >> said
code=$(cut -d, -f1 codes)
cut -s -d, -f2- codes > rest; mv rest codes
case $code in -9) kill -9 $$ ;; esac
exit $code
"""
REST = timedelta(hours=6)


def test_each_exit_code_ends_a_task_as_the_design_says(tmp_path: Path) -> None:
    expected = {
        "0": "0", "5": "DownstreamTasksSkipped", "4": "DownstreamTasksSkipped", "99": "AirflowSkipException",
        "75": "AirflowException", "130": "AirflowException", "143": "AirflowException", "-9": "AirflowException",
        "1": "AirflowFailException", "2": "AirflowFailException", "3": "AirflowFailException",
        "6": "AirflowFailException", "255": "AirflowFailException",
        "7,0,0": "0", "7,0,4": "DownstreamTasksSkipped", "7,3": "AirflowFailException", "7,75": "AirflowException",
        "7,0,7,0,7": "AirflowFailException",
    }  # fmt: skip
    interpreter = tmp_path / "python"
    interpreter.write_text(INTERPRETER)
    interpreter.chmod(0o755)
    environment = os.environ | {"AIRFLOW_HOME": str(tmp_path), "PYTHONPATH": str(REPO), "PYTHONWARNINGS": "ignore"}
    environment |= {"CTR_PYTHON": str(interpreter), "CTR_HOME": str(tmp_path)}
    command = [sys.executable, "-c", ENDS, *expected]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    ends = dict(line.split()[1:] for line in done.stdout.splitlines() if line.startswith("ANSWER"))
    assert ends == expected
    said = (tmp_path / "said").read_text().splitlines()
    assert said[0] == "-m pipeline promote 2026-03-04T00:00:00+00:00 2026-04-01T00:00:00+00:00", (
        "up to the last midnight"
    )
    assert said[-5:] == [said[0], "-m pipeline again", said[0], "-m pipeline again", said[0]]


def test_output_comes_line_by_line_and_the_exit_code_is_the_commands_own(tmp_path: Path) -> None:
    lines: list[str] = []
    code = Subprocess(5.0).run(["sh", "-c", "echo one; echo two >&2; exit 75"], tmp_path, os.environ, lines.append)
    assert code == 75
    assert lines == ["one", "two"]


def test_a_command_that_a_signal_ended_gives_128_and_the_signal(tmp_path: Path) -> None:
    assert Subprocess(5.0).run(["sh", "-c", "kill -9 $$"], tmp_path, os.environ, print) == 137


def test_stopping_waits_for_the_last_words_and_leaves_no_orphan(tmp_path: Path) -> None:
    script = "trap 'sleep 0.3; echo kept > checkpoint; exit 143' TERM; echo $$; while :; do sleep 0.05; done"
    lines: list[str] = []
    task = Subprocess(10.0)
    codes: list[int] = []
    thread = threading.Thread(
        target=lambda: codes.append(task.run(["sh", "-c", script], tmp_path, os.environ, lines.append))
    )
    thread.start()
    while not lines:
        time.sleep(0.02)
    task.stop()
    thread.join()
    assert codes == [143]
    assert (tmp_path / "checkpoint").read_text() == "kept\n"
    assert not Path("/proc", lines[0]).exists()


def test_one_that_ignores_the_signal_is_killed_after_the_grace(tmp_path: Path) -> None:
    lines: list[str] = []
    task = Subprocess(0.3)
    codes: list[int] = []
    script = "trap '' TERM; echo on; while :; do sleep 0.05; done"
    thread = threading.Thread(
        target=lambda: codes.append(task.run(["sh", "-c", script], tmp_path, os.environ, lines.append))
    )
    thread.start()
    while not lines:
        time.sleep(0.02)
    task.stop()
    thread.join()
    assert codes == [137]


def test_a_step_dies_in_order_with_the_task_that_was_killed(tmp_path: Path) -> None:
    parent = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from pipeline.subprocesses import Subprocess
script = "trap 'echo kept > checkpoint; exit 143' TERM; echo $$ > number; while :; do sleep 0.05; done"
Subprocess(5.0).run(["sh", "-c", script], Path.cwd(), os.environ, print)
"""
    process = subprocess.Popen([sys.executable, "-c", parent, str(REPO)], cwd=tmp_path)
    while not (tmp_path / "number").is_file() or not (tmp_path / "number").read_text():
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    child = Path("/proc", (tmp_path / "number").read_text().strip())
    end = time.monotonic() + 10
    while child.exists() and time.monotonic() < end:
        time.sleep(0.02)
    assert not child.exists()
    assert (tmp_path / "checkpoint").is_file()


def _day(number: int, hour: int = 0) -> datetime:
    return datetime(2026, 4, number, hour, tzinfo=UTC)


def _done(end: datetime, run: str = "retrain--a", is_rehearsal: bool = False) -> Done:
    start = (end - timedelta(days=28)).isoformat()
    return Done(run, "retrain", "scheduled", start, end.isoformat(), is_rehearsal, None, {}, "digest")


def test_a_step_stopped_before_its_stage_could_say_anything_is_tried_again(tmp_path: Path) -> None:
    """As long as a stage imports what it needs, it has kept no record; SIGTERM then is no bug of it (exit 1)."""
    (tmp_path / "dvc.yaml").write_text("stages: {train: {cmd: touch begun && exec sleep 60}}")
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "--quiet"], cwd=tmp_path, check=True)
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    command = [sys.executable, "-m", "pipeline", "dvc", "train"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment) as process:
        while not (tmp_path / "begun").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.terminate()
        assert process.wait() == 128 + signal.SIGTERM


def test_drift_is_due_until_a_later_window_was_trained_on(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.due_drift("retrain", REST) is None
    ledger.record_drift(_day(2, 14), "monitor--a")
    assert ledger.due_drift("retrain", REST) == _day(2, 14)
    ledger.record_done(_done(_day(2)))
    assert ledger.due_drift("retrain", REST) == _day(2, 14), "that window ended before the drift"
    ledger.record_done(_done(_day(2, 14), "retrain--b"))
    assert ledger.due_drift("retrain", REST) is None


def test_lost_and_doubled_events_change_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.record_drift(_day(2, 14), "monitor--a")
    ledger.record_drift(_day(2, 14), "monitor--a")
    ledger.record_drift(_day(2, 15), "monitor--b")
    assert ledger.due_drift("retrain", REST) == _day(2, 15)
    ledger.record_done(_done(_day(2, 15)))
    ledger.record_drift(_day(2, 16), "monitor--c")
    assert ledger.due_drift("retrain", REST) is None, "so soon after, the same training answers it"
    ledger.record_drift(_day(2, 22), "monitor--d")
    assert ledger.due_drift("retrain", REST) == _day(2, 22)


def test_a_rehearsal_answers_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.record_drift(_day(2, 14), "monitor--a")
    ledger.record_done(_done(_day(3), is_rehearsal=True))
    assert ledger.due_drift("retrain", REST) == _day(2, 14)


def test_a_failed_run_tells_once_until_it_is_started_anew(tmp_path: Path) -> None:
    assert claim_message(tmp_path, "retrain--a")
    assert not claim_message(tmp_path, "retrain--a")
    assert claim_message(tmp_path, "retrain--b")
    give_message_back(tmp_path, "retrain--a")
    assert claim_message(tmp_path, "retrain--a")


def _runs(home: Path, *words: str) -> int:
    command = [sys.executable, "-m", "pipeline", "runs", *words]
    return subprocess.run(command, cwd=home, env=os.environ | {"PYTHONPATH": str(REPO)}, check=False).returncode


def test_two_runs_have_a_worktree_each_and_a_closed_one_is_gone(tmp_path: Path) -> None:
    home = tmp_path / "project"
    make_project(home)
    window = ("--start", "2026-03-02", "--end", "2026-03-30")
    for name in ("retrain--a", "retrain--b"):
        assert _runs(home, "open", str(home / "runs" / name), *window) == 0
    one, other = home / "runs/retrain--a", home / "runs/retrain--b"
    assert (one / ".git").is_file()
    assert "dir = " + str(home / ".dvc" / "cache") in (other / ".dvc/config.local").read_text()
    assert _runs(home, "open", str(one), *window) == 0, "opening it again changes nothing"
    for look in (one, one / "settled"):
        assert _runs(home, "close", str(one)) == 0
        assert one.exists(), "it did not come to its end, of both its looks: people may want to look"
        (look / ".ctr" / "ends").mkdir(parents=True, exist_ok=True)
        (look / ".ctr" / "ends" / "warn.json").write_text('{"process": 1, "exit_code": 0}')
    assert _runs(home, "close", str(one)) == 0
    assert not one.exists()
    assert other.exists()
    assert _runs(home, "open", str(home / "runs/retrain--c"), *window, "--reason", "scheduled") == 99, (
        "a is done with it"
    )


def _line_in_a_store(home: Path, interpreter: Path, address: str, tmp_path: Path, environment: dict[str, str]) -> None:
    """Every step of the toy line as a pod runs it: in an empty folder each, with nothing in common but the store."""
    environment = environment | {"PYTHONPATH": str(REPO), "CTR_WORKSPACES": address, "CTR_PYTHON": str(interpreter)}
    runs = [sys.executable, "-m", "pipeline", "runs"]
    window = ("--start", "2026-03-02", "--end", "2026-03-30")
    run = home / "runs" / "search--a"
    subprocess.run([*runs, "open", str(run), *window], cwd=home, env=environment, check=True)
    (home / "faults" / "search.train.steps").write_text("20")
    for verb in ("fetch", "check", "train", "pack"):
        pod = ["step", verb, "--run", run.name, "--folder"]
        if verb == "train":
            first = subprocess.Popen([*runs, *pod, str(tmp_path / "stopped" / run.name)], cwd=home, env=environment)
            kept = tmp_path / "stopped" / run.name / ".ctr/checkpoints/train/step"
            while not kept.is_file():
                time.sleep(0.02)
            first.terminate()
            assert first.wait() == 143
        done = subprocess.run(
            [*runs, *pod, str(tmp_path / verb / run.name)],
            cwd=home,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        if verb == "train":
            assert "begins at step" in done.stdout
            assert "begins at step 0" not in done.stdout, "it resumed from the checkpoint of another pod"
    subprocess.run([*runs, "gather", "--only", "bundle", "--only", "champion"], cwd=run, env=environment, check=True)
    by_hand = tmp_path / "by-hand"
    subprocess.run(["git", "clone", "--quiet", str(home), str(by_hand)], check=True)
    shutil.copyfile(run / "window.yaml", by_hand / "window.yaml")
    subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet", "pack"], cwd=by_hand, check=True)
    assert digests_in_lock(run) == digests_in_lock(by_hand)
    assert (run / "artifacts/bundle/digest.txt").read_text() == (by_hand / "artifacts/bundle/digest.txt").read_text()


@pytest.mark.servers
def test_steps_that_share_nothing_but_an_s3_store_make_the_bytes_of_dvc_repro(tmp_path: Path) -> None:
    home = tmp_path / "project"
    interpreter = make_project(home)
    (tmp_path / "s3").mkdir()
    with serving_s3(tmp_path / "s3") as store, pytest.MonkeyPatch.context() as environment:
        store.into(environment)
        _line_in_a_store(home, interpreter, f"s3://{BUCKET}/runs", tmp_path, dict(os.environ))
