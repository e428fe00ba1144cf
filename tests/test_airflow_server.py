"""The real four Airflow processes on a real PostgreSQL: what happens at night, with a small line of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from pipeline.airflow_server import Refused

REPO = Path(__file__).parents[1]
sys.path.insert(0, str(REPO / "tests"))
from airflow_world import World, reachable_folder, scheduled, skip_without_postgres  # noqa: E402
from toy_project import let_arrive, make_project  # noqa: E402

pytestmark = pytest.mark.servers
TODAY = datetime.now(UTC).date()


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    skip_without_postgres()
    with reachable_folder() as folder:
        interpreter = make_project(folder / "project")
        let_arrive(folder / "project", TODAY - timedelta(days=30), TODAY)
        settings = {
            "CTR_PYTHON": str(interpreter),
            "CTR_DATA": str(folder / "project" / "data"),
            "PYTHONPATH": str(REPO),
        }
        with scheduled(folder, folder / "project", ("search", "retrain", "monitor"), settings) as there:
            _begin(there)
            yield there


def _begin(world: World) -> None:
    """Start all runs at once, so that they meet as they do at night; each test waits for its own, and lays hands on it."""
    world.fault("search--contract.check.exits", "3 0")
    world.trigger("search", "contract", window_end="2026-03-30")
    world.fault("retrain--killed.train.steps", "3000")
    world.fault("retrain--killed.search.exits", "75")
    world.trigger("retrain", "killed", strategy="darts", window_end="2026-03-30")
    world.trigger("search", "late", window_end="2026-04-08", window_days=1)
    days = {"from_date": "2026-03-28T00:00:00Z", "to_date": "2026-03-30T00:00:00Z", "run_backwards": True}
    order = {"dag_id": "retrain", "max_active_runs": 2, "dag_run_conf": {"strategy": "darts"}}
    world.airflow.call("POST", "/backfills", days | order)
    world.fault("search--waits.train.steps", "3000")
    world.fault("search--waits.promote.exits", "7 4")
    world.trigger("search", "waits", window_end=str(TODAY + timedelta(days=2)), window_days=2)
    world.fault("monitor--drift.warn.exits", "5")
    world.trigger("monitor", "drift", window_end=str(TODAY))


def test_a_wrong_param_is_refused_at_the_trigger(world: World) -> None:
    for wrong in ({"window_days": 0}, {"strategy": "guess"}, {"window_end": "tomorrow"}, {"dry_run": "yes"}):
        with pytest.raises(Refused) as refused:
            world.trigger("retrain", **wrong)
        assert refused.value.status == 400


def test_a_broken_contract_fails_at_once_and_is_told_once(world: World) -> None:
    run = "contract"
    assert world.wait("search", run) == "failed"
    tries = world.tries("search", run)
    assert tries["check"] == ("failed", 1)
    assert tries["search"][0] == "upstream_failed"
    assert tries["clean_up"][0] == "success"
    assert "was told to end with 3" in world.log("search", run, "check", 1)
    world.until(lambda: world.told_of("search", run), "a message")
    again = "People were told of search--contract already"
    world.until(lambda: again in world.said_by_the_dag_processor("search"), "the DAG's own callback")
    (alert,) = world.told_of("search", run)
    assert alert["labels"]["severity"] == "page"
    assert "check" in alert["annotations"]["summary"]
    assert alert["annotations"]["runbook_url"].endswith("/CtrRunFailed.md")
    assert len(list((world.home / "runs").glob("search--contract"))) == 1, "a failed run's worktree stays"


def test_data_that_does_not_arrive_by_the_deadline_is_late_and_told(world: World) -> None:
    run = "late"
    assert world.wait("search", run) == "failed"
    assert world.tries("search", run)["fetch"][0] == "upstream_failed"
    assert "1 partition(s) of the window" in world.log("search", run, "wait_for_data", 1)
    world.until(lambda: world.told_of("search", run), "a message")
    labels = [alert["labels"] for alert in world.told_of("search", run)]
    assert [(label["alertname"], label["severity"]) for label in labels] == [("CtrDataLate", "ticket")]


def test_killed_stage_and_killed_scheduler_resume_and_make_the_same_bytes(world: World, tmp_path: Path) -> None:
    run = "killed"
    os.kill(world.process_of("train", "retrain--killed"), signal.SIGKILL)
    world.until(lambda: world.tries("retrain", run)["train"][1] == 2, "a second try")
    world.process_of("train", "retrain--killed")
    world.airflow.kill("scheduler")
    (kept,) = world.home.glob("runs/retrain--killed/.ctr/checkpoints/train/step")
    world.fault("retrain--killed.train.steps", str(int(kept.read_text()) + 20))
    world.airflow.start("scheduler")
    assert world.wait("retrain", run) == "success"
    tries = world.tries("retrain", run)
    assert tries["search"] == ("success", 2), "exit 75 is tried again"
    log = "\n".join(world.log("retrain", run, "train", number + 1) for number in range(tries["train"][1]))
    begins = [line for line in log.splitlines() if "begins at step" in line]
    assert begins[0].endswith("step 0")
    assert not begins[1].endswith("step 0"), "it resumed from its checkpoint"
    assert world.told_of("retrain", run) == [], "nobody is told of what healed"
    assert list((world.home / "runs").glob("retrain--killed")) == []

    by_hand = tmp_path / "by-hand"
    subprocess.run(["git", "clone", "--quiet", str(world.home), str(by_hand)], check=True)
    (by_hand / "window.yaml").write_text(
        "start: '2026-03-02T00:00:00+00:00'\nend: '2026-03-30T00:00:00+00:00'\nas_of: null\n"
    )
    subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet", "pack"], cwd=by_hand, check=True)
    lock = yaml.safe_load((by_hand / "dvc.lock").read_text())["stages"]
    outs = {Path(out["path"]).name: out["md5"] for stage in lock.values() for out in stage["outs"]}
    (done,) = (entry for entry in world.done("retrain") if entry["run"] == "retrain--killed")
    assert done["artifacts"] == outs


def test_one_run_waits_for_its_data_is_stopped_and_cleared_loses_a_race_and_is_refused_by_the_gate(
    world: World,
) -> None:
    run, missing = "waits", TODAY + timedelta(days=1)
    world.reach("search", run, "wait_for_data", "deferred")
    let_arrive(world.home, missing, missing)

    process = world.process_of("train", "search--waits")
    world.airflow.call("PATCH", f"/dags/search/dagRuns/{run}/taskInstances/train", {"new_state": "failed"})
    assert world.wait("search", run) == "failed"
    world.until(lambda: not Path("/proc", str(process)).exists(), "the stopped stage to end")
    (ended,) = world.home.glob("runs/search--waits/.ctr/ends/train.json")
    assert json.loads(ended.read_text())["exit_code"] == 143, "it kept a checkpoint and ended by itself"
    world.until(lambda: world.told_of("search", run), "a message")

    (kept,) = world.home.glob("runs/search--waits/.ctr/checkpoints/train/step")
    world.fault("search--waits.train.steps", str(int(kept.read_text()) + 5))
    again = {
        "dry_run": False,
        "dag_run_id": run,
        "task_ids": ["train"],
        "include_downstream": True,
        "only_failed": False,
    }
    world.airflow.call("POST", "/dags/search/clearTaskInstances", again)
    world.reach("search", run, "train", "success")
    assert world.wait("search", run) == "success"
    second = world.log("search", run, "train", world.tries("search", run)["train"][1])
    assert "train begins at step" in second
    assert "begins at step 0" not in second, "it went on from its checkpoint"
    assert world.tries("search", run)["announce_bundle"][0] == "skipped"
    log = world.log("search", run, "promote", world.tries("search", run)["promote"][1])
    assert (
        log.index("Another promotion came first") < log.index("Running stage 'pack'") < log.rindex("promote was told")
    )
    assert "Nothing to announce (exit 4)" in log


def test_drift_wakes_a_training_and_a_doubled_event_of_it_does_not(world: World) -> None:
    assert world.wait("monitor", "drift") == "success"
    ends = {task: state for task, (state, _) in world.tries("monitor", "drift").items()}
    assert [ends[task] for task in ("wake", "watch_settled", "announce_drift")] == ["success"] * 3
    assert ends["wake_settled"] == "skipped", "that look found nothing, and keeps the other from nothing"
    _until_woken(world, 1)
    asset = world.airflow.call("GET", "/assets?uri_pattern=drift")["assets"][0]["id"]
    world.airflow.call("POST", "/assets/events", {"asset_id": asset, "extra": {}})
    first, second = _until_woken(world, 2)
    assert world.tries("retrain", first)["promote"][0] == "success"
    assert world.tries("retrain", second)["prepare"][0] == "skipped"
    ends = [date.fromisoformat(entry["end"][:10]) for entry in world.done("retrain")]
    assert ends.count(TODAY) == 1


def test_a_run_whose_first_task_never_started_is_told_once_too(world: World) -> None:
    world.airflow.call("PATCH", "/dags/monitor", {"is_paused": True})
    run = world.trigger("monitor", "never-started", window_end=str(TODAY))
    world.airflow.call("PATCH", f"/dags/monitor/dagRuns/{run}/taskInstances/prepare", {"new_state": "failed"})
    world.airflow.call("PATCH", "/dags/monitor", {"is_paused": False})
    assert world.wait("monitor", run) == "failed"
    world.until(lambda: world.told_of("monitor", run), "a message")
    (alert,) = world.told_of("monitor", run)
    assert "prepare failed for good" in alert["annotations"]["summary"]
    assert world.tries("monitor", run)["prepare"] == ("failed", 0), "it never started"
    assert not (world.home / "runs" / f"monitor--{run}").exists()


def test_days_backfilled_in_reverse_are_as_on_the_day_and_promote_nothing(world: World) -> None:
    done = world.until(lambda: len(world.done("retrain", "rehearsed")) == 3 and world.done("retrain", "rehearsed"), "3")
    assert [entry["end"][:10] for entry in done] == ["2026-03-29", "2026-03-30", "2026-03-31"]
    on_the_day = {entry["end"]: entry["artifacts"] for entry in world.done("retrain")}
    assert done[1]["artifacts"] == on_the_day[done[1]["end"]]
    promotions = (world.home / "faults" / "promotions").read_text().splitlines()
    backfilled = [line for line in promotions if line.startswith("retrain--backfill")]
    assert len({line.split()[0] for line in backfilled}) == 3
    assert all(line.endswith("--dry-run") for line in backfilled)


def _until_woken(world: World, number: int) -> list[str]:
    """The runs that an asset woke, once so many of them have ended."""

    def find() -> list[str] | None:
        runs = world.runs("retrain", "asset_triggered")
        ended = [str(run["dag_run_id"]) for run in runs if run["state"] in ("success", "failed")]
        return ended if len(ended) == number else None

    return list(world.until(find, f"{number} woken runs to end"))
