"""Airflow's four processes on loopback, for development and tests: set up, started, watched, and stopped without leavings.

A database of its own (SQLite, or a PostgreSQL cluster started with initdb and pg_ctl) or the one whose address is given.
Needs only the standard library; Airflow itself runs in the child processes.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.errors import ConfigError, OutsideError
from pipeline.resources import read_resources
from pipeline.subprocesses import ask_for_sigterm_when_the_parent_dies

COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
_HEALTH = ("metadatabase", "scheduler", "triggerer", "dag_processor")
_START_SECONDS = 600.0
_STOP_SECONDS = 12.0
_POLL_SECONDS = 0.25
_PRIVATE = 0o600


@dataclass(frozen=True)
class AirflowServer:
    """Where it runs: its folder (configuration, logs, database), the project, the port, the database's URL, more settings."""

    folder: Path
    home: Path
    port: int
    database_url: str
    settings: Mapping[str, str]

    @property
    def address(self) -> str:
        """Where pages and REST API are."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """What the four processes share; the secrets in it are made once and kept in the folder, readable by the owner only."""
        workers = max(2, min(8, os.cpu_count() or 2))
        own = {
            "AIRFLOW_HOME": str(self.folder),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.home / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": str(workers),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.address}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.folder / "passwords.json"),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__BASE_URL": self.address,
            "AIRFLOW__API_AUTH__JWT_SECRET": self._secret("jwt", 64),
            "AIRFLOW__CORE__FERNET_KEY": "",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self.database_url,
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
            "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
            "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "1",
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
            "CTR_HOME": str(self.home),
            "CTR_PYTHON": os.environ.get("CTR_PYTHON", sys.executable),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(self.home), os.environ.get("PYTHONPATH", "")])),
            "PYTHONWARNINGS": "ignore",
        }
        return os.environ | own | dict(self.settings)

    def password(self) -> str:
        """Of the user `admin`."""
        path = self.folder / "passwords.json"
        if not path.is_file():
            _write_private(path, json.dumps({"admin": secrets.token_urlsafe(12)}))
        return str(json.loads(path.read_text("utf-8"))["admin"])

    def _secret(self, name: str, num_bytes: int) -> str:
        path = self.folder / f"{name}.secret"
        if not path.is_file():
            _write_private(path, secrets.token_hex(num_bytes))
        return path.read_text("utf-8")


class Refused(Exception):  # noqa: N818 - an answer
    """The REST API refused a call: the HTTP status, and the server's words."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(f"{status}: {words}")
        self.status = status


class Running:
    """The four processes while they live."""

    def __init__(self, server: AirflowServer) -> None:
        self.server = server
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._token = ""
        self._killed: list[int] = []

    def start(self, component: str) -> None:
        """Start one of the four, its output in the folder's logs."""
        log = self.server.folder / "processes" / f"{component}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self.processes[component] = subprocess.Popen(
                [sys.executable, "-m", "airflow", component],
                env=self.server.environment(),
                cwd=self.server.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=ask_for_sigterm_when_the_parent_dies,
            )

    def stop(self, *components: str) -> None:
        """SIGTERM, again where it was swallowed, then SIGKILL to the group; a scheduler's workers go with it."""
        ending = [process for name in components if (process := self.processes.pop(name, None)) is not None]
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            for process in ending:
                if process.poll() is None:
                    os.kill(process.pid, number)
            _wait_for(ending, _STOP_SECONDS)
        for process in ending:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)

    def kill(self, component: str) -> None:
        """SIGKILL, as a machine that goes down would; its children are left to see for themselves."""
        process = self.processes.pop(component)
        process.kill()
        process.wait()
        self._killed.append(process.pid)

    def bury(self) -> None:
        """End what the killed left behind, such as a scheduler's idle workers."""
        for group in self._killed:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)

    def wait_until_healthy(self) -> None:
        """Wait for all four; raises OutsideError naming those that are not, and the log of one that ended."""
        end = time.monotonic() + _START_SECONDS
        sick: list[str] = list(COMPONENTS)
        while time.monotonic() < end:
            for component, process in self.processes.items():
                if process.poll() is not None:
                    raise OutsideError(f"airflow {component} ended at once: see {self._log_of(component)}")
            sick = self._sick()
            if not sick:
                return
            time.sleep(_POLL_SECONDS)
        raise OutsideError(
            f"Airflow was not healthy in {_START_SECONDS:g} s ({sick}): see {self._log_of(COMPONENTS[0])}"
        )

    def call(self, method: str, path: str, content: Any = None) -> Any:
        """One REST call as admin, under /api/v2; gives the JSON, raises Refused."""
        if not self._token:
            login = {"username": "admin", "password": self.server.password()}
            self._token = str(_request("POST", f"{self.server.address}/auth/token", login, "")["access_token"])
        return _request(method, f"{self.server.address}/api/v2{path}", content, self._token)

    def make_pools(self) -> None:
        """The pools that infra/resources.yaml names."""
        for name, slots in read_resources(self.server.home).pools.items():
            pool = {"name": name, "slots": slots, "description": "one training at a time", "include_deferred": False}
            try:
                self.call("POST", "/pools", pool)
            except Refused as refusal:
                if refusal.status != 409:
                    raise

    def _sick(self) -> list[str]:
        try:
            health = _request("GET", f"{self.server.address}/api/v2/monitor/health", None, "")
        except (Refused, urllib.error.URLError, ConnectionError, TimeoutError):
            return list(_HEALTH)
        return [name for name in _HEALTH if (health.get(name) or {}).get("status") != "healthy"]

    def _log_of(self, component: str) -> Path:
        return self.server.folder / "processes" / f"{component}.log"


@contextmanager
def running(server: AirflowServer) -> Iterator[Running]:
    """Set up the database, start the four processes, wait until they are healthy; stop all of them on the way out."""
    server.folder.mkdir(parents=True, exist_ok=True)
    server.password()
    migrate = [sys.executable, "-m", "airflow", "db", "migrate"]
    done = subprocess.run(
        migrate, env=server.environment(), cwd=server.folder, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise OutsideError(f"airflow db migrate failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    airflow = Running(server)
    try:
        for component in COMPONENTS:
            airflow.start(component)
        airflow.wait_until_healthy()
        airflow.make_pools()
        yield airflow
    finally:
        airflow.stop("scheduler")  # first: its tasks' last words still go to the api-server
        airflow.stop("triggerer", "dag-processor", "api-server")
        airflow.bury()


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL cluster of its own in `folder` on a free loopback port; gives the URL for Airflow, stops it at the end."""
    tools = postgres_tools()
    as_postgres: list[str] = []
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    data, port = folder / "data", free_port()
    if not (data / "PG_VERSION").is_file():
        _must(
            [
                *as_postgres,
                str(tools / "initdb"),
                "-D",
                str(data),
                *["-U", "airflow", "-A", "trust", "-E", "UTF8", "--no-sync"],
            ]
        )
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={data} -c fsync=off"
    control = [*as_postgres, str(tools / "pg_ctl"), "-D", str(data)]
    _must([*control, "-o", options, "-l", str(data / "postgres.log"), "-w", "start"])
    try:
        psql = [str(tools / "psql"), "-h", "127.0.0.1", "-p", str(port), "-U", "airflow", "-d", "postgres", "-tAc"]
        if not _must([*psql, "select 1 from pg_database where datname='airflow'"]).strip():
            _must([*psql, "create database airflow"])
        yield f"postgresql+psycopg2://airflow@127.0.0.1:{port}/airflow"
    finally:
        _must([*control, "-m", "fast", "-w", "stop"])


def postgres_tools() -> Path:
    """The folder of initdb and pg_ctl; raises ConfigError where PostgreSQL is not installed."""
    found = shutil.which("pg_config")
    folder = Path(_must([found, "--bindir"]).strip()) if found else Path("/nonexistent")
    if not (folder / "initdb").is_file():
        raise ConfigError("no initdb: install PostgreSQL's server (Debian: postgresql), or give CTR_DATABASE_URL")
    return folder


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve_airflow(home: Path, folder: Path, port: int, with_postgres: bool) -> None:
    """Run Airflow until Ctrl-C or SIGTERM, saying where it is and how to log in."""
    url = os.environ.get("CTR_DATABASE_URL") or os.environ.get("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _go)
    with suppress(_Gone), _database(url, folder, with_postgres) as address:
        server = AirflowServer(folder, home, port, address, {})
        with running(server) as airflow:
            print(f"Airflow: {server.address}   login: admin / {server.password()}   Ctrl-C stops it", flush=True)
            _wait_for_the_first_to_end(airflow)
    print("Airflow has stopped.", flush=True)


@contextmanager
def _database(url: str | None, folder: Path, with_postgres: bool) -> Iterator[str]:
    if url:
        yield url
    elif with_postgres:
        with postgres(folder / "postgres") as own:
            yield own
    else:
        yield f"sqlite:///{folder / 'airflow.db'}"


class _Gone(BaseException):
    """A signal asked the server to stop."""


def _go(number: int, _frame: object) -> None:
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)  # the stop itself is not interrupted
    raise _Gone(number)


def _wait_for_the_first_to_end(airflow: Running) -> None:
    while True:
        for component, process in airflow.processes.items():
            if process.poll() is not None:
                raise OutsideError(
                    f"airflow {component} ended with {process.returncode}: see its log in {airflow.server.folder}"
                )
        time.sleep(1.0)


def _wait_for(ending: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    end = time.monotonic() + seconds
    for process in ending:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, end - time.monotonic()))


def _request(method: str, url: str, content: Any, token: str) -> Any:
    body = None if content is None else json.dumps(content).encode()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(url, data=body, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def _must(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode != 0:
        raise OutsideError(f"{' '.join(command)} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE), "w") as file:
        file.write(text)
