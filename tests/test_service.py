from __future__ import annotations

import concurrent.futures
import json
import queue
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from components.errors import ConfigError, IntegrityError
from components.log import LogSchema, Window
from components.manifest import write_manifest
from components.scoring import rows_from_records
from components.strict import parse
from pipeline.served.reading import served_rows
from pipeline.service import ServeParams, load_bundle
from pipeline.service.app import Gauges
from tests.served_world import START, World, make_world

PARAMS = ServeParams(
    max_request_bytes=2_000_000,
    max_rows=1_000,
    max_connections=50,
    body_timeout_seconds=1.0,
    drain_seconds=0.5,
    shutdown_seconds=5,
    latency_buckets_seconds=(0.001, 0.01, 0.1, 1.0),
    poll_seconds=0.1,
)
PROGRAM = """
import json, sys
from pathlib import Path
import pipeline.score_batch
from pipeline.service import ServeParams, load_bundle, serve
bundle, served, params = sys.argv[1:]
params = json.loads(params)
params["latency_buckets_seconds"] = tuple(params["latency_buckets_seconds"])
serve(load_bundle(Path(bundle), "v1.0.0"), None, Path(served), "127.0.0.1", 0, ServeParams(**params))
assert "torch" not in sys.modules, "torch was imported"
"""


@dataclass
class Running:
    """A service in a process of its own, and the lines of its log."""

    process: subprocess.Popen[str]
    client: httpx.Client
    served: Path
    log: list[dict[str, Any]]
    digest: str

    def post(self, rows: list[dict[str, Any]]) -> httpx.Response:
        return self.client.post("/score", json={"rows": rows})

    def logged(self, event: str, num_rows: int) -> dict[str, Any]:
        """The first line of the log about an event with so many rows; it may arrive after the answer did."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if found := [line for line in self.log if (line.get("event"), line.get("rows")) == (event, num_rows)]:
                return found[0]
            time.sleep(0.01)
        raise AssertionError(f"no line {event!r} with {num_rows} rows in 30 s: {self.log}")


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(num_categorical=3, num_numeric=1)


@pytest.fixture(scope="module")
def bundle(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    (folder / "scorer").mkdir()
    world.scorer.save(folder / "scorer")
    write_manifest(folder)
    return folder


@contextmanager
def serving(bundle: Path, served: Path, params: ServeParams) -> Iterator[Running]:
    """A service until the block ends; it must end with 0 on SIGTERM, which it does only if torch was never imported."""
    command = [sys.executable, "-c", PROGRAM, str(bundle), str(served), json.dumps(asdict(params))]
    log: list[dict[str, Any]] = []
    listening: queue.Queue[dict[str, Any] | None] = queue.Queue()

    def follow(lines: Iterable[str]) -> None:
        for line in lines:
            log.append(json.loads(line) if line.startswith("{") else {"event": "not JSON", "line": line})
            if log[-1].get("event") == "listening":
                listening.put(log[-1])
        listening.put(None)

    root = Path(__file__).parents[1]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stderr is not None
        follower = threading.Thread(target=follow, args=(process.stderr,), daemon=True)
        follower.start()
        try:
            first = listening.get(timeout=60)
            assert first is not None, log
            with httpx.Client(base_url=f"http://127.0.0.1:{first['port']}", timeout=10) as client:
                yield Running(process, client, served, log, load_bundle(bundle, "v1.0.0").digest)
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0, log
        finally:
            process.kill()
            follower.join(10)


@pytest.fixture(scope="module")
def running(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving(bundle, tmp_path_factory.mktemp("served"), PARAMS) as service:
        yield service


def records_of(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows as a client sends them."""
    return rows.rename({"_impression": "id", "_time": "time"}).to_dicts()


def figure(client: httpx.Client, name: str, **labels: str) -> float:
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return 0.0


def test_scores_are_the_scorers_own_for_one_row_or_a_thousand(world: World, running: Running) -> None:
    rows = world.rows(1, 1_000)
    expected = world.scorer.score(rows).tolist()
    answer = running.post(records_of(rows)).raise_for_status().json()
    assert answer["scores"] == expected
    assert answer["bundle"] == running.digest
    assert answer["impressions"] == rows["_impression"].to_list()
    for number in (0, 17, 999):
        assert running.post(records_of(rows[number])).json()["scores"] == [expected[number]]


def test_what_is_answered_stands_in_the_served_log(world: World, running: Running, tmp_path: Path) -> None:
    rows = world.rows(2, 10).with_columns(
        pl.when(pl.col("_impression") == "2-3").then(None).otherwise("_impression").alias("_impression")
    )
    answer = running.post(records_of(rows)).json()
    assert len(set(answer["impressions"])) == 10
    served = served_rows(running.served, world.schema, Window(None, None, None), tmp_path).rows.collect()
    found = served.filter(pl.col("_impression").is_in(answer["impressions"])).sort("_time", maintain_order=True)
    assert found["score"].to_list() == answer["scores"]
    assert found["c1"].to_list() == rows["c1"].to_list()
    assert set(found["bundle"]) == {running.digest}
    assert found["_click"].null_count() == 10


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n0": "12"}, "row 1: field 'n0' is a number or null"),
        ({"c1": 5}, "row 1: field 'c1' is text"),
        ({"time": 1_700_000_000}, "row 1: field 'time'.*is it in seconds"),
        ({"time": START * 1_000}, "row 1: time .*1970 to 2099"),
        ({"colour": "red"}, r"row 1: field \['colour'\] unknown"),
    ],
)
def test_a_bad_row_is_answered_with_its_number_and_field(
    world: World, running: Running, change: dict[str, Any], words: str
) -> None:
    records = records_of(world.rows(3, 3))
    records[1] |= change
    answer = running.post(records)
    assert answer.status_code == 422
    assert re.search(words, answer.json()["error"]), answer.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"rows": 3}',
        b'{"rows": [], "more": 1}',
        b'{"rows": [NaN]}',
        b'{"rows": [3]}',
        b'{"rows": [], "rows": []}',
        b"\xff\xfe",
        b'{"rows": ' + b"[" * 100_000,
        b'{"rows": [{"n0": ' + b"9" * 5_000 + b"}]}",
    ],
)
def test_a_body_that_is_no_request_is_answered_422(running: Running, body: bytes) -> None:
    answer = running.client.post("/score", content=body)
    assert answer.status_code == 422
    assert len(answer.json()["error"]) < 600


def test_no_rows_get_no_scores(running: Running) -> None:
    assert running.post([]).json() == {"scores": [], "impressions": [], "bundle": running.digest}


def test_too_large_a_request_is_refused_before_it_is_read_whole(world: World, running: Running) -> None:
    records = records_of(world.rows(4, 1))
    assert running.post(records * 1_001).status_code == 413

    url = running.client.base_url
    with socket.create_connection((url.host, url.port or 80), timeout=10) as connection:
        connection.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        connection.sendall(b" " * (PARAMS.max_request_bytes + 1))
        assert connection.recv(100).startswith(b"HTTP/1.1 413")
        connection.settimeout(10)
        while connection.recv(65_536):
            pass  # the service hangs up, whatever more would come
    assert running.client.get("/livez").status_code == 200


def test_a_client_that_never_ends_its_body_is_let_go(running: Running) -> None:
    url = running.client.base_url
    with socket.create_connection((url.host, url.port or 80), timeout=10) as connection:
        connection.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        assert connection.recv(100).startswith(b"HTTP/1.1 408")


def test_metrics_count_what_happened_in_names_with_units(world: World, running: Running) -> None:
    requests, rows = (
        figure(running.client, "ctr_score_requests_total", status="200"),
        figure(running.client, "ctr_scored_rows_total"),
    )
    answer = running.post(records_of(world.rows(5, 7))).json()
    sum_before = figure(running.client, "ctr_score_sum_total")
    assert figure(running.client, "ctr_score_requests_total", status="200") == requests + 1
    assert figure(running.client, "ctr_scored_rows_total") == rows + 7
    assert sum_before >= sum(answer["scores"])
    assert figure(running.client, "ctr_bundle_info", digest=running.digest, version="v1.0.0") == 1
    assert figure(running.client, "ctr_ready") == 1
    assert figure(running.client, "ctr_score_request_seconds_count") > 0
    assert figure(running.client, "ctr_served_log_lost_rows_total") == 0


def test_every_line_of_the_log_is_json_with_the_bundles_digest(world: World, running: Running) -> None:
    num_rows = 23  # no other test of this service sends so many
    running.post(records_of(world.rows(6, num_rows)))
    line = running.logged("score", num_rows)
    assert (line["status"], line["level"]) == (200, "INFO")
    assert line["seconds"] > 0
    assert all(line["bundle"] == running.digest for line in running.log)


def test_many_at_once_get_each_their_own_scores(world: World, running: Running) -> None:
    parts = [world.rows(seed, 20) for seed in range(100, 116)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda rows: running.post(records_of(rows)).json()["scores"], parts))
    assert answers == [world.scorer.score(rows).tolist() for rows in parts]


def test_sigterm_drains_and_ends_with_zero_and_a_full_disk_loses_log_rows_but_no_scores(
    world: World, bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "served").write_text("a file where the folder should be")
    rows = world.rows(8, 3)
    with serving(bundle, tmp_path / "served", replace(PARAMS, drain_seconds=1.5)) as service:
        assert service.client.get("/readyz").json() == {
            "status": "ready",
            "bundle": service.digest,
            "version": "v1.0.0",
        }
        service.process.send_signal(signal.SIGTERM)
        while (answer := service.client.get("/readyz")).status_code == 200:
            pass
        assert (answer.status_code, answer.json()["status"]) == (503, "draining")
        assert service.client.get("/livez").status_code == 200
        assert service.post(records_of(rows)).json()["scores"] == world.scorer.score(rows).tolist()
        assert figure(service.client, "ctr_served_log_lost_rows_total") == 3
        assert service.process.wait(15) == 0
    told = ("draining", "served_log_lost", "stopped")
    assert [line["event"] for line in service.log if line.get("event") in told] == list(told)


def test_a_bundle_with_one_byte_changed_is_not_served(world: World, tmp_path: Path) -> None:
    (tmp_path / "scorer").mkdir()
    world.scorer.save(tmp_path / "scorer")
    write_manifest(tmp_path)
    path = tmp_path / "scorer" / "ranker.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(IntegrityError, match=r"ranker\.onnx"):
        load_bundle(tmp_path, "v1.0.0")


def test_the_example_of_the_docs_is_a_row_of_the_default_log() -> None:
    """As `make run` leaves it: each column once, and its time and numbers read."""
    root = Path(__file__).parents[1]
    example = re.search(r"-d '(\{\"rows\".*?\})'", (root / "docs/serving.md").read_text("utf-8"), flags=re.DOTALL)
    assert example is not None
    preset = yaml.safe_load((root / "logs/simulated.yaml").read_text("utf-8"))
    schema = parse(LogSchema, preset["schema"], "logs/simulated.yaml", ConfigError)
    rows = rows_from_records(json.loads(example[1])["rows"], schema)
    assert rows.select("_impression", "_time", "price").rows() == [("imp-1", 1_774_858_500_000_000, 4.2)]


def test_the_metrics_of_the_docs_are_the_services_own() -> None:
    text = (Path(__file__).parents[1] / "docs/serving.md").read_text("utf-8")
    named = set(re.findall(r"ctr_[a-z_]+", text))
    shown = {
        f"{family.name}_total" if family.type == "counter" else family.name
        for family in Gauges((0.1,)).registry.collect()
    }
    assert named == shown
