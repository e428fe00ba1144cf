"""`dvc.yaml` as the tasks of a DAG: edges from the data, shares from `infra/resources.yaml`, the acts around them.

prepare (a worktree of its own) >> wait_for_data (where the log is read) >> a task a step >> the last act >> announce >> clean_up. What is done is
what the workspace and the ledger say (pipeline/runs.py); an asset's event only wakes, a callback only tells people.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Asset, BaseOperator, Param, TriggerRule

from pipeline.on_airflow.tasks import DONE, DRIFT_FOUND, HOME, PipelineTask
from pipeline.on_airflow.telling import TellPeople
from pipeline.on_airflow.waiting import WaitForData
from pipeline.plan import Plan, Step, read_plan
from pipeline.resources import Need, read_resources

BUNDLE = Asset("x-ctr://bundle", group="ctr")  # "x-": for a scheme it does not know, Airflow imports all providers
DRIFT = Asset("x-ctr://drift", group="ctr")
START = datetime(2026, 3, 2, tzinfo=UTC)  # the simulated world's first day; schedules do not catch up
_SETTLED = ("--workspace", "settled")  # what `runs settle` makes in a run's worktree
_MOMENT = r"^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?$"


def training_form(strategy: str, window_days: int) -> dict[str, Param]:
    """The trigger form of a DAG that trains; Airflow refuses what does not fit before a run is made."""
    return {
        "window_end": _window_end(),
        "window_days": Param(
            window_days,
            type="integer",
            minimum=1,
            maximum=400,
            title="Days in the window",
            description="how far it reaches back from its end",
        ),
        "strategy": Param(
            strategy,
            type="string",
            enum=["darts", "darts_second_order", "halving", "random", "fixed"],
            title="Search strategy",
            description="fixed: the champion's architecture, only weights are learnt anew",
        ),
        "device": Param("auto", type="string", enum=["auto", "cpu", "cuda"], title="Device"),
        "dry_run": Param(False, type="boolean", title="Dry run", description="everything but the promotion"),
    }


def watching_form(window_hours: int) -> dict[str, Param]:
    """The trigger form of a DAG that watches what was served."""
    return {
        "window_end": _window_end(),
        "window_hours": Param(
            window_hours,
            type="integer",
            minimum=1,
            maximum=24 * 31,
            title="Hours in the window",
            description="how far it reaches back from its end",
        ),
    }


def _window_end() -> Param:
    return Param(
        None,
        type=["null", "string"],
        pattern=_MOMENT,
        title="End of the window",
        description="ISO 8601, UTC; empty: the end of the data interval",
    )


def usual(tags: tuple[str, ...]) -> dict[str, Any]:
    """What all our DAGs have in common, for `@dag(**usual(...))`."""
    return {
        "start_date": START,
        "catchup": False,
        "max_active_runs": 1,
        "tags": ["ctr", *tags],
        "on_failure_callback": TellPeople(),
        "default_args": {"owner": "ctr"},
    }


def train_and_promote() -> None:
    """Inside a DAG: prepare, wait for the data, every step that `bundle` needs, promote, announce, clean up."""
    line = _Line(read_plan(HOME / "dvc.yaml").up_to("bundle"))
    steps = line.pods() if line.has_pods else line.steps(lambda step: ("dvc", step.verb))
    anew = (("runs", "renew-champion"), *(("dvc", verb) for verb in line.downstream_of("champion")))
    if line.has_pods:
        anew = (("runs", "gather"), *anew)
    promote = line.act("promote", ("promote", "{rehearsal}"), on_race=anew, announcement=("announce_bundle", DONE))
    announce = line.act("announce_bundle", ("champion", "--json"), outlets=[BUNDLE])
    [task for task in steps.values() if not task.downstream_list] >> promote >> announce
    line.frame([task for task in steps.values() if not task.upstream_list], [announce])


def watch_and_warn() -> None:
    """Inside a DAG: prepare, two looks (outside DVC: each window is looked at once), announce what wakes a training, clean up.

    The first look is at the hour that has ended, every step that `drift` needs; the second at the window one label delay
    back, whose clicks are final by now, in a workspace of its own (pipeline/settling.py).
    """
    line = _Line(read_plan(HOME / "dvc.yaml").up_to("drift"))
    steps = line.steps(lambda step: ("run", step.verb) if step.reads else ("fetch", *line.only_what_is_read(step)))
    settle = line.act("settle", ("runs", "settle"))
    watch_settled = line.act("watch_settled", ("run", "watch", *_SETTLED))
    warn = line.act("warn", ("warn",), announcement=("wake", DRIFT_FOUND))
    warn_settled = line.act("warn_settled", ("warn", *_SETTLED), announcement=("wake_settled", DRIFT_FOUND))
    # skipped where this drift may wake nothing: pipeline/alerting/guard.py
    wakes = [line.act("wake", ("wake",)), line.act("wake_settled", ("wake", *_SETTLED))]
    announce = line.act(
        "announce_drift", ("runs", "drifted"), outlets=[DRIFT], trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS
    )
    [task for task in steps.values() if not task.downstream_list] >> warn >> wakes[0] >> announce
    settle >> watch_settled >> warn_settled >> wakes[1] >> announce
    line.frame([*(task for task in steps.values() if not task.upstream_list), settle], [*wakes, announce])


class _Line:
    """The tasks of one DAG while they are put together."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._resources = read_resources(HOME)

    @property
    def has_pods(self) -> bool:
        """Steps are pods, and what they make lies in an object store."""
        return os.environ.get("CTR_RUNNER", "subprocess") == "kubernetes"

    def steps(self, command: Callable[[Step], tuple[str, ...]]) -> dict[str, BaseOperator]:
        """A task a step, a subprocess each."""
        return self._joined({step.verb: self.act(step.verb, command(step)) for step in self._plan.steps})

    def pods(self) -> dict[str, BaseOperator]:
        """A task a step, a pod each; what `promote` reads is gathered into the run's worktree at the end."""
        steps = self._joined({step.verb: self._pod(step.verb) for step in self._plan.steps})
        gather = self.act("gather", ("runs", "gather", "--only", "bundle", "--only", "champion"))
        [task for task in steps.values() if not task.downstream_list] >> gather
        return steps | {"gather": gather}

    def _joined(self, tasks: dict[str, BaseOperator]) -> dict[str, BaseOperator]:
        """With the edges that the artifacts imply."""
        for upstream, downstream in self._plan.edges():
            tasks[upstream] >> tasks[downstream]
        return tasks

    def downstream_of(self, artifact: str) -> tuple[str, ...]:
        """The verbs, in order, of the steps that rest on an artifact, directly or not."""
        touched = {artifact}
        verbs = []
        for step in self._plan.steps:
            if touched & set(step.reads):
                touched |= set(step.makes)
                verbs.append(step.verb)
        return tuple(verbs)

    def only_what_is_read(self, step: Step) -> tuple[str, ...]:
        """Those of a step's artifacts that another step of this plan reads, as options of `fetch`."""
        read = {name for other in self._plan.steps for name in other.reads}
        return tuple(word for name in step.makes if name in read for word in ("--only", name))

    def act(self, task_id: str, arguments: tuple[str, ...], **keywords: Any) -> BaseOperator:
        """A task that runs in the run's worktree."""
        return self._task(task_id, arguments, is_in_run=True, **keywords)

    def _pod(self, task_id: str) -> BaseOperator:
        from pipeline.on_airflow.pods import PodTask

        need = self._resources.of(task_id)
        return PodTask(
            task_id=task_id,
            verb=task_id,
            need=need,
            resources=self._resources,
            on_failure_callback=TellPeople(),
            **tried_again(need),
        )

    def frame(self, first: Sequence[BaseOperator], last: Sequence[BaseOperator]) -> None:
        """prepare >> (wait_for_data >>) first ... last >> clean_up, which runs whatever happened."""
        window = ("--start", "{start}", "--end", "{end}")
        why = ("--reason", "{reason}", "--strategy={strategy}")
        prepare = self._task("prepare", ("runs", "open", "{folder}", *window, *why), is_in_run=False)
        clean_up = self._task(
            "clean_up", ("runs", "close", "{folder}", "--reason", "{reason}", "{rehearsal}"), is_in_run=False
        )
        if any("raw_log" in step.reads for step in self._plan.steps):
            arrived = WaitForData(
                task_id="wait_for_data",
                waiting=self._resources.waiting,
                rules=self._resources.runs,
                on_failure_callback=TellPeople(),
            )
            prepare.as_setup() >> arrived >> list(first)
        else:
            prepare.as_setup() >> list(first)
        list(last) >> clean_up.as_teardown(setups=prepare)

    def _task(self, task_id: str, arguments: tuple[str, ...], is_in_run: bool, **keywords: Any) -> BaseOperator:
        need = self._resources.of(task_id)
        return PipelineTask(
            task_id=task_id,
            arguments=arguments,
            is_in_run=is_in_run,
            rules=self._resources.runs,
            on_failure_callback=TellPeople(),
            **tried_again(need),
            **keywords,
        )


def tried_again(need: Need) -> dict[str, Any]:
    """Pool, time limit and retries in Airflow's words."""
    return {
        "pool": need.pool,
        "execution_timeout": need.timeout,
        "retries": need.retries,
        "retry_delay": timedelta(seconds=need.first_wait_seconds),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(seconds=need.max_wait_seconds),
    }
