"""Where a server runs, and what its processes are told: Airflow's settings as environment variables."""

from __future__ import annotations

import json
import os
import secrets
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",  # 5 s by default, after which a busy machine fails tasks
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

    def log_of(self, component: str) -> Path:
        """What one of the four processes writes."""
        return self.folder / "processes" / f"{component}.log"

    def _secret(self, name: str, num_bytes: int) -> str:
        path = self.folder / f"{name}.secret"
        if not path.is_file():
            _write_private(path, secrets.token_hex(num_bytes))
        return path.read_text("utf-8")


def free_port() -> int:
    """A loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE), "w") as file:
        file.write(text)
