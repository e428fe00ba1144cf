"""The DAGs as a scheduler reads them: quick, light, and with the edges that the data implies."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import yaml

REPO = Path(__file__).parents[1]

PARSE = """
import json, sys, time
from airflow.dag_processing.dagbag import DagBag
began = time.process_time()
bag = DagBag(dag_folder=sys.argv[1])
seconds = time.process_time() - began
heavy = ("torch", "great_expectations", "evidently", "components", "polars", "dvc", "kfp", "boto3")
print("ANSWER" + json.dumps({
    "seconds": seconds,
    "errors": {str(key): value for key, value in bag.import_errors.items()},
    "heavy": sorted({name.partition(".")[0] for name in sys.modules} & set(heavy)),
    "edges": {dag.dag_id: [[task.task_id, down] for task in dag.tasks for down in task.downstream_task_ids] for dag in bag.dags.values()},
    "dags": {dag.dag_id: {
        "runs": dag.max_active_runs, "catchup": dag.catchup, "tags": sorted(dag.tags), "doc": dag.doc_md,
        "timetable": type(dag.timetable).__name__, "params": {name: dag.params.get_param(name).schema for name in dag.params},
        "told": bool(dag.on_failure_callback) and all(task.on_failure_callback for task in dag.tasks),
    } for dag in bag.dags.values()},
    "tasks": {dag.dag_id: {task.task_id: {"pool": task.pool, "retries": task.retries, "rule": task.trigger_rule.value, "backoff": task.retry_exponential_backoff,
        "timeout": task.execution_timeout and task.execution_timeout.total_seconds()} for task in dag.tasks} for dag in bag.dags.values()},
}, default=str))
"""


PODS = """
import json, sys
from types import SimpleNamespace
from airflow.dag_processing.dagbag import DagBag
from kubernetes.client import ApiClient
dag = DagBag(dag_folder=sys.argv[1]).dags["search"]
from pipeline.on_airflow.pods import pod_command
search, promote = dag.get_task("search"), dag.get_task("promote")
found = {
    "kinds": [type(search).__name__, type(promote).__name__],
    "image": search.image,
    "limits": search.container_resources.limits,
    "num_tasks": len(dag.tasks),
    "secret": search.env_from[0].secret_ref.name,
    "is_empty_dir": [volume.empty_dir is not None for volume in search.volumes],
    "command": " ".join(pod_command("search", "search--a")),
    "after": sorted(promote.upstream_task_ids - {"prepare"}),
}
search.hook = SimpleNamespace(is_in_cluster=False, get_namespace=lambda: "ctr")  # there is no cluster to ask
search.cmds, search.arguments, search.env_vars = ["python"], [], []
found["pod"] = ApiClient().sanitize_for_serialization(search.build_pod_request_obj(None))
print("ANSWER" + json.dumps(found))
"""


def _under_airflow(code: str, folder: Path, **settings: str) -> dict:
    environment = os.environ | settings
    environment |= {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "600",  # wall seconds; a busy machine is no fault of the DAGs
        "PYTHONPATH": str(REPO),
        "PYTHONWARNINGS": "ignore",
    }
    command = [sys.executable, "-c", code, str(REPO / "dags")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.partition("ANSWER")[2]))


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return _under_airflow(PARSE, tmp_path_factory.mktemp("airflow"))


@pytest.fixture(scope="module")
def pods(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The DAG `search` where steps are pods, and the pod that its step of that name asks for."""
    return _under_airflow(PODS, tmp_path_factory.mktemp("airflow"), CTR_RUNNER="kubernetes")


def test_all_dags_parse_in_less_than_a_second_of_processor_time(parsed: dict) -> None:
    assert parsed["errors"] == {}
    assert set(parsed["dags"]) == {"search", "retrain", "monitor"}
    assert parsed["seconds"] < 1.0


def test_parsing_imports_nothing_heavy(parsed: dict) -> None:
    assert parsed["heavy"] == []


def test_a_dag_file_has_less_than_forty_lines() -> None:
    for path in (REPO / "dags").glob("*.py"):
        assert len(path.read_text().splitlines()) < 40, path.name


def test_the_edges_are_those_that_the_artifacts_in_dvc_yaml_imply(parsed: dict) -> None:
    stages = yaml.safe_load((REPO / "dvc.yaml").read_text())["stages"]
    made, expected = {}, set()
    for verb, stage in stages.items():
        made |= {name: verb for out in stage["outs"] for name in out if name.startswith("artifacts/")}
    for verb, stage in stages.items():
        expected |= {(made[dep], verb) for dep in stage.get("deps", []) if dep in made}
    training = {edge for edge in expected if "watch" not in edge}
    for dag in ("search", "retrain"):
        edges = {tuple(edge) for edge in parsed["edges"][dag]}
        assert {edge for edge in edges if set(edge) <= set(stages)} == training
        assert ("wait_for_data", "fetch") in edges
        assert {("pack", "promote"), ("promote", "announce_bundle")} <= edges
    assert ("fetch", "watch") in {tuple(edge) for edge in parsed["edges"]["monitor"]}


def test_a_watching_run_looks_at_the_hour_and_at_the_settled_one_and_either_may_wake_a_training(parsed: dict) -> None:
    edges = {tuple(edge) for edge in parsed["edges"]["monitor"]}
    hour = [("fetch", "watch"), ("watch", "warn"), ("warn", "wake"), ("wake", "announce_drift")]
    settled = [("settle", "watch_settled"), ("watch_settled", "warn_settled"), ("warn_settled", "wake_settled")]
    assert {*hour, *settled, ("wake_settled", "announce_drift")} <= edges
    assert {("prepare", "fetch"), ("prepare", "settle")} <= edges, "neither waits for the other"
    assert parsed["tasks"]["monitor"]["announce_drift"]["rule"] == "none_failed_min_one_success"


def test_every_dag_runs_once_at_a_time_never_catches_up_and_says_what_it_is(parsed: dict) -> None:
    for dag in parsed["dags"].values():
        assert dag["runs"] == 1
        assert not dag["catchup"]
        assert "ctr" in dag["tags"]
        assert dag["doc"]
        assert dag["told"], "a failure reaches people from every task and from the DAG"


def test_intervals_are_data_intervals(parsed: dict) -> None:
    assert parsed["dags"]["search"]["timetable"] == "CronDataIntervalTimetable"
    assert parsed["dags"]["monitor"]["timetable"] == "CronDataIntervalTimetable"


def test_needs_are_those_of_the_resources_file(parsed: dict) -> None:
    needs = yaml.safe_load((REPO / "infra/resources.yaml").read_text())
    tasks = parsed["tasks"]["search"]
    assert tasks["search"]["pool"] == "ctr_gpu"
    assert tasks["search"]["timeout"] == needs["tasks"]["search"]["timeout_minutes"] * 60
    assert tasks["check"]["retries"] == needs["default"]["retries"]
    assert tasks["check"]["backoff"] == 2.0
    assert set(needs["tasks"]) <= set(tasks), "a need for a task that is not there"


@pytest.mark.parametrize(
    ("moment", "fits"),
    [("2026-03-30", True), ("2026-03-30T06:00:00Z", True), ("2026-03-30T06:00:00+02:00", True), ("30.3.2026", False)],
)
def test_the_form_takes_iso_8601_only(parsed: dict, moment: str, fits: bool) -> None:
    pattern = parsed["dags"]["retrain"]["params"]["window_end"]["pattern"]
    assert (re.search(pattern, moment) is not None) == fits


def test_the_form_offers_the_strategies_and_devices_that_there_are(parsed: dict) -> None:
    from components.autopi.search_params import SearchParams

    known = get_args(get_type_hints(SearchParams)["strategy"])
    for dag in ("search", "retrain"):
        params = parsed["dags"][dag]["params"]
        assert sorted(params["strategy"]["enum"]) == sorted(known)
        assert params["device"]["enum"] == ["auto", "cpu", "cuda"]
        assert (params["window_days"]["minimum"], params["window_days"]["type"]) == (1, "integer")
        assert params["dry_run"]["type"] == "boolean"


def test_with_one_option_the_same_steps_are_pods(pods: dict) -> None:
    needs = yaml.safe_load((REPO / "infra/resources.yaml").read_text())
    assert pods["kinds"] == ["PodTask", "PipelineTask"]
    assert pods["image"] == needs["image"]
    assert (pods["limits"]["nvidia.com/gpu"], pods["limits"]["memory"]) == ("1", "16Gi")
    assert pods["num_tasks"] == len(yaml.safe_load((REPO / "dvc.yaml").read_text())["stages"]) - 1 + 6
    assert (pods["secret"], pods["is_empty_dir"]) == ("ctr-store", [True]), "pods share no volume"
    assert pods["command"] == "python -m pipeline runs step search --run search--a --folder /workspace/run"
    assert pods["after"] == ["gather"]


def test_the_pod_of_a_step_fits_the_schema_of_kubernetes(pods: dict, tmp_path: Path) -> None:
    pod = tmp_path / "pod.yaml"
    pod.write_text(json.dumps(pods["pod"]))
    linter = Path(sys.executable).with_name("kubernetes-validate")
    done = subprocess.run([linter, "--strict", pod], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
