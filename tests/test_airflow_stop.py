"""`make airflow` and Ctrl-C while a task is under way: the step keeps its checkpoint, and no process is left over."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.airflow_server import AirflowServer, Running, free_port

REPO = Path(__file__).parents[1]
sys.path.insert(0, str(REPO / "tests"))
from airflow_world import LIMIT_SECONDS, QUICK, World, processes_in, quick_resources, reachable_folder  # noqa: E402
from toy_project import make_project  # noqa: E402

STOP_SECONDS = 60.0


@pytest.mark.servers
def test_ctrl_c_stops_a_running_step_after_its_checkpoint_and_leaves_no_process() -> None:
    with reachable_folder() as folder:
        home, place, port = folder / "project", folder / "home", free_port()
        interpreter = make_project(home)
        (home / "faults" / "retrain.train.steps").write_text("3000")
        environment = os.environ | QUICK | {"CTR_PYTHON": str(interpreter), "CTR_DATA": str(home / "data")}
        environment |= {"CTR_RESOURCES": str(quick_resources(folder, home)), "PYTHONPATH": str(REPO)}
        command = [sys.executable, "-m", "pipeline", "airflow", "--folder", str(place), "--port", str(port)]
        with subprocess.Popen(command, cwd=home, env=environment, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith(f"Airflow: http://127.0.0.1:{port}   login: admin / ")
            world = World(Running(AirflowServer(place, home, port, "", {})), home, [])
            world.until(lambda: world.airflow.call("GET", "/dags")["total_entries"] == 3, "three DAGs")
            pools = [pool["name"] for pool in world.airflow.call("GET", "/pools")["pools"]]
            assert "ctr_gpu" in pools
            world.airflow.call("PATCH", "/dags/retrain", {"is_paused": False})
            world.trigger("retrain", "stopped", strategy="darts", window_end="2026-03-30")
            step = world.process_of("train", "retrain--stopped")
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.wait(LIMIT_SECONDS) == 0
            assert "Airflow has stopped." in process.stdout.read()
            assert time.monotonic() - began < STOP_SECONDS
        assert not Path("/proc", str(step)).exists()
        (ended,) = home.glob("runs/retrain--stopped/.ctr/ends/train.json")
        assert json.loads(ended.read_text())["exit_code"] == 143, "it kept a checkpoint and ended by itself"
        (kept,) = home.glob("runs/retrain--stopped/.ctr/checkpoints/train/step")
        assert int(kept.read_text()) > 0
        assert processes_in(folder) == []
