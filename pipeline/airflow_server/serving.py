"""Airflow until Ctrl-C or SIGTERM: what `make airflow` runs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.airflow_server.database import postgres
from pipeline.airflow_server.processes import running
from pipeline.airflow_server.settings import AirflowServer

_WATCH_SECONDS = 1.0


def serve_airflow(home: Path, folder: Path, port: int, with_postgres: bool) -> None:
    """Run Airflow until Ctrl-C or SIGTERM, saying where it is and how to log in; raises OutsideError where one of the four ends."""
    url = os.environ.get("CTR_DATABASE_URL") or os.environ.get("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _go)
    with suppress(_Gone), _database(url, folder, with_postgres) as address:
        server = AirflowServer(folder, home, port, address, {})
        with running(server) as airflow:
            print(f"Airflow: {server.address}   login: admin / {server.password()}   Ctrl-C stops it", flush=True)
            while True:
                airflow.must_live()
                time.sleep(_WATCH_SECONDS)
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
