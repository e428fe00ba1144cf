"""The real four Airflow processes on a real PostgreSQL: what happens at night.

One server for two projects: the DAG `retrain_small` runs this project's own stages on a small simulated log, the three others
a toy line, whose stages take no time and fail as they are told (toy_project).
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from pipeline.airflow_server import Refused
from pipeline.small_project import make_small_project

REPO = Path(__file__).parents[1]
sys.path.insert(0, str(REPO / "tests"))
from airflow_world import (  # noqa: E402
    ByHand,
    World,
    by_hand,
    reachable_folder,
    scheduled,
    skip_without_postgres,
    trained_for,
)
from toy_project import let_arrive, make_project  # noqa: E402

pytestmark = pytest.mark.servers
TODAY = datetime.now(UTC).date()
SMALL, RUN = "retrain_small", "line"


@dataclass(frozen=True)
class Line:
    """The project's own stages: the run of them under Airflow, and the same line by hand."""

    world: World
    by_hand: ByHand


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with reachable_folder() as made:
        yield made


@pytest.fixture(scope="module")
def small(folder: Path) -> Iterator[tuple[Path, ByHand]]:
    """The project with a small log, and the same line by hand."""
    skip_without_postgres()
    home = folder / "small"
    _make_small(home)
    with by_hand(home, folder / "by-hand", "2026-03-02", "2026-03-30") as there:
        yield home, there


@pytest.fixture(scope="module")
def world(folder: Path, small: tuple[Path, ByHand]) -> Iterator[World]:
    interpreter = make_project(folder / "project")
    let_arrive(folder / "project", TODAY - timedelta(days=30), TODAY)
    _add_a_dag_of(small[0], folder / "project" / "dags")
    data = str(folder / "project" / "data")
    settings = {"CTR_PYTHON": str(interpreter), "CTR_DATA": data, "PYTHONPATH": str(REPO)}
    with scheduled(folder, folder / "project", (SMALL, "search", "retrain", "monitor"), settings) as there:
        there.trigger(SMALL, RUN, strategy="darts", window_end="2026-03-30")  # first: it takes longest
        _begin(there)
        yield there


@pytest.fixture(scope="module")
def line(world: World, small: tuple[Path, ByHand]) -> Line:
    home, same = small
    return Line(World(world.airflow, home, world.told), same)


@pytest.fixture(scope="module")
def toy_by_hand(world: World, folder: Path) -> Iterator[ByHand]:
    """The toy line of a day that is backfilled."""
    with by_hand(world.home, folder / "toy-by-hand", "2026-03-02", "2026-03-30") as there:
        yield there


def _begin(world: World) -> None:
    """Start all runs at once, so that they meet as they do at night; each test waits for its own, and lays hands on it."""
    world.fault("search--contract.check.exits", "3 0")
    world.trigger("search", "contract", window_end="2026-03-30")
    world.trigger("search", "late", window_end="2026-04-08", window_days=1)
    days = {"from_date": "2026-03-28T00:00:00Z", "to_date": "2026-03-30T00:00:00Z", "run_backwards": True}
    order = {"dag_id": "retrain", "max_active_runs": 2, "dag_run_conf": {"strategy": "darts"}}
    world.airflow.call("POST", "/backfills", days | order)
    world.fault("search--waits.check.exits", "75")
    world.fault("search--waits.train.steps", "3000")
    world.fault("search--waits.promote.exits", "7 4")
    world.trigger("search", "waits", window_end=str(TODAY + timedelta(days=2)), window_days=2)
    world.fault("monitor--drift.warn.exits", "5")
    world.trigger("monitor", "drift", window_end=str(TODAY))


def _make_small(home: Path) -> None:
    """Lay the project with a small log at `home`, with more epochs to be killed in."""
    make_small_project(REPO, home)
    preset = home / "logs" / "simulated.yaml"
    content = yaml.safe_load(preset.read_text("utf-8"))
    content["train"]["max_epochs"] = 4
    preset.write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
    commit = "-c user.name=small -c user.email=small@localhost commit --quiet --all -m epochs"
    subprocess.run(["git", *commit.split()], cwd=home, check=True)


def _add_a_dag_of(home: Path, dags: Path) -> None:
    """Add its `retrain` as one more DAG to those of the toy project."""
    named = (home / "dags" / "retrain.py").read_text("utf-8").replace("retrain()", f"{SMALL}()")
    where = {"CTR_HOME": str(home), "CTR_PYTHON": sys.executable}
    (dags / "retrain_small.py").write_text(f"import os\n\nos.environ |= {where!r}\n\n{named}", "utf-8")


def test_a_wrong_param_is_refused_at_the_trigger(world: World) -> None:
    for wrong in ({"window_days": 0}, {"strategy": "guess"}, {"window_end": "tomorrow"}, {"dry_run": "yes"}):
        with pytest.raises(Refused) as refused:
            world.trigger("retrain", **wrong)
        assert refused.value.status == 400


def test_a_run_waits_for_its_data(world: World) -> None:
    """What becomes of it then is seen below."""
    missing = TODAY + timedelta(days=1)
    world.reach("search", "waits", "wait_for_data", "deferred")
    let_arrive(world.home, missing, missing)


@pytest.mark.usefixtures("toy_by_hand")  # which begins here
def test_a_killed_stage_and_a_killed_scheduler_are_started_again(line: Line) -> None:
    """Of the project's own stages; what came of it is seen in the last test."""
    world = line.world
    os.kill(trained_for(2, world.home / "runs" / f"{SMALL}--{RUN}"), signal.SIGKILL)
    world.until(lambda: world.tries(SMALL, RUN)["train"] == ("running", 2), "a second try")
    world.airflow.kill("scheduler")
    world.airflow.start("scheduler")


def test_a_run_that_waited_is_stopped_and_can_be_cleared(world: World) -> None:
    """What becomes of it then is seen below."""
    run = "waits"
    process = world.process_of("train", "search--waits")
    world.airflow.call("PATCH", f"/dags/search/dagRuns/{run}/taskInstances/train", {"new_state": "failed"})
    assert world.wait("search", run) == "failed"
    assert world.tries("search", run)["check"] == ("success", 2), "exit 75 is tried again"
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


def test_a_broken_contract_fails_at_once_and_is_told_once(world: World) -> None:
    run = "contract"
    assert world.wait("search", run) == "failed"
    tries = world.tries("search", run)
    assert tries["check"] == ("failed", 1)
    assert tries["train"][0] == "upstream_failed"
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


def test_days_backfilled_in_reverse_are_as_on_the_day_and_promote_nothing(world: World, toy_by_hand: ByHand) -> None:
    """Of the toy line."""
    done = world.until(lambda: len(world.done("retrain", "rehearsed")) == 3 and world.done("retrain", "rehearsed"), "3")
    assert [entry["end"][:10] for entry in done] == ["2026-03-29", "2026-03-30", "2026-03-31"]
    assert done[1]["artifacts"] == toy_by_hand.digests()
    promotions = (world.home / "faults" / "promotions").read_text().splitlines()
    backfilled = [line for line in promotions if line.startswith("retrain--backfill")]
    assert len({line.split()[0] for line in backfilled}) == 3
    assert all(line.endswith("--dry-run") for line in backfilled)


def test_the_cleared_run_goes_on_from_its_checkpoint_loses_a_race_and_is_refused_by_the_gate(world: World) -> None:
    run = "waits"
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


def test_the_line_whose_stage_and_scheduler_were_killed_resumed_is_promoted_and_has_the_bytes_of_dvc_repro(
    line: Line,
) -> None:
    world = line.world
    assert world.wait(SMALL, RUN) == "success", world.tries(SMALL, RUN)
    tries = world.tries(SMALL, RUN)
    assert {state for state, _ in tries.values()} == {"success"}
    again = "\n".join(world.log(SMALL, RUN, "train", number) for number in range(2, tries["train"][1] + 1))
    epochs = [int(number) for number in re.findall(r"epoch (\d+)", again)]
    assert epochs[0] >= 2, "it resumed from its checkpoint"
    assert world.told_of(SMALL, RUN) == [], "nobody is told of what healed"
    assert list((world.home / "runs").iterdir()) == [], "the worktree is gone"
    said = subprocess.run(
        [sys.executable, "-m", "pipeline", "champion", "--json"], cwd=world.home, capture_output=True, check=True
    )
    assert json.loads(said.stdout)["version"] == "v1.0.0"
    (done,) = world.done(SMALL)
    assert done["artifacts"] == line.by_hand.digests()


def _until_woken(world: World, number: int) -> list[str]:
    """The runs that an asset woke, once so many of them have ended."""

    def find() -> list[str] | None:
        runs = world.runs("retrain", "asset_triggered")
        ended = [str(run["dag_run_id"]) for run in runs if run["state"] in ("success", "failed")]
        return ended if len(ended) == number else None

    return list(world.until(find, f"{number} woken runs to end"))
