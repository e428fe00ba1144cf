"""The project's own stages under the real four Airflow processes, and by hand: the same bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.runs import digests_in_lock
from pipeline.small_project import make_small_project

REPO = Path(__file__).parents[1]
sys.path.insert(0, str(REPO / "tests"))
from airflow_world import reachable_folder, scheduled, skip_without_postgres  # noqa: E402


@pytest.mark.servers
def test_a_retraining_of_a_simulated_log_is_promoted_and_has_the_bytes_of_dvc_repro() -> None:
    skip_without_postgres()
    with reachable_folder() as folder:
        home, by_hand = folder / "project", folder / "by-hand"
        make_small_project(REPO, home)
        subprocess.run(["git", "clone", "--quiet", str(home), str(by_hand)], check=True)
        (by_hand / "window.yaml").write_text(
            "start: '2026-03-02T00:00:00+00:00'\nend: '2026-03-30T00:00:00+00:00'\nas_of: null\n"
        )
        (by_hand / "dvc.lock").unlink()  # of another window; a run's worktree does without it too
        environment = os.environ | {"CTR_REGISTRY": str(folder / "none"), "CTR_STORE": str(folder / "none")}
        command = [sys.executable, "-m", "dvc", "repro", "--quiet", "pack"]
        with (
            subprocess.Popen(command, cwd=by_hand, env=environment) as repro,
            scheduled(folder, home, ("retrain",), {"CTR_PYTHON": sys.executable}) as world,
        ):
            run = world.trigger("retrain", strategy="darts", window_end="2026-03-30")
            assert world.wait("retrain", run) == "success", world.tries("retrain", run)
            assert {state for state, _ in world.tries("retrain", run).values()} == {"success"}
            assert world.told == []
            assert repro.wait() == 0
        (done,) = world.done("retrain")
        assert done["artifacts"] == digests_in_lock(by_hand)
        assert not any((home / "runs").iterdir()), "the worktree is gone"
        said = subprocess.run(
            [sys.executable, "-m", "pipeline", "champion", "--json"], cwd=home, capture_output=True, check=True
        )
        assert json.loads(said.stdout)["version"] == "v1.0.0"
