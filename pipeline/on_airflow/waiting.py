"""Data that has not arrived: a task that hands its waiting to the triggerer, so that it takes no worker's slot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException
from airflow.triggers.base import BaseTrigger, TriggerEvent

from pipeline.on_airflow.tasks import run_words, stages_environment, stages_python
from pipeline.resources import RunRules, Waiting
from pipeline.subprocesses import Subprocess

_NOT_YET = 75
_LOOK = ("-m", "pipeline", "runs", "arrived")


class DataArrived(BaseTrigger):
    """Looks every `poll_seconds` whether the window's partitions are all there, until the deadline (ISO 8601)."""

    def __init__(self, folder: str, deadline: str, poll_seconds: float) -> None:
        super().__init__()
        self.folder = folder
        self.deadline = deadline
        self.poll_seconds = poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """How the triggerer makes this trigger again."""
        content = {"folder": self.folder, "deadline": self.deadline, "poll_seconds": self.poll_seconds}
        return f"{type(self).__module__}.{type(self).__qualname__}", content

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: the exit code of the last look, and its words."""
        while True:
            code, words = await self._look()
            if code != _NOT_YET or datetime.now(UTC) >= datetime.fromisoformat(self.deadline):
                yield TriggerEvent({"code": code, "words": words})
                return
            await asyncio.sleep(self.poll_seconds)

    async def _look(self) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            stages_python(),
            *_LOOK,
            cwd=self.folder,
            env=stages_environment({}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        return process.returncode or 0, output.decode(errors="replace").strip()


class WaitForData(BaseOperator):
    """Ends when every partition of the window is there; fails as "data late" when the deadline has passed."""

    ui_color = "#fef7e0"

    def __init__(self, *, waiting: Waiting, rules: RunRules, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.waiting = waiting
        self._subprocess = Subprocess(rules.stop_grace_seconds)

    def execute(self, context: Context) -> None:
        """Look once here, which mostly ends it, and leave further looks to the triggerer."""
        words = run_words(context)
        folder = words["folder"]
        lines: list[str] = []
        command = [stages_python(), *_LOOK]
        code = self._subprocess.run(command, Path(folder), stages_environment({}), lines.append)
        if code != _NOT_YET:
            self._end(code, "\n".join(lines))
            return
        deadline = datetime.fromisoformat(words["end"]) + timedelta(minutes=self.waiting.deadline_minutes)
        self.log.info("Not all there yet, waiting until %s: %s", deadline, " ".join(lines))
        trigger = DataArrived(folder, deadline.isoformat(), self.waiting.poll_seconds)
        self.defer(trigger=trigger, method_name="wake")

    def wake(self, context: Context, event: dict[str, Any]) -> None:  # noqa: ARG002 - Airflow passes both by name
        """Go on after the trigger: the data is there, or it is late."""
        self._end(int(event["code"]), str(event["words"]))

    def on_kill(self) -> None:
        """Stop the look."""
        self._subprocess.stop()

    def _end(self, code: int, words: str) -> None:
        self.log.info("%s", words)
        if code == _NOT_YET:
            raise AirflowFailException(f"data late: {words}")
        if code != 0:
            raise AirflowFailException(f"exit {code}: {words}")
