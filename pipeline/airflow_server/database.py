"""A PostgreSQL cluster of its own for a server: made with initdb, started and stopped with pg_ctl."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from components.errors import ConfigError, OutsideError
from pipeline.airflow_server.settings import free_port

# A scheduler that was killed in a transaction leaves workers that hold its connection open, and with it the locks on its
# runs, which every later scheduler then passes over for good. The database ends such a session after this time.
_IDLE_TRANSACTION_SECONDS = 15


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A cluster in `folder` on a free loopback port; gives the URL for Airflow, stops it at the end.

    PostgreSQL refuses to run as root; there the user `postgres` runs it, who must be able to reach `folder`.
    """
    tools = postgres_tools()
    as_postgres: list[str] = []
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        as_postgres = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    data, port = folder / "data", free_port()
    if not (data / "PG_VERSION").is_file():
        initdb = [str(tools / "initdb"), "-D", str(data), "-U", "airflow", "-A", "trust", "-E", "UTF8", "--no-sync"]
        _must([*as_postgres, *initdb])
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={data} -c fsync=off"
    options += f" -c idle_in_transaction_session_timeout={_IDLE_TRANSACTION_SECONDS}s"
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


def _must(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode != 0:
        raise OutsideError(f"{' '.join(command)} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
