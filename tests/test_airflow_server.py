"""The real four Airflow processes on a real PostgreSQL: what happens at night, with a small line of its own."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.errors import ConfigError
from pipeline.airflow_server import AirflowServer, Refused, Running, free_port, postgres, postgres_tools, running

REPO = Path(__file__).parents[1]
sys.path.insert(0, str(REPO / "tests"))
from toy_project import make_project  # noqa: E402

LIMIT_SECONDS = 900.0  # for a machine that is busy with other work; an idle one needs a tenth
QUICK = {  # Airflow's own time-outs, minutes by default
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "3",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "30",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "1",
}


class World:
    """The server, the project it schedules, and what people were told."""

    def __init__(self, airflow: Running, home: Path, told: list[dict[str, Any]]) -> None:
        self.airflow = airflow
        self.home = home
        self.told = told

    def trigger(self, dag: str, **conf: Any) -> str:
        answer = self.airflow.call("POST", f"/dags/{dag}/dagRuns", {"logical_date": None, "conf": conf})
        return str(answer["dag_run_id"])

    def wait(self, dag: str, run: str) -> str:
        return self.until(lambda: self._ended(dag, run), f"{dag} {run} to end")

    def tries(self, dag: str, run: str) -> dict[str, tuple[str, int]]:
        tasks = self.airflow.call("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
        return {task["task_id"]: (task["state"], task["try_number"]) for task in tasks}

    def log(self, dag: str, run: str, task: str, number: int) -> str:
        answer = self.airflow.call("GET", f"/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/{number}")
        return "\n".join(str(line.get("event", "")) for line in answer["content"])

    def fault(self, name: str, content: str) -> None:
        (self.home / "faults" / name).write_text(content)

    def process_of(self, verb: str) -> int:
        """The process that works on a stage, once it has kept its first checkpoint."""

        def find() -> int | None:
            for path in self.home.glob(f"runs/*/.ctr/ends/{verb}.json"):
                record = json.loads(path.read_text())
                if record["exit_code"] is None and (path.parents[1] / "checkpoints" / f"{verb}.step").is_file():
                    return int(record["process"])
            return None

        return self.until(find, f"{verb} to work")

    def done(self, flow: str, kind: str = "done") -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(self.home.glob(f".ctr/ledger/{kind}/{flow}/*.json"))]

    def until(self, look: Callable[[], Any], what: str) -> Any:
        end = time.monotonic() + LIMIT_SECONDS
        while time.monotonic() < end:
            found = look()
            if found:
                return found
            time.sleep(0.2)
        raise AssertionError(f"waited {LIMIT_SECONDS:g} s for {what}")

    def _ended(self, dag: str, run: str) -> str | None:
        state = self.airflow.call("GET", f"/dags/{dag}/dagRuns/{run}")["state"]
        return str(state) if state in ("success", "failed") else None


pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that the user postgres can reach, unlike pytest's own."""
    made = Path(tempfile.mkdtemp(prefix="ctr-airflow-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def world(folder: Path) -> Iterator[World]:
    try:
        postgres_tools()
    except ConfigError as error:
        pytest.skip(str(error))
    home = folder / "project"
    interpreter = make_project(home)
    resources = yaml.safe_load((home / "infra/resources.yaml").read_text())
    resources["default"] |= {"first_wait_seconds": 1, "max_wait_seconds": 2}
    (home / "infra/quick.yaml").write_text(yaml.safe_dump(resources))
    with postgres(folder / "postgres") as url, _listener() as (webhook, told):
        settings = QUICK | {
            "CTR_PYTHON": str(interpreter),
            "CTR_RESOURCES": str(home / "infra/quick.yaml"),
            "CTR_WEBHOOK": webhook,
            "PYTHONPATH": str(REPO),
            "AIRFLOW__CORE__PARALLELISM": "4",
        }
        server = AirflowServer(folder / "home", home, free_port(), url, settings)
        with running(server) as airflow:
            there = World(airflow, home, told)
            there.until(lambda: airflow.call("GET", "/dags")["total_entries"] == 3, "three DAGs")
            for dag in ("search", "retrain"):
                airflow.call("PATCH", f"/dags/{dag}", {"is_paused": False})
            yield there
    left = [line for line in _processes() if str(folder) in line]
    assert left == [], "processes were left over"


def _processes() -> list[str]:
    return subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout.splitlines()


class _listener:  # noqa: N801 - used as a function
    """Somebody who listens: a webhook on loopback, and what it heard."""

    def __enter__(self) -> tuple[str, list[dict[str, Any]]]:
        told: list[dict[str, Any]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                told.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}/hook", told

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def test_a_wrong_param_is_refused_at_the_trigger(world: World) -> None:
    for wrong in ({"window_days": 0}, {"strategy": "guess"}, {"window_end": "tomorrow"}, {"dry_run": "yes"}):
        with pytest.raises(Refused) as refused:
            world.trigger("retrain", **wrong)
        assert refused.value.status == 400


def test_a_broken_contract_fails_at_once_and_is_told_once(world: World) -> None:
    world.fault("search.check.exits", "3 0")
    run = world.trigger("search", window_end="2026-03-30")
    assert world.wait("search", run) == "failed"
    tries = world.tries("search", run)
    assert tries["check"] == ("failed", 1)
    assert tries["search"][0] == "upstream_failed"
    assert tries["clean_up"][0] == "success"
    assert "was told to end with 3" in world.log("search", run, "check", 1)
    world.until(lambda: world.told, "a message")
    time.sleep(3)  # the DAG's own callback has come, and found the message sent
    assert len(world.told) == 1
    alert = world.told[0]
    assert alert["labels"]["severity"] == "page"
    assert "check" in alert["annotations"]["summary"]
    assert alert["annotations"]["runbook_url"].endswith("/CtrRunFailed.md")
    assert len(list((world.home / "runs").glob("search--*"))) == 1, "a failed run's worktree stays"


def test_killed_stage_and_killed_scheduler_resume_and_make_the_same_bytes(world: World, tmp_path: Path) -> None:
    world.fault("retrain.train.steps", "80")
    world.fault("retrain.search.exits", "75")
    run = world.trigger("retrain", strategy="darts", window_end="2026-03-30")
    os.kill(world.process_of("train"), signal.SIGKILL)
    world.until(lambda: world.tries("retrain", run)["train"][1] == 2, "a second try")
    world.process_of("train")
    world.airflow.kill("scheduler")
    time.sleep(2)
    world.airflow.start("scheduler")
    assert world.wait("retrain", run) == "success"
    tries = world.tries("retrain", run)
    assert tries["search"] == ("success", 2), "exit 75 is tried again"
    log = "\n".join(world.log("retrain", run, "train", number + 1) for number in range(tries["train"][1]))
    begins = [line for line in log.splitlines() if "begins at step" in line]
    assert begins[0].endswith("step 0")
    assert not begins[1].endswith("step 0"), "it resumed from its checkpoint"
    assert len(world.told) <= 1, "nobody is told of what healed"
    assert list((world.home / "runs").glob("retrain--*")) == []

    by_hand = tmp_path / "by-hand"
    subprocess.run(["git", "clone", "--quiet", str(world.home), str(by_hand)], check=True)
    (by_hand / "window.yaml").write_text(
        "start: '2026-03-02T00:00:00+00:00'\nend: '2026-03-30T00:00:00+00:00'\nas_of: null\n"
    )
    subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet", "pack"], cwd=by_hand, check=True)
    lock = yaml.safe_load((by_hand / "dvc.lock").read_text())["stages"]
    outs = {Path(out["path"]).name: out["md5"] for stage in lock.values() for out in stage["outs"]}
    done = world.done("retrain")[-1]
    assert done["artifacts"] == outs


def test_days_backfilled_in_reverse_are_as_on_the_day_and_promote_nothing(world: World) -> None:
    world.fault("retrain.train.steps", "0")
    promotions = world.home / "faults" / "promotions"
    before = promotions.read_text().splitlines()
    world.airflow.call(
        "POST",
        "/backfills",
        {
            "dag_id": "retrain",
            "from_date": "2026-03-28T00:00:00Z",
            "to_date": "2026-03-30T00:00:00Z",
            "run_backwards": True,
            "max_active_runs": 2,
            "dag_run_conf": {"strategy": "darts"},
        },
    )
    done = world.until(lambda: len(world.done("retrain", "rehearsed")) == 3 and world.done("retrain", "rehearsed"), "3")
    assert [entry["end"][:10] for entry in done] == ["2026-03-29", "2026-03-30", "2026-03-31"]
    on_the_day = {entry["end"]: entry["artifacts"] for entry in world.done("retrain")}
    assert done[1]["artifacts"] == on_the_day[done[1]["end"]]
    new = promotions.read_text().splitlines()[len(before) :]
    assert len(new) == 3
    assert all(line.endswith("--dry-run") for line in new)


def test_a_doubled_event_of_drift_trains_once(world: World) -> None:
    ledger = world.home / ".ctr" / "ledger" / "drift"
    ledger.mkdir(parents=True, exist_ok=True)
    drift = {"end": "2026-04-02T06:00:00+00:00", "run": "monitor--x"}
    (ledger / "20260402T060000Z--monitor--x.json").write_text(json.dumps(drift))
    asset = world.airflow.call("GET", "/assets?uri_pattern=drift")["assets"][0]["id"]
    ended = ("success", "failed")
    for number in (1, 2):
        world.airflow.call("POST", "/assets/events", {"asset_id": asset, "extra": {}})
        world.until(lambda: len([run for run in _woken(world) if run["state"] in ended]) == number, "it to end")  # noqa: B023
    first, second = sorted(_woken(world), key=lambda run: str(run["run_after"]))
    assert world.tries("retrain", first["dag_run_id"])["promote"][0] == "success"
    assert world.tries("retrain", second["dag_run_id"])["prepare"][0] == "skipped"
    assert [entry["run"][:9] for entry in world.done("retrain") if entry["end"] == drift["end"]] == ["retrain--"]


def _woken(world: World) -> list[dict[str, Any]]:
    runs = world.airflow.call("GET", "/dags/retrain/dagRuns?limit=100")["dag_runs"]
    return [run for run in runs if run["run_type"] == "asset_triggered"]
