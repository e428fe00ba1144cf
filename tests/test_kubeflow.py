"""The line under Kubeflow: what is compiled, and that it makes the same bytes as by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from components.errors import ConfigError
from components.log import Window
from components.manifest import digest_folder
from components.strict import parse
from pipeline.kubeflow_step import run_step
from pipeline.plan import read_plan
from pipeline.small_project import make_small_project

REPO = Path(__file__).parents[1]
sys.path.insert(0, str(REPO / "tests"))
from airflow_world import clone_of_the_day, reproduced  # noqa: E402

LOCAL = """
import sys
from pathlib import Path
from kfp import local
from pipeline.on_kubeflow import kubeflow_pipeline
home, root = Path(sys.argv[1]), sys.argv[2]
local.init(runner=local.SubprocessRunner(use_venv=False), pipeline_root=root, raise_on_error=True)
kubeflow_pipeline(home)(window_start="2026-03-02", window_end="2026-03-30", dry_run=True)
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    output = tmp_path_factory.mktemp("kubeflow") / "pipeline.yaml"
    command = [sys.executable, "-m", "pipeline", "kubeflow", "--output", str(output)]
    subprocess.run(command, cwd=REPO, check=True, capture_output=True)
    content: dict[str, object] = next(yaml.safe_load_all(output.read_text()))
    return content


def test_every_step_is_a_component_with_typed_artifacts(compiled: dict) -> None:
    tasks = compiled["root"]["dag"]["tasks"]
    assert {"fetch", "check", "train", "pack"} <= set(tasks)
    train = compiled["components"]["comp-train"]
    assert train["inputDefinitions"]["artifacts"]["encoded"]["artifactType"]["schemaTitle"] == "system.Dataset"
    assert train["outputDefinitions"]["artifacts"]["ranker"]["artifactType"]["schemaTitle"] == "system.Model"
    producer = tasks["train"]["inputs"]["artifacts"]["encoded"]["taskOutputArtifact"]
    assert producer == {"outputArtifactKey": "encoded", "producerTask": "encode"}


def test_needs_come_from_the_resources_file(compiled: dict) -> None:
    needs = yaml.safe_load((REPO / "infra/resources.yaml").read_text())
    executor = compiled["deploymentSpec"]["executors"]["exec-search"]["container"]
    assert executor["image"] == needs["image"]
    assert "@sha256:" in executor["image"]
    assert executor["resources"]["accelerator"]["resourceType"] == needs["accelerator"]
    assert executor["resources"]["resourceMemoryLimit"] == f"{needs['tasks']['search']['memory_gib']}Gi"
    retry = compiled["root"]["dag"]["tasks"]["search"]["retryPolicy"]
    assert retry["maxRetryCount"] == needs["default"]["retries"]


def test_a_run_of_days_gets_a_window_of_moments_in_utc(tmp_path: Path) -> None:
    """The pipeline's params are any ISO 8601; window.yaml takes moments alone."""
    command = "import pathlib, shutil; pathlib.Path('artifacts/it').mkdir(parents=True); shutil.copy('window.yaml', 'artifacts/it')"
    window = {"start": "2026-03-02", "end": "2026-03-30T06:00+02:00"}
    assert run_step(REPO, ["python", "-c", command], window, {}, {"it": tmp_path / "it"}) == 0
    said = parse(Window, yaml.safe_load((tmp_path / "it/window.yaml").read_text()), "window", ConfigError)
    assert said == Window(datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 30, 4, tzinfo=UTC), None)


@pytest.mark.servers
def test_run_locally_the_projects_own_stages_make_the_same_bytes_as_by_hand(tmp_path: Path) -> None:
    home, root = tmp_path / "project", tmp_path / "root"
    make_small_project(REPO, home)
    (home / "run_local.py").write_text(LOCAL)
    needs = yaml.safe_load((home / "infra/resources.yaml").read_text())
    needs["default"]["retries"], needs["tasks"] = 0, {}  # a local runner waits as long as Kubeflow would
    (home / "quick.yaml").write_text(yaml.safe_dump(needs))
    environment = os.environ | {"CTR_HOME": str(home), "PYTHONPATH": str(REPO), "CTR_PYTHON": sys.executable}
    environment |= {"CTR_RESOURCES": str(home / "quick.yaml")}
    command = [sys.executable, str(home / "run_local.py"), str(home), str(root)]
    by_hand = clone_of_the_day(home, tmp_path / "by-hand", "2026-03-02", "2026-03-30")
    with reproduced(by_hand, "pack") as repro:
        subprocess.run(command, cwd=home, env=environment, check=True, capture_output=True, text=True)
        assert repro.wait() == 0
    made = {name for step in read_plan(home / "dvc.yaml").up_to("bundle").steps for name in step.makes}
    for name in made:
        (found,) = root.glob(f"*/*/{name}")  # pipeline, step, artifact
        assert digest_folder(found) == digest_folder(by_hand / "artifacts" / name), name
