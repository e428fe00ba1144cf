"""`make night`: simulated days under the real scheduler with faults at random; monitor and retrain together.

Each day a retraining of the day's window and two watches run at once, while two faults are drawn (seeded) from: a step answers 75, a
stage is killed with SIGKILL, a promotion loses a race, data comes late, a broken contract (which somebody mends and starts again),
drift is found and its event doubled, the scheduler, the dag-processor or the triggerer is killed and started again. At the end: every
window in the ledger once, one message for each broken contract and none of what healed, no worktree and no process left. Prints
the table of what happened; exit 1 where a promise was broken.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from datetime import date, timedelta
from enum import StrEnum
from pathlib import Path

REPO = Path(__file__).parents[1]
sys.path[:0] = [str(REPO), str(REPO / "tests")]
from airflow_world import World, reachable_folder, scheduled  # noqa: E402
from toy_project import let_arrive, make_project  # noqa: E402

FIRST_DAY = date(2026, 4, 6)  # the day after the last whose data is there from the start
STEPS = ("fetch", "train", "pack")


class Fault(StrEnum):
    """What may go wrong in a day; in the order in which it is met while the day's runs go on."""

    LATE = "data comes late"
    BROKEN = "a broken contract"
    ANSWERS_75 = "a step answers 75"
    KILLED = "a stage is killed"
    RACE = "a race is lost"
    DRIFT = "drift, its event doubled"
    SCHEDULER = "scheduler killed"
    DAG_PROCESSOR = "dag-processor killed"
    TRIGGERER = "triggerer killed"


class Night:
    """One night: what is done to it, and what came of it."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.random = random.Random(seed)
        self.rows: list[str] = []
        self.wrong: list[str] = []

    def live(self, number: int) -> None:
        """One day: its faults, its runs, its row in the table."""
        world, day, began = self.world, FIRST_DAY + timedelta(days=number), time.monotonic()
        end = str(day + timedelta(days=1))
        before = world.runs("retrain", "asset_triggered")
        faults = sorted(self.random.sample(list(Fault), k=2), key=list(Fault).index)
        if Fault.LATE not in faults:
            let_arrive(world.home, day, day)
        for fault in faults:
            self._lay_out(fault)
        training = world.trigger("retrain", window_end=end, strategy="darts")
        watches = [world.trigger("monitor", window_end=f"{end}T{hour:02}:00") for hour in (0, 6)]
        for fault in faults:
            self._while_it_runs(fault, day, training)
        runs = [("retrain", training), *(("monitor", run) for run in watches)]
        states = [world.wait(dag, run) for dag, run in runs]
        woken = self._woken_since(len(before)) if Fault.DRIFT in faults else []
        tries = sum(number for _, number in world.tries("retrain", training).values())
        people = sum(len(world.told_of(dag, run)) for dag, run in runs)
        if set(states) != {"success"} or people != (Fault.BROKEN in faults):
            self.wrong.append(f"{day}: {states}, {people} messages")
        seconds = time.monotonic() - began
        row = (str(day), ", ".join(faults), *states, str(tries), ", ".join(woken) or "-", str(people), f"{seconds:.0f}")
        self.rows.append(f"| {' | '.join(row)} |")
        print(self.rows[-1], flush=True)

    def _mend(self, training: str) -> None:
        """Somebody was told, looked, and starts what failed again."""
        if self.world.wait("retrain", training) != "failed":
            self.wrong.append(f"{training} was to fail")
        self.world.until(lambda: self.world.told_of("retrain", training), "a message")
        again = {"dry_run": False, "dag_run_id": training, "task_ids": ["check"], "include_downstream": True}
        again["only_failed"] = False
        self.world.airflow.call("POST", "/dags/retrain/clearTaskInstances", again)
        self.world.until(lambda: self.world.tries("retrain", training)["check"][0] == "success", "check to succeed")

    def count(self, num_days: int) -> None:
        """Whether every window is in the ledger, once, and nothing was left."""
        ends = [entry["end"][:10] for entry in self.world.done("retrain") if entry["end"][11:13] == "00"]
        expected = [str(FIRST_DAY + timedelta(days=number + 1)) for number in range(num_days)]
        if sorted(ends) != expected:
            self.wrong.append(f"windows trained on: {ends}, expected {expected}")
        if len(self.world.done("monitor")) != 2 * num_days:
            self.wrong.append(f"{len(self.world.done('monitor'))} windows watched, expected {2 * num_days}")
        messages = [alert for alert in self.world.told if alert["status"] == "firing"]
        broken = sum(Fault.BROKEN in row for row in self.rows)
        if len(messages) != broken:
            self.wrong.append(f"{len(messages)} messages of {broken} broken contracts: {messages}")
        left = [path.name for path in (self.world.home / "runs").iterdir()]
        if left:
            self.wrong.append(f"worktrees left over: {left}")

    def _lay_out(self, fault: Fault) -> None:
        """What lies in wait before the day's runs start."""
        match fault:
            case Fault.ANSWERS_75:
                self.world.fault(f"retrain.{self.random.choice(STEPS)}.exits", "75")
            case Fault.KILLED:
                self.world.fault("retrain.train.steps", "50")
            case Fault.RACE:
                self.world.fault("retrain.promote.exits", "7")
            case Fault.BROKEN:
                self.world.fault("retrain.check.exits", "3")
            case Fault.DRIFT:
                self.world.fault("monitor.warn.exits", "5")

    def _while_it_runs(self, fault: Fault, day: date, training: str) -> None:
        world = self.world
        match fault:
            case Fault.LATE:
                world.reach("retrain", training, "wait_for_data", "deferred")
                let_arrive(world.home, day, day)
            case Fault.BROKEN:
                self._mend(training)
            case Fault.KILLED:
                os.kill(world.process_of("train", "retrain--*"), signal.SIGKILL)
                world.fault("retrain.train.steps", "0")
            case Fault.SCHEDULER | Fault.DAG_PROCESSOR | Fault.TRIGGERER:
                component = fault.removesuffix(" killed")
                world.airflow.kill(component)
                time.sleep(self.random.uniform(0.5, 3.0))
                world.airflow.start(component)
            case Fault.DRIFT:
                asset = world.airflow.call("GET", "/assets?uri_pattern=drift")["assets"][0]["id"]
                world.until(lambda: list(world.home.glob(".ctr/ledger/drift/*")), "drift")
                world.airflow.call("POST", "/assets/events", {"asset_id": asset, "extra": {}})

    def _woken_since(self, number: int) -> list[str]:
        """How the runs that drift woke ended, once none is under way."""

        def ended() -> list[str] | None:
            states = [str(run["state"]) for run in self.world.runs("retrain", "asset_triggered")[number:]]
            return states if states and set(states) <= {"success", "failed"} else None

        return list(self.world.until(ended, "the woken runs"))


def main(num_days: int, seed: int) -> int:
    """Live through the days, print the table, and say what was wrong."""
    with reachable_folder() as folder:
        interpreter = make_project(folder / "project")
        settings = {
            "CTR_PYTHON": str(interpreter),
            "CTR_DATA": str(folder / "project" / "data"),
            "PYTHONPATH": str(REPO),
        }
        with scheduled(folder, folder / "project", ("retrain", "monitor"), settings) as world:
            night = Night(world, seed)
            print("| day | faults | retrain | monitor | monitor | tries of tasks | woken by drift | told | seconds |")
            print("|---|---|---|---|---|---|---|---|---|", flush=True)
            for number in range(num_days):
                night.live(number)
            night.count(num_days)
    print("\n".join(night.wrong) or f"{num_days} days: nothing lost, nobody told of what healed, nothing left over.")
    return 1 if night.wrong else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
