"""What Airflow costs: a retraining of the small log under its scheduler, and the same line by hand, turn about.

Both run every step anew, and must make the same bytes. Beside wall seconds stand processor seconds, which other work on the
machine changes less: of the four processes and all that they started, and of `dvc repro` and all that it started.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from components.errors import IntegrityError, OutsideError
from pipeline.airflow_server import AirflowServer, Running, free_port, postgres, running
from pipeline.runs import digests_in_lock
from pipeline.small_project import make_small_project

WINDOW = ("2026-03-02", "2026-03-30")
_DAG = "retrain"
_POLL_SECONDS = 1.0  # each look costs the api-server some hundredths of a second
_NUM_DAGS = 3


def run_bench_airflow(home: Path, rounds: int) -> dict[str, Any]:
    """Wall and processor seconds of each, round by round, and the medians of the differences.

    Raises IntegrityError where the two did not make the same bytes, OutsideError where one failed.
    """
    with tempfile.TemporaryDirectory(prefix="ctr-bench-") as place:
        folder = Path(place)
        folder.chmod(0o755)  # PostgreSQL, which never runs as root, has its cluster below
        make_small_project(home, folder / "project")
        with postgres(folder / "postgres") as url:
            server = AirflowServer(folder / "airflow", folder / "project", free_port(), url, {})
            with running(server) as airflow:
                _switch_on(airflow)
                pairs = [_pair(airflow, folder, number) for number in range(rounds)]
    return {
        "bench": "airflow",
        "rounds": pairs,
        "wall_seconds_more": median(pair["airflow"][0] - pair["by_hand"][0] for pair in pairs),
        "processor_seconds_more": median(pair["airflow"][1] - pair["by_hand"][1] for pair in pairs),
    }


def _pair(airflow: Running, folder: Path, number: int) -> dict[str, tuple[float, float]]:
    by_hand = folder / f"by-hand-{number}"
    seconds = {"by_hand": _by_hand(folder / "project", by_hand), "airflow": _scheduled(airflow)}
    ledger = folder / "project" / ".ctr" / "ledger" / "rehearsed" / _DAG
    newest = max(ledger.glob("*.json"), key=lambda path: path.stat().st_mtime)
    if _artifacts_in(newest) != digests_in_lock(by_hand):
        raise IntegrityError(f"the two runs made different bytes: {newest.name}")
    return seconds


def _artifacts_in(entry: Path) -> dict[str, str]:
    import json

    artifacts: dict[str, str] = json.loads(entry.read_text("utf-8"))["artifacts"]
    return artifacts


def _by_hand(project: Path, folder: Path) -> tuple[float, float]:
    """Clone, give the same window, reproduce up to the bundle and look at its promotion: what a run does."""
    before, began = _of_children(), time.monotonic()
    _must(["git", "clone", "--quiet", str(project), str(folder)], project)
    (folder / "dvc.lock").unlink()  # of another window; a run's worktree does without it too
    start, end = (f"'{day}T00:00:00+00:00'" for day in WINDOW)
    (folder / "window.yaml").write_text(f"start: {start}\nend: {end}\nas_of: null\n", "utf-8")
    _must([sys.executable, "-m", "dvc", "repro", "--quiet", "pack"], folder)
    _must([sys.executable, "-m", "pipeline", "promote", "--dry-run"], folder)
    return time.monotonic() - began, _of_children() - before


def _scheduled(airflow: Running) -> tuple[float, float]:
    before, began = _of_sessions(airflow), time.monotonic()
    conf = {"window_end": WINDOW[1], "window_days": 28, "strategy": "darts", "dry_run": True}
    run = airflow.call("POST", f"/dags/{_DAG}/dagRuns", {"logical_date": None, "conf": conf})["dag_run_id"]
    while True:
        airflow.must_live()
        state = airflow.call("GET", f"/dags/{_DAG}/dagRuns/{run}")["state"]
        if state == "success":
            return time.monotonic() - began, _of_sessions(airflow) - before
        if state == "failed":
            raise OutsideError(f"{run} failed: see the logs below {airflow.server.folder}")
        time.sleep(_POLL_SECONDS)


def _switch_on(airflow: Running) -> None:
    while airflow.call("GET", "/dags")["total_entries"] < _NUM_DAGS:
        airflow.must_live()
        time.sleep(_POLL_SECONDS)
    airflow.call("PATCH", f"/dags/{_DAG}", {"is_paused": False})


def _of_children() -> float:
    """Processor seconds of all children of this process that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _of_sessions(airflow: Running) -> float:
    """Processor seconds of the four processes' sessions, with those of children that have ended."""
    sessions = {process.pid for process in airflow.processes.values()}
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text("utf-8", errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) in sessions:  # proc(5): session, then utime, stime, cutime and cstime in clock ticks
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def _must(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OutsideError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
