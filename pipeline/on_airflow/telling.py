"""Failures reach people once, on the final state: a task's callback and the DAG's both tell, `runs tell` claims the run.

A task's callback runs in its own process, or in the dag-processor where the task never started or was killed; the DAG's
always in the dag-processor. Whichever comes first claims the run's one message (pipeline/runs.py).
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseNotifier, Context

from pipeline.on_airflow.tasks import HOME, run_name, stages_environment, stages_python
from pipeline.subprocesses import Subprocess

_GRACE_SECONDS = 10.0
_WORDS_AT_MOST = 500


class TellPeople(BaseNotifier):
    """Hands a failure to `python -m pipeline runs tell`."""

    template_fields = ()

    def notify(self, context: Context) -> None:
        """Say which run of which DAG failed, in which task, why as far as known, and where its log is."""
        facts: dict[str, Any] = dict(context)
        dag_run, instance = facts.get("dag_run"), facts.get("task_instance") or facts.get("ti")
        run_id = str(facts.get("run_id") or getattr(dag_run, "run_id", ""))
        reason = facts.get("exception") or facts.get("reason") or "the task never started, or was killed"
        task = getattr(instance, "task_id", "") or "the run as a whole"
        command = [stages_python(), "-m", "pipeline", "runs", "tell", run_name(facts["dag"].dag_id, run_id)]
        command += ["--dag", facts["dag"].dag_id, "--task", task, "--reason", str(reason)[:_WORDS_AT_MOST]]
        command += ["--link", str(getattr(instance, "log_url", "") or "")]
        code = Subprocess(_GRACE_SECONDS).run(command, HOME, stages_environment({}), self.log.info)
        if code != 0:
            self.log.error("nobody was told of this failure: exit %d", code)
