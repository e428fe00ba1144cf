"""The project's own stages under the real four Airflow processes, and by hand: the same bytes.

A retraining, a window with too few rows, and three days backfilled in reverse, of a small simulated log.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import pytest
import yaml

from pipeline.plan import read_plan
from pipeline.runs import digests_in_lock
from pipeline.small_project import make_small_project

REPO = Path(__file__).parents[1]
sys.path.insert(0, str(REPO / "tests"))
from airflow_world import (  # noqa: E402
    World,
    clone_of_the_day,
    reachable_folder,
    reproduced,
    scheduled,
    skip_without_postgres,
)

pytestmark = pytest.mark.servers
DAYS = tuple(date(2026, 3, 30) + timedelta(days=number) for number in range(3))  # ends of the windows
WINDOW = timedelta(days=28)
FIRST, BROKEN = "first", "broken"


@dataclass(frozen=True)
class ByHand:
    """Artifact -> digest of the first day's line, and of each day's up to the scorer with the architecture found on the first."""

    searched: Future[dict[str, str]]
    taken_over: Future[dict[date, dict[str, str]]]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    skip_without_postgres()
    with reachable_folder() as made:
        make_small_project(REPO, made / "project")
        yield made


@pytest.fixture(scope="module")
def by_hand(folder: Path) -> Iterator[ByHand]:
    """The lines by hand, one after another, behind everything else."""
    with ThreadPoolExecutor(max_workers=1) as one:
        searched = one.submit(_searched, folder)
        yield ByHand(searched, one.submit(_taken_over, folder))


@pytest.fixture(scope="module")
def world(folder: Path, by_hand: ByHand) -> Iterator[World]:
    home = folder / "project"
    with scheduled(folder, home, ("retrain",), {"CTR_PYTHON": sys.executable}) as there:
        there.trigger("retrain", BROKEN, strategy="darts", window_end=str(DAYS[0]), window_days=1)
        there.trigger("retrain", FIRST, strategy="darts", window_end=str(DAYS[0]))
        yield there
        by_hand.taken_over.exception()  # it stands in the same folder


def test_a_window_with_too_few_rows_fails_at_once_and_is_told_once(world: World) -> None:
    """A day of this log has fewer rows than `check` was promised."""
    assert world.wait("retrain", BROKEN) == "failed"
    tries = world.tries("retrain", BROKEN)
    assert (tries["fetch"], tries["check"]) == (("success", 1), ("failed", 1))
    assert (tries["split"][0], tries["clean_up"][0]) == ("upstream_failed", "success")
    said = world.log("retrain", BROKEN, "check", 1)
    assert "DataError" in said
    assert "clean rows of" in said
    world.until(lambda: world.told_of("retrain", BROKEN), "a message")
    again = "People were told of retrain--broken already"
    world.until(lambda: again in world.said_by_the_dag_processor("retrain"), "the DAG's own callback")
    (alert,) = world.told_of("retrain", BROKEN)
    assert alert["labels"]["severity"] == "page"
    assert "check" in alert["annotations"]["summary"]


def test_a_retraining_of_a_simulated_log_is_promoted_and_has_the_bytes_of_dvc_repro(
    world: World, by_hand: ByHand
) -> None:
    assert world.wait("retrain", FIRST) == "success", world.tries("retrain", FIRST)
    assert {state for state, _ in world.tries("retrain", FIRST).values()} == {"success"}
    assert world.told_of("retrain", FIRST) == []
    (done,) = world.done("retrain")
    assert not (world.home / "runs" / f"retrain--{FIRST}").exists(), "the worktree is gone"
    assert _champion(world.home) == "v1.0.0"
    assert done["artifacts"] == by_hand.searched.result()


def test_three_days_backfilled_in_reverse_have_the_bytes_of_runs_on_those_days_and_promote_nothing(
    world: World, by_hand: ByHand
) -> None:
    """As every retraining they take over the champion's architecture."""
    first, last = (f"{day - timedelta(days=1)}T00:00:00Z" for day in (DAYS[0], DAYS[-1]))
    days = {"dag_id": "retrain", "from_date": first, "to_date": last, "run_backwards": True}
    world.airflow.call("POST", "/backfills", days | {"max_active_runs": 2})
    done = world.until(lambda: (entries := world.done("retrain", "rehearsed"))[2:] and entries, "three days")
    runs = world.until(lambda: _ended(world), "the ends")
    begins = [run["start_date"] for run in sorted(runs, key=lambda run: str(run["data_interval_end"]))]
    assert begins == sorted(begins, reverse=True), "the last day ran first"
    up_to_scorer = _up_to_scorer(world.home)
    rehearsed = {date.fromisoformat(entry["end"][:10]): entry["artifacts"] for entry in done}
    ours = {day: {name: artifacts[name] for name in up_to_scorer} for day, artifacts in rehearsed.items()}
    assert ours == by_hand.taken_over.result()
    assert len({artifacts["scorer"] for artifacts in ours.values()}) == len(DAYS), "each day has a scorer of its own"
    told = [(alert["status"], alert["labels"]["alertname"]) for alert in world.told]
    assert told == [("firing", "CtrRunFailed"), ("resolved", "CtrRunFailed")], (
        "what was broken, and its end; of days, nothing"
    )
    assert (_champion(world.home), len(world.done("retrain"))) == ("v1.0.0", 1), "nothing was promoted"


def _searched(folder: Path) -> dict[str, str]:
    """The first day's line by hand, as far as the bundle."""
    clone = clone_of_the_day(folder / "project", folder / "by-hand", str(DAYS[0] - WINDOW), str(DAYS[0]))
    with reproduced(clone, "pack") as repro:
        assert repro.wait() == 0
    return digests_in_lock(clone)


def _taken_over(folder: Path) -> dict[date, dict[str, str]]:
    """Each day's line by hand as far as the scorer, with the architecture that was found on the first."""
    found = (folder / "by-hand/artifacts/architecture/architecture.txt").read_text("utf-8").strip()
    digests = {}
    for day in DAYS:
        clone = clone_of_the_day(folder / "project", folder / f"by-hand-{day}", str(day - WINDOW), str(day))
        params = yaml.safe_load((clone / "params.yaml").read_text("utf-8"))
        params["search"] |= {"strategy": "fixed", "fixed_architecture": found}
        (clone / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), "utf-8")
        with reproduced(clone, "calibrate") as repro:
            assert repro.wait() == 0
        digests[day] = digests_in_lock(clone)
        assert set(digests[day]) >= _up_to_scorer(clone)
        digests[day] = {name: digests[day][name] for name in _up_to_scorer(clone)}
    return digests


def _up_to_scorer(home: Path) -> set[str]:
    made = {name for step in read_plan(home / "dvc.yaml").up_to("scorer").steps for name in step.makes}
    assert {"clean_log", "encoded", "architecture", "ranker", "scorer"} <= made
    return made - {"champion"}  # there is one by now, which only what comes after the scorer reads


def _ended(world: World) -> list[dict[str, object]] | None:
    """The backfilled runs, once all have ended well."""
    runs = world.runs("retrain", "backfill")
    return runs if {run["state"] for run in runs} == {"success"} else None


def _champion(home: Path) -> str:
    command = [sys.executable, "-m", "pipeline", "champion", "--json"]
    said = subprocess.run(command, cwd=home, capture_output=True, check=True)
    return str(json.loads(said.stdout)["version"])
