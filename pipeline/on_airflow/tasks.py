"""One task: a command of ours as a subprocess in the stages' environment, and what its exit code means to a scheduler.

CTR_HOME      the project with dvc.yaml, params and .git        default: the checkout this file stands in
CTR_PYTHON    the interpreter of the stages' environment        default: .venv/bin/python in CTR_HOME
CTR_RUNS      where runs have their worktrees                   default: runs/ in CTR_HOME
CTR_RUNNER    subprocess, or kubernetes for pods                default: subprocess
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException, DownstreamTasksSkipped

from pipeline.moments import in_utc
from pipeline.resources import RunRules
from pipeline.subprocesses import Subprocess

HOME = Path(os.environ.get("CTR_HOME", Path(__file__).parents[2]))

DONE, GATE_SAID_NO, DRIFT_FOUND, RACE_LOST, NOTHING_TO_DO = 0, 4, 5, 7, 99
RETRIED = frozenset({75, 128 + 2, 128 + 9, 128 + 15})
_GOOD = ("done", "drift_found", "gate_said_no")
_NEVER_RETRIED = {
    1: "a bug: see the traceback above",
    2: "params or the environment are wrong: a person must edit",
    3: "the data is not what was promised: a person must look",
    6: "bytes are not what was signed or recorded: a person must look",
}


def meaning(exit_code: int) -> str:
    """What a scheduler makes of an exit code: done, gate_said_no, drift_found, race_lost, skip, retry or fail."""
    named = {
        DONE: "done",
        GATE_SAID_NO: "gate_said_no",
        DRIFT_FOUND: "drift_found",
        RACE_LOST: "race_lost",
        NOTHING_TO_DO: "skip",
    }
    return named.get(exit_code, "retry" if exit_code in RETRIED or exit_code < 0 else "fail")


class PipelineTask(BaseOperator):
    """Runs `python -m pipeline ARGUMENTS` in the stages' environment and ends as its exit code says.

    arguments     of the command line; the names in braces are those of `run_words`, and what is then empty is left out
    is_in_run     it runs in the run's worktree; else in the project
    on_race       what to run, in order, when a promotion came second, before the command is run again
    announcement  the task that announces what this one did, and the exit code at which there is something to announce
    """

    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        arguments: tuple[str, ...],
        is_in_run: bool,
        rules: RunRules,
        on_race: tuple[tuple[str, ...], ...] = (),
        announcement: tuple[str, int] | None = None,
        **keywords: Any,
    ) -> None:
        super().__init__(**keywords)
        self.arguments = arguments
        self.is_in_run = is_in_run
        self.rules = rules
        self.on_race = on_race
        self.announcement = announcement
        self._subprocess = Subprocess(rules.stop_grace_seconds)

    def execute(self, context: Context) -> int:
        """Run the command; raise what Airflow takes for retry, failure or skip."""
        words = run_words(context)
        code = self._command(self.arguments, words, context)
        for _ in range(self.rules.race_attempts - 1):
            if meaning(code) != "race_lost":
                break
            self.log.info("Another promotion came first: the evaluation starts anew against the new champion.")
            code = self._evaluate_anew(words, context)
        return self._end(code, is_rehearsal=bool(words["rehearsal"]))

    def on_kill(self) -> None:
        """Stop the stage, which writes its checkpoint first, and wait for it."""
        self._subprocess.stop()

    def _evaluate_anew(self, words: Mapping[str, str], context: Context) -> int:
        for arguments in self.on_race:
            code = self._command(arguments, words, context)
            if code != DONE:
                return code
        return self._command(self.arguments, words, context)

    def _command(self, arguments: tuple[str, ...], words: Mapping[str, str], context: Context) -> int:
        filled = [word for word in (argument.format_map(words) for argument in arguments) if word]
        folder = Path(words["folder"]) if self.is_in_run else HOME
        self.log.info("In %s: python -m pipeline %s", folder, " ".join(filled))
        command = [stages_python(), "-m", "pipeline", *filled]
        return self._subprocess.run(command, folder, stages_environment(context["params"]), self.log.info)

    def _end(self, code: int, is_rehearsal: bool) -> int:
        is_announced = self.announcement is None or (code == self.announcement[1] and not is_rehearsal)
        if self.announcement is not None and not is_announced and meaning(code) in _GOOD:
            self.log.info("Nothing to announce (exit %d): %s is skipped, see above.", code, self.announcement[0])
            raise DownstreamTasksSkipped(tasks=[self.announcement[0]])
        return end_as(code)


def end_as(code: int) -> int:
    """End a task as an exit code says: give a good one back, raise what Airflow takes for skip, retry or failure."""
    match meaning(code):
        case "done" | "drift_found" | "gate_said_no":
            return code
        case "skip":
            raise AirflowSkipException("nothing to do for this interval: see the line above")
        case "retry":
            raise AirflowException(f"exit {code}: it was stopped, or something outside did not answer; tried again")
        case _:
            reason = _NEVER_RETRIED.get(code, "the evaluation lost the race too often")
            raise AirflowFailException(f"exit {code}, not tried again: {reason}")


def stages_python() -> str:
    """The interpreter of the stages' environment."""
    return os.environ.get("CTR_PYTHON", str(HOME / ".venv" / "bin" / "python"))


def runs_folder() -> Path:
    """Where runs have their worktrees."""
    return Path(os.environ.get("CTR_RUNS", HOME / "runs"))


def stages_environment(params: Mapping[str, Any]) -> dict[str, str]:
    """This process's environment without Airflow's own settings, which hold secrets that no stage needs.

    Bytecode is kept: a run's steps stand in one worktree, and else each would compile the same modules twice over.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW__", "_AIRFLOW"))}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    kept["PYTHONUNBUFFERED"] = "1"
    if params.get("device"):
        kept["CTR_DEVICE"] = str(params["device"])
    return kept


def run_words(context: Context) -> dict[str, str]:
    """What a command may name of the run it belongs to.

    Its window reaches as many days or hours back as the params say: from the moment that a person gave, else from the
    data interval's end, else (a run without an interval) from the last whole day or hour before the run.
    """
    dag_run, params = context["dag_run"], context["params"]
    reason = str(getattr(dag_run.run_type, "value", dag_run.run_type))
    length = timedelta(days=int(params.get("window_days") or 0), hours=int(params.get("window_hours") or 0))
    end = _moment(params.get("window_end")) or dag_run.data_interval_end or _last_whole(dag_run.run_after, length)
    is_rehearsal = reason == "backfill" or bool(params.get("dry_run"))
    return {
        "folder": str(runs_folder() / run_name(dag_run.dag_id, dag_run.run_id)),
        "start": (end - length).isoformat(),
        "end": end.isoformat(),
        "reason": reason,
        "strategy": str(params.get("strategy") or ""),
        "rehearsal": "--dry-run" if is_rehearsal else "",
    }


def run_name(dag_id: str, run_id: str) -> str:
    """A run's name as a folder: the DAG's id and the run's, in signs that every file system takes."""
    return f"{dag_id}--{re.sub('[^0-9A-Za-z]+', '-', run_id).strip('-')}"


def _last_whole(moment: datetime, length: timedelta) -> datetime:
    """The last midnight (UTC) where windows are counted in days, the last whole hour where they are counted in hours."""
    hour = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return hour.replace(hour=0) if length >= timedelta(days=1) else hour


def _moment(text: str | None) -> datetime | None:
    return in_utc(datetime.fromisoformat(text)) if text else None
