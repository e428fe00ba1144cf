"""infra/terraform lets promoter, pods and readers do what the code asks of S3, and no more than was meant; a real server is asked."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from components.errors import OutsideError
from pipeline.registry.collecting import collect, garbage
from pipeline.run_store import RunStore
from tests.registry_world import bundle, challenger, promoted, registry_in
from tests.s3_world import BUCKET, S3, Failures, serving_s3

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
TERRAFORM = Path(__file__).parents[1] / "infra" / "terraform"
Asked = set[tuple[str, str]]


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with tempfile.TemporaryDirectory() as folder, serving_s3(Path(folder)) as s3:
        yield s3


def actions_of(method: str, path: str, below: str) -> list[tuple[str, str]]:
    """(action, resource) that a request needs: "Actions, resources, and condition keys for Amazon S3" in AWS's service authorization reference.

    below  where the keys begin that one request deletes together, whose names are in its body
    """
    address = urlsplit(path)
    query = parse_qs(address.query, keep_blank_values=True)
    bucket, _, key = unquote(address.path).lstrip("/").partition("/")
    assert bucket == BUCKET
    of_bucket, of_object = "arn:aws:s3:::store", f"arn:aws:s3:::store/{key}"
    if not key:
        assert (method, "uploads" in query) in {("GET", False), ("HEAD", False), ("POST", False)}, (method, path)
        is_deletion = method == "POST" and "delete" in query
        return [("s3:DeleteObject", f"{of_bucket}/{below}*")] if is_deletion else [("s3:ListBucket", of_bucket)]
    if method == "DELETE":
        return [("s3:AbortMultipartUpload" if "uploadId" in query else "s3:DeleteObject", of_object)]
    return [
        (
            {"GET": "s3:GetObject", "HEAD": "s3:GetObject", "PUT": "s3:PutObject", "POST": "s3:PutObject"}[method],
            of_object,
        )
    ]


def policy_of(who: str) -> list[dict[str, Any]]:
    text = (TERRAFORM / "policies" / f"{who}.json").read_text("utf-8")
    document = json.loads(text.replace("${bucket}", "store").replace("${log_bucket}", "logs"))
    assert document["Version"] == "2012-10-17"
    statements: list[dict[str, Any]] = document["Statement"]
    assert all(statement["Effect"] == "Allow" for statement in statements)
    return statements


def refused(who: str, asked: Asked) -> Asked:
    """What the policy does not allow, of what was asked."""
    statements = policy_of(who)

    def may(action: str, resource: str) -> bool:
        return any(
            action in statement["Action"] and any(fnmatchcase(resource, pattern) for pattern in resources(statement))
            for statement in statements
        )

    return {one for one in asked if not may(*one)}


def resources(statement: dict[str, Any]) -> list[str]:
    named = statement["Resource"]
    return [named] if isinstance(named, str) else named


def asked_by(server: S3, monkeypatch: pytest.MonkeyPatch, below: str, work: Callable[[], object]) -> Asked:
    requests = Failures(None)
    with requests.between(server) as s3:
        s3.into(monkeypatch)
        work()
    assert requests.asked
    return {needed for method, path in requests.asked for needed in actions_of(method, path, below)}


def test_a_promotion_and_its_tidying_up_need_the_promoters_policy_and_loading_only_the_readers(
    server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = registry_in(tmp_path, store=f"s3://{BUCKET}/bundles")

    def promote() -> None:
        (last,) = promoted(registry, tmp_path, "1")

        def stop(effect: str) -> None:
            if effect == "after read back":
                raise OutsideError("stopped")

        with pytest.raises(OutsideError, match="stopped"):
            registry_in(tmp_path, stop, store=registry.store).promote(challenger(bundle(tmp_path / "2", "2"), last))
        assert collect(registry, [one.key for one in garbage(registry)])

    asked = asked_by(server, monkeypatch, "bundles/", promote)
    assert {action for action, _ in asked} >= {"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"}
    assert not refused("promoter", asked)
    assert {action for action, _ in refused("stages", asked)} == {"s3:PutObject", "s3:DeleteObject"}
    loaded = asked_by(server, monkeypatch, "bundles/", lambda: registry.fetch("v1.0.0", tmp_path / "fetched"))
    assert not refused("reader", loaded)
    assert not refused("stages", loaded)


def test_a_pods_run_needs_the_policy_of_the_stages(server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("params.yaml", "window.yaml"):
        (tmp_path / name).write_text("log: shop\n")
    step = "cmd: mkdir -p artifacts/scorer && echo Platt > artifacts/scorer/calibrator\n    outs: [artifacts/scorer]"
    (tmp_path / "dvc.yaml").write_text(f"stages:\n  calibrate:\n    {step}\n")
    (tmp_path / ".ctr/checkpoints/train").mkdir(parents=True)
    (tmp_path / ".ctr/checkpoints/train/weights").write_bytes(bytes(12 << 20))
    dvc = str(Path(sys.executable).with_name("dvc"))
    for command in (["git", "init", "-q"], [dvc, "init", "-q"], [dvc, "repro", "-q"]):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    store = RunStore(f"s3://{BUCKET}/runs", "retrain--1")

    def work() -> None:
        store.order(tmp_path)
        store.fill(tmp_path)
        store.keep_checkpoints(tmp_path, "train")
        store.bring_checkpoints(tmp_path, "train")
        store.push(tmp_path, "calibrate", ["scorer"])
        store.pull(tmp_path, ["scorer"])
        store.forget()

    asked = asked_by(server, monkeypatch, "runs/", work)
    assert {action for action, _ in asked} >= {"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"}
    assert not refused("stages", asked)
    assert not refused("promoter", asked)
    assert refused("reader", asked)


def test_the_module_is_formatted_and_each_policy_is_used() -> None:
    terraform = shutil.which("terraform")
    if terraform is None:
        pytest.skip("there is no terraform on this machine")
    done = subprocess.run([terraform, "fmt", "-check", "-diff", TERRAFORM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (TERRAFORM / "main.tf").read_text("utf-8")
    assert all(f'"{path.stem}"' in text for path in (TERRAFORM / "policies").glob("*.json"))
