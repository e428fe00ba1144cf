"""The running service takes over another champion, without a request that fails or that mixes two bundles."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from components.calibrating import Calibrator
from components.log import Window
from components.manifest import verify_manifest, write_manifest
from components.scoring import Scorer
from pipeline.served.reading import served_rows
from tests.registry_world import challenger, registry_in
from tests.served_world import World, make_world
from tests.test_service import PARAMS, figure, records_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
MOST_SECONDS = 30.0  # from the end of a rollback until the old version answers: the promise
PROGRAM = """
import json, sys
from pathlib import Path
sys.path.insert(0, ".")
from pipeline.registry.feed import ChampionFeed
from pipeline.service import ServeParams, load_bundle, serve
from tests.registry_world import registry_in
folder, params = Path(sys.argv[1]), json.loads(sys.argv[2])
params["latency_buckets_seconds"] = tuple(params["latency_buckets_seconds"])
feed = ChampionFeed(registry_in(folder), folder / "scratch")
version, bundle = feed.newer("")
serve(load_bundle(bundle, version), feed.newer, folder / "served", "127.0.0.1", 0, ServeParams(**params))
assert "torch" not in sys.modules, "torch was imported"
"""


def bundle_of(folder: Path, scorer: Scorer) -> Path:
    (folder / "scorer").mkdir(parents=True)
    scorer.save(folder / "scorer")
    write_manifest(folder)
    return folder


@contextmanager
def following(folder: Path) -> Iterator[httpx.Client]:
    """A service that follows the registry below `folder`; it must end with 0 on SIGTERM."""
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(folder), json.dumps(asdict(PARAMS))]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stderr=log, cwd=Path(__file__).parents[1])
    try:
        until(lambda: "listening" in (folder / "log").read_text() or process.poll() is not None)
        lines = [json.loads(line) for line in (folder / "log").read_text().splitlines() if line.startswith("{")]
        assert lines, (folder / "log").read_text()
        with httpx.Client(base_url=f"http://127.0.0.1:{lines[0]['port']}", timeout=10) as client:
            yield client
        process.terminate()
        assert process.wait(30) == 0, (folder / "log").read_text()
    finally:
        process.kill()
        process.wait()


def until(is_so: Callable[[], bool]) -> float:
    """Seconds until it is so; fails after `MOST_SECONDS`."""
    start = time.monotonic()
    while not is_so():
        assert time.monotonic() - start < MOST_SECONDS
        time.sleep(0.02)
    return time.monotonic() - start


def test_a_rollback_reaches_the_running_service_and_no_request_fails(tmp_path: Path) -> None:
    world: World = make_world(num_categorical=2, num_numeric=1)
    scorers = [world.scorer, replace(world.scorer, calibrator=Calibrator.identity(0.5))]
    old, new = (bundle_of(tmp_path / name, scorer) for name, scorer in zip(("old", "new"), scorers, strict=True))
    digests = [verify_manifest(old), verify_manifest(new)]
    registry = registry_in(tmp_path)
    registry.promote(challenger(old, None))
    registry.promote(challenger(new, digests[0]))
    rows = world.rows(1, 20)
    expected = {digest: scorer.score(rows).tolist() for digest, scorer in zip(digests, scorers, strict=True)}
    assert expected[digests[0]] != expected[digests[1]]
    answers: list[dict[str, Any]] = []
    with following(tmp_path) as client:
        body = {"rows": records_of(rows)}
        is_over = threading.Event()

        def ask_on_and_on() -> None:
            while not is_over.is_set():
                answers.append(client.post("/score", json=body).raise_for_status().json())

        asking = threading.Thread(target=ask_on_and_on)
        asking.start()
        try:
            Path(registry.git).rename(tmp_path / "away")
            until(lambda: figure(client, "ctr_champion_errors_total") > 0)
            (tmp_path / "away").rename(registry.git)
            assert client.get("/readyz").json()["version"] == "v1.0.1", (
                "the old one serves on while the registry is away"
            )
            registry.assign("v1.0.0", "prod", "clicks fell", hold="look")
            until(lambda: bool(client.get("/readyz").json()["version"] == "v1.0.0"))
            so_far = len(answers)
            until(lambda: len(answers) > so_far + 3)
        finally:
            is_over.set()
            asking.join()
        assert figure(client, "ctr_bundle_info", digest=digests[0], version="v1.0.0") == 1
        assert figure(client, "ctr_bundle_info", digest=digests[1], version="v1.0.1") == 0
        assert figure(client, "ctr_champion_changes_total") == 1
        assert figure(client, "ctr_score_requests_total", status="200") == len(answers)
    assert all(answer["scores"] == expected[answer["bundle"]] for answer in answers), "no answer mixes two bundles"
    assert [answers[0]["bundle"], answers[-1]["bundle"]] == [digests[1], digests[0]]
    served = served_rows(
        tmp_path / "served", world.schema, Window(None, None, None), tmp_path / "scratch"
    ).rows.collect()
    told = pl.Series([digest for answer in answers for digest in [answer["bundle"]] * 20]).value_counts().sort("count")
    assert served["bundle"].value_counts().sort("count")["count"].to_list() == told["count"].to_list()
