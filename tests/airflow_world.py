"""The real four Airflow processes on a real PostgreSQL around a project, and somebody who listens to what people are told."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors import safe_open
from toy_project import BEHIND, GIVING_WAY

from components.errors import ConfigError
from pipeline.airflow_server import AirflowServer, Running, free_port, postgres, postgres_tools, running
from pipeline.on_dvc import read_end
from pipeline.run import Workspace
from pipeline.runs import digests_in_lock

REPO = Path(__file__).parents[1]
_LOOK_SECONDS = 1.0  # each look costs the api-server some hundredths of a second
LIMIT_SECONDS = 900.0  # for a machine that is busy with other work; an idle one needs a tenth
QUICK = {  # Airflow's own time-outs, minutes by default
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "3",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "8",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "2",
    "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",  # no DAG changes while tests run
    "AIRFLOW__CORE__PARALLELISM": "6",
    "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.7",
}


@dataclass(frozen=True)
class ByHand:
    """A line by hand, which goes on behind everything else."""

    folder: Path
    repro: subprocess.Popen[bytes]

    def digests(self) -> dict[str, str]:
        """Artifact -> digest, once it has ended."""
        assert self.repro.wait() == 0
        return digests_in_lock(self.folder)


class World:
    """The server, the project it schedules, and what people were told."""

    def __init__(self, airflow: Running, home: Path, told: list[dict[str, Any]]) -> None:
        self.airflow = airflow
        self.home = home
        self.told = told

    def trigger(self, dag: str, run: str = "", **conf: Any) -> str:
        """Start a run of a DAG; `run` names it, else Airflow does."""
        content = {"logical_date": None, "conf": conf} | ({"dag_run_id": run} if run else {})
        return str(self.airflow.call("POST", f"/dags/{dag}/dagRuns", content)["dag_run_id"])

    def wait(self, dag: str, run: str) -> str:
        try:
            return str(self.until(lambda: self._ended(dag, run), f"{dag} {run} to end"))
        except AssertionError as late:
            raise AssertionError(f"{late}: {self.tries(dag, run)}") from late

    def tries(self, dag: str, run: str) -> dict[str, tuple[str, int]]:
        tasks = self.airflow.call("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
        return {task["task_id"]: (task["state"], task["try_number"]) for task in tasks}

    def reach(self, dag: str, run: str, task: str, state: str) -> None:
        """Wait until a task is in a state; a run that ends before is an error."""

        def look() -> bool:
            now = self.tries(dag, run)
            if now.get(task, ("", 0))[0] == state:
                return True
            assert self._ended(dag, run) is None, f"{dag} {run} ended, {task} never was {state}: {now}"
            return False

        self.until(look, f"{task} of {dag} to be {state}")

    def log(self, dag: str, run: str, task: str, number: int) -> str:
        answer = self.airflow.call("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/{number}")
        return "\n".join(str(line.get("event", "")) for line in answer["content"])

    def runs(self, dag: str, kind: str) -> list[dict[str, Any]]:
        """The runs of a DAG that were started in one way (asset_triggered, backfill, ...), the first one first."""
        runs = self.airflow.call("GET", f"/dags/{dag}/dagRuns?limit=100")["dag_runs"]
        return sorted((run for run in runs if run["run_type"] == kind), key=lambda run: str(run["run_after"]))

    def told_of(self, dag: str, run: str) -> list[dict[str, Any]]:
        """What people were told of a run."""
        name = f"{dag}--{re.sub('[^0-9A-Za-z]+', '-', run).strip('-')}"
        firing = [alert for alert in self.told if alert["status"] == "firing"]
        return [alert for alert in firing if name in alert["annotations"]["summary"]]

    def fault(self, name: str, content: str) -> None:
        (self.home / "faults" / name).write_text(content)

    def process_of(self, verb: str, run: str = "*") -> int:
        """The process that works on a stage, once it has kept its first checkpoint."""

        def find() -> int | None:
            for path in self.home.glob(f"runs/{run}/.ctr/ends/{verb}.json"):
                record = json.loads(path.read_text())
                is_alive = record["exit_code"] is None and Path("/proc", str(record["process"])).is_dir()
                if is_alive and (path.parents[1] / "checkpoints" / verb / "step").is_file():
                    return int(record["process"])
            return None

        return int(self.until(find, f"{verb} to work"))

    def said_by_the_dag_processor(self, dag: str) -> str:
        """What a DAG's own callbacks, and those of tasks that never started, wrote."""
        logs = self.airflow.server.folder.glob(f"logs/dag_processor/*/*/{dag}.py.log")
        return "".join(path.read_text("utf-8", errors="replace") for path in logs)

    def done(self, flow: str, kind: str = "done") -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(self.home.glob(f".ctr/ledger/{kind}/{flow}/*.json"))]

    def until(self, look: Callable[[], Any], what: str) -> Any:
        end = time.monotonic() + LIMIT_SECONDS
        while time.monotonic() < end:
            self.airflow.must_live()
            found = look()
            if found:
                return found
            time.sleep(_LOOK_SECONDS)
        raise AssertionError(f"waited {LIMIT_SECONDS:g} s for {what}")

    def _ended(self, dag: str, run: str) -> str | None:
        state = self.airflow.call("GET", f"/dags/{dag}/dagRuns/{run}")["state"]
        return str(state) if state in ("success", "failed") else None


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """A folder that the user postgres can reach, unlike pytest's own; CTR_KEEP leaves it there, for a look at its logs."""
    made = Path(tempfile.mkdtemp(prefix="ctr-airflow-"))
    made.chmod(0o755)
    try:
        yield made
    finally:
        if not os.environ.get("CTR_KEEP"):
            shutil.rmtree(made)


@contextmanager
def scheduled(folder: Path, home: Path, dags: tuple[str, ...], settings: dict[str, str]) -> Iterator[World]:
    """The four processes around the project at `home`, with `dags` switched on; no process is left at the end."""
    with postgres(folder / "postgres") as url, listening() as (webhook, told):
        said = QUICK | {"CTR_RESOURCES": str(quick_resources(folder, home)), "CTR_WEBHOOK": webhook} | settings
        server = AirflowServer(folder / "home", home, free_port(), url, said)
        with running(server) as airflow:
            there = World(airflow, home, told)
            files = list((home / "dags").glob("[!_]*.py"))
            there.until(lambda: airflow.call("GET", "/dags")["total_entries"] == len(files), "a DAG a file")
            for dag in dags:
                airflow.call("PATCH", f"/dags/{dag}", {"is_paused": False})
            yield there
    assert processes_in(folder) == [], "processes were left over"


def quick_resources(folder: Path, home: Path) -> Path:
    """The project's resources with waits of seconds, for CTR_RESOURCES."""
    resources = yaml.safe_load((home / "infra/resources.yaml").read_text())
    resources["default"] |= {"first_wait_seconds": 1, "max_wait_seconds": 2}
    resources["waiting"] |= {"poll_seconds": 8}
    quick = folder / "quick.yaml"
    quick.write_text(yaml.safe_dump(resources))
    return quick


def clone_of_the_day(home: Path, folder: Path, start: str, end: str) -> Path:
    """A clone of a project with a day's window, for `dvc repro` by hand."""
    subprocess.run(["git", "clone", "--quiet", str(home), str(folder)], check=True)
    moments = (f"'{day}T00:00:00+00:00'" for day in (start, end))
    (folder / "window.yaml").write_text("start: {}\nend: {}\nas_of: null\n".format(*moments), "utf-8")
    (folder / "dvc.lock").unlink(missing_ok=True)  # of another window; a run's worktree does without it too
    return folder


@contextmanager
def reproduced(folder: Path, step: str) -> Iterator[subprocess.Popen[bytes]]:
    """`dvc repro` up to a step, while inside, behind whatever else wants the processors; there is no champion."""
    nowhere = {"CTR_REGISTRY": str(folder / ".none"), "CTR_STORE": str(folder / ".none")}
    environment = os.environ | nowhere | {"PYTHONPATH": str(GIVING_WAY), "CTR_GIVE_WAY": "6"}
    command = [*BEHIND, sys.executable, "-m", "dvc", "repro", "--quiet", step]
    with subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True) as repro:
        try:
            yield repro
        finally:
            repro.terminate()


@contextmanager
def by_hand(home: Path, folder: Path, start: str, end: str) -> Iterator[ByHand]:
    """The line of a window by hand as far as the bundle, in a clone of its own, while inside."""
    with reproduced(clone_of_the_day(home, folder, start, end), "pack") as repro:
        yield ByHand(folder, repro)


def trained_for(num_epochs: int, folder: Path) -> int:
    """The process that trains in a run's folder, as soon as its checkpoint holds so many epochs."""
    record, kept = folder / ".ctr/ends/train.json", folder / ".ctr/checkpoints/train/checkpoint.safetensors"
    end = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < end:
        if kept.is_file():
            with safe_open(kept, framework="np") as file:
                epoch = json.loads(file.metadata()["facts"])["course"]["epoch"]
            if epoch >= num_epochs:
                assert read_end(Workspace(folder), "train") is None, "train ended before it could be killed"
                return int(json.loads(record.read_text())["process"])
        time.sleep(0.1)
    raise AssertionError(f"waited {LIMIT_SECONDS:g} s for {num_epochs} epochs")


def skip_without_postgres() -> None:
    try:
        postgres_tools()
    except ConfigError as error:
        pytest.skip(str(error))


@contextmanager
def listening() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Somebody who listens: a webhook on loopback, and what it heard."""
    told: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["alerts"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hook", told
    finally:
        server.shutdown()
        server.server_close()


def processes_in(folder: Path) -> list[str]:
    """Living processes that stand in a folder or name it: Airflow's own rename themselves, and stand there still."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            words = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if words and f"{folder}/" in f"{(place / 'cwd').readlink()}/ {words}":
                found.append(f"{place.name} {words}")
    return found
