"""The four processes while they live: started in sessions of their own, watched, called, and stopped in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from components.errors import OutsideError
from pipeline.airflow_server.calling import Refused, request
from pipeline.airflow_server.settings import AirflowServer
from pipeline.resources import read_resources
from pipeline.subprocesses import ask_for_sigterm_when_the_parent_dies

COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
_OPTIONS = {  # logs are read from the folder; the servers for them would listen on every address, not only on loopback
    "scheduler": ("--skip-serve-logs",),
    "triggerer": ("--skip-serve-logs",),
}
_SETTINGS = {  # it is started while the tables are laid out, and asks for none before somebody asks it
    "api-server": {"AIRFLOW__DATABASE__CHECK_MIGRATIONS": "False"},
}
_HEALTH = ("metadatabase", "scheduler", "triggerer", "dag_processor")
_START_SECONDS = 600.0
_STOP_SECONDS = 12.0
# For nothing the triggerer waits ten (3.3.2), and the api-server's Python forgets its modules for three.
_STOP_AGAIN_SECONDS = 1.0
_POLL_SECONDS = 0.25
_IDLE = b"LocalExecutor: <idle>"  # how Airflow calls a worker between two tasks
_THERE_ALREADY = 409


class Running:
    """The four processes while they live."""

    def __init__(self, server: AirflowServer) -> None:
        self.server = server
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._token = ""
        self._killed: list[int] = []

    def start(self, component: str) -> None:
        """Start one of the four, its output in the folder's logs."""
        log = self.server.log_of(component)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self.processes[component] = subprocess.Popen(
                [sys.executable, "-m", "airflow", component, *_OPTIONS.get(component, ())],
                env=self.server.environment() | _SETTINGS.get(component, {}),
                cwd=self.server.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=ask_for_sigterm_when_the_parent_dies,
            )

    def ask_to_stop(self, *components: str) -> None:
        """SIGTERM, and no wait; `stop` asks those that are still there again."""
        for name in components:
            if name in self.processes and self.processes[name].poll() is None:
                os.kill(self.processes[name].pid, signal.SIGTERM)

    def stop(self, *components: str) -> None:
        """SIGTERM, again where it did not do, then SIGKILL; tasks that a scheduler leaves behind are ended after it.

        Only a scheduler is left its time before the second: its tasks' steps write their checkpoints.
        """
        ending = [process for name in components if (process := self.processes.pop(name, None)) is not None]
        patience = _STOP_SECONDS if "scheduler" in components else _STOP_AGAIN_SECONDS
        for number, seconds in (
            (signal.SIGTERM, patience),
            (signal.SIGTERM, _STOP_SECONDS),
            (signal.SIGKILL, _STOP_SECONDS),
        ):
            for process in ending:
                if process.poll() is None:
                    os.kill(process.pid, number)
            _wait_for(ending, seconds)
        _end_sessions({process.pid for process in ending}, (signal.SIGTERM, signal.SIGKILL))

    def kill(self, component: str) -> None:
        """SIGKILL, as a machine that goes down would; its children are left to see for themselves."""
        process = self.processes.pop(component)
        process.kill()
        process.wait()
        self._killed.append(process.pid)

    def bury(self) -> None:
        """End at once what the killed left behind, such as a scheduler's workers: there is nobody left to report to."""
        _end_sessions(set(self._killed), (signal.SIGKILL,))

    def wait_until_healthy(self) -> None:
        """Wait for all four; raises OutsideError naming those that are not, and the log of one that ended."""
        end = time.monotonic() + _START_SECONDS
        sick: list[str] = list(COMPONENTS)
        while time.monotonic() < end:
            self.must_live()
            sick = self._sick()
            if not sick:
                return
            time.sleep(_POLL_SECONDS)
        raise OutsideError(
            f"Airflow was not healthy in {_START_SECONDS:g} s ({sick}): see {self.server.log_of(COMPONENTS[0])}"
        )

    def must_live(self) -> None:
        """Raise OutsideError, with the place of its log, where one of the four has ended."""
        for component, process in self.processes.items():
            if process.poll() is not None:
                raise OutsideError(
                    f"airflow {component} ended with {process.returncode}: see {self.server.log_of(component)}"
                )

    def call(self, method: str, path: str, content: Any = None) -> Any:
        """One REST call as admin, under /api/v2; gives the JSON, raises Refused."""
        if not self._token:
            login = {"username": "admin", "password": self.server.password()}
            self._token = str(request("POST", f"{self.server.address}/auth/token", login, "")["access_token"])
        return request(method, f"{self.server.address}/api/v2{path}", content, self._token)

    def make_pools(self) -> None:
        """The pools that infra/resources.yaml names."""
        for name, slots in read_resources(self.server.home).pools.items():
            pool = {"name": name, "slots": slots, "description": "one training at a time", "include_deferred": False}
            try:
                self.call("POST", "/pools", pool)
            except Refused as refusal:
                if refusal.status != _THERE_ALREADY:
                    raise

    def _sick(self) -> list[str]:
        """Those that are not healthy yet. The tasks' own API is asked too: its first answer takes seconds, in which nobody else gets one."""
        try:
            request("GET", f"{self.server.address}/execution/health", None, "")
            health = request("GET", f"{self.server.address}/api/v2/monitor/health", None, "")
        except (Refused, urllib.error.URLError, ConnectionError, TimeoutError):
            return list(_HEALTH)
        return [name for name in _HEALTH if (health.get(name) or {}).get("status") != "healthy"]


@contextmanager
def running(server: AirflowServer) -> Iterator[Running]:
    """Set up the database, start the four processes, wait until they are healthy; stop all of them on the way out.

    The api-server, whose imports take longest, is started while the database is set up.
    """
    server.folder.mkdir(parents=True, exist_ok=True)
    server.password()
    airflow = Running(server)
    try:
        airflow.start(COMPONENTS[0])
        _migrate(server)
        for component in COMPONENTS[1:]:
            airflow.start(component)
        airflow.wait_until_healthy()
        airflow.make_pools()
        yield airflow
    finally:
        # They take seconds, and no task needs them for its last words.
        airflow.ask_to_stop("triggerer", "dag-processor")
        airflow.stop("scheduler")  # before the api-server, to which these words go
        airflow.stop("triggerer", "dag-processor", "api-server")
        airflow.bury()


def _migrate(server: AirflowServer) -> None:
    """Lay out the database's tables, or bring them up to date; raises OutsideError."""
    migrate = [sys.executable, "-m", "airflow", "db", "migrate"]
    done = subprocess.run(
        migrate, env=server.environment(), cwd=server.folder, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise OutsideError(f"airflow db migrate failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _end_sessions(leaders: set[int], signals: Sequence[signal.Signals]) -> None:
    """End what is left of sessions: SIGTERM, at which a task stops its step, or SIGKILL, each with a while to take effect.

    By session, as a task under way has a process group of its own and outlives its scheduler. Idle workers, which hold
    nothing and do not listen to SIGTERM, are killed at once.
    """
    for number in signals:
        for process in _members(leaders):
            with suppress(ProcessLookupError, PermissionError, FileNotFoundError):
                is_idle = _IDLE in Path("/proc", str(process), "cmdline").read_bytes()
                os.kill(process, signal.SIGKILL if is_idle else number)
        end = time.monotonic() + _STOP_SECONDS
        while _members(leaders) and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)


def _members(leaders: set[int]) -> list[int]:
    """The living processes of these sessions (proc(5): pid (name) state ppid pgrp session ...)."""
    members = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            state, _, _, session = path.read_text("utf-8", errors="replace").rpartition(")")[2].split()[:4]
            if int(session) in leaders and state != "Z":
                members.append(int(path.parent.name))
    return members


def _wait_for(ending: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    end = time.monotonic() + seconds
    for process in ending:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, end - time.monotonic()))
