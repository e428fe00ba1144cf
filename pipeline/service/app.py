"""The app around one bundle: reads requests that may be hostile, answers with the scorer's scores, writes the served log."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from components.errors import DataError
from components.log import IMPRESSION
from components.manifest import verify_manifest
from components.profiling.binning import Floats
from components.scoring import Scorer, rows_from_records
from components.strict import Strict
from pipeline.served.columns import served_table
from pipeline.served.writing import ServedWriter

logger = logging.getLogger("ctr.service")


@dataclass(frozen=True)
class ServeParams(Strict):
    """What the service takes on.

    max_request_bytes        of one request's body
    max_rows                 of one request
    max_connections          open at once, beyond which it answers 503
    body_timeout_seconds     to receive a whole body
    drain_seconds            from SIGTERM to the end of listening, for load balancers to notice
    shutdown_seconds         for open requests after that
    latency_buckets_seconds  upper bounds of the histogram of request times
    poll_seconds             between two looks whether another champion was promoted or rolled back to
    """

    max_request_bytes: int
    max_rows: int
    max_connections: int
    body_timeout_seconds: float
    drain_seconds: float
    shutdown_seconds: int
    latency_buckets_seconds: tuple[float, ...]
    poll_seconds: float


@dataclass(frozen=True, eq=False)
class ServedBundle:
    """A bundle whose files are as recorded, its scorer warm; `version` is empty for one that no registry named."""

    scorer: Scorer
    digest: str
    version: str


def load_bundle(folder: Path, version: str) -> ServedBundle:
    """Verify every digest below `folder`, then load and warm its scorer; raises IntegrityError naming the wrong file."""
    digest = verify_manifest(folder)
    scorer = Scorer.load(folder / "scorer")
    scorer.warm_up()
    return ServedBundle(scorer, digest, version)


class Gauges:
    """What /metrics shows, in a registry of its own."""

    def __init__(self, buckets: tuple[float, ...]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "ctr_score_requests", "Requests to /score by status", ["status"], registry=self.registry
        )
        self.rows = Counter("ctr_scored_rows", "Rows scored", registry=self.registry)
        self.scores = Counter("ctr_score_sum", "Sum of all scores: expected clicks", registry=self.registry)
        self.lost_rows = Counter(
            "ctr_served_log_lost_rows", "Rows scored but not written to the served log", registry=self.registry
        )
        self.seconds = Histogram(
            "ctr_score_request_seconds", "Time to answer /score", buckets=buckets, registry=self.registry
        )
        self.is_ready = Gauge("ctr_ready", "1 while /readyz says yes", registry=self.registry)
        self.bundle = Gauge(
            "ctr_bundle_info", "Always 1; which bundle serves", ["digest", "version"], registry=self.registry
        )
        self.champion_changes = Counter(
            "ctr_champion_changes", "Bundles taken over while serving", registry=self.registry
        )
        self.champion_errors = Counter(
            "ctr_champion_errors", "Looks for another champion that failed", registry=self.registry
        )
        self.champion_asked = Gauge(
            "ctr_champion_asked_timestamp_seconds",
            "When the registry last said who is champion",
            registry=self.registry,
        )
        self.is_ready.set(1)


class _Refusal(Exception):  # noqa: N818 - an answer, not an error of ours
    """A request that is answered with a status and a reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, eq=False)
class _Serving:
    """A bundle and the writer of what it scores: taken together by a request, so that a swap never mixes two."""

    bundle: ServedBundle
    writer: ServedWriter | None


class Service:
    """The bundle that serves, its served log, and the app around them; served_folder None writes no log."""

    def __init__(self, bundle: ServedBundle, served_folder: Path | None, params: ServeParams) -> None:
        self.is_ready = True
        self.gauges = Gauges(params.latency_buckets_seconds)
        self._served_folder = served_folder
        self._serving = self._with_writer(bundle)
        self.gauges.bundle.labels(bundle.digest, bundle.version).set(1)
        self._params = params
        self.app = FastAPI(title="Click probabilities", docs_url=None, redoc_url=None)
        self.app.add_api_route("/score", self.score, methods=["POST"])
        self.app.add_api_route("/livez", self.live, methods=["GET"])
        self.app.add_api_route("/readyz", self.ready, methods=["GET"])
        self.app.add_api_route("/metrics", self.metrics, methods=["GET"])

    @property
    def bundle(self) -> ServedBundle:
        """What serves now."""
        return self._serving.bundle

    def take_over(self, bundle: ServedBundle) -> None:
        """Serve another bundle from the next request on; requests that have begun are answered by the one before."""
        before = self.bundle
        self._serving = self._with_writer(bundle)
        self.gauges.bundle.remove(before.digest, before.version)
        self.gauges.bundle.labels(bundle.digest, bundle.version).set(1)
        self.gauges.champion_changes.inc()

    def _with_writer(self, bundle: ServedBundle) -> _Serving:
        if self._served_folder is None:
            return _Serving(bundle, None)
        return _Serving(bundle, ServedWriter(self._served_folder, bundle.scorer.schema, bundle.digest))

    def stop_being_ready(self) -> None:
        """Answer on, but let nobody send more."""
        self.is_ready = False
        self.gauges.is_ready.set(0)

    async def score(self, request: Request) -> Response:
        """`{"rows": [{column: value}]}` to `{"scores": [...], "impressions": [...], "bundle": digest}`."""
        start = time.perf_counter()
        status, num_rows, reason = 500, 0, "an error of ours"
        try:
            body = await self._read_body(request)
            answer = await run_in_threadpool(self._answer, body)
            status, num_rows, reason = 200, len(answer["scores"]), ""
            return JSONResponse(answer)
        except (_Refusal, DataError) as error:
            status, reason = error.status if isinstance(error, _Refusal) else 422, str(error)
            headers = {"Connection": "close"} if isinstance(error, _Refusal) else None  # its body may not be at its end
            return JSONResponse({"error": reason, "bundle": self.bundle.digest}, status, headers)
        finally:
            seconds = time.perf_counter() - start
            self.gauges.requests.labels(str(status)).inc()
            self.gauges.seconds.observe(seconds)
            facts = {"event": "score", "status": status, "rows": num_rows, "seconds": round(seconds, 6)}
            logger.info("scored" if status == 200 else reason, extra={"facts": facts})

    async def live(self) -> Response:
        """200 while the process can answer at all."""
        return JSONResponse({"status": "alive"})

    async def ready(self) -> Response:
        """200 while requests are welcome, 503 once it was asked to stop."""
        status = "ready" if self.is_ready else "draining"
        bundle = self.bundle
        content = {"status": status, "bundle": bundle.digest, "version": bundle.version}
        return JSONResponse(content, 200 if self.is_ready else 503)

    async def metrics(self) -> Response:
        """Prometheus' text format."""
        return Response(generate_latest(self.gauges.registry), media_type=CONTENT_TYPE_LATEST)

    async def _read_body(self, request: Request) -> bytes:
        limit = self._params.max_request_bytes
        body = bytearray()
        try:
            async with asyncio.timeout(self._params.body_timeout_seconds):
                async for part in request.stream():
                    body += part
                    if len(body) > limit:
                        raise _Refusal(413, f"the body is larger than {limit:,} bytes; send fewer rows a request")
        except TimeoutError as error:
            raise _Refusal(408, f"the body did not arrive within {self._params.body_timeout_seconds:g} s") from error
        return bytes(body)

    def _answer(self, body: bytes) -> dict[str, Any]:
        serving = self._serving
        scorer, digest = serving.bundle.scorer, serving.bundle.digest
        records = _records_in(body)
        if len(records) > self._params.max_rows:
            raise _Refusal(413, f"{len(records):,} rows, at most {self._params.max_rows:,} a request")
        rows = rows_from_records(records, scorer.schema)
        names = [name or uuid.uuid4().hex for name in rows[IMPRESSION].to_list()]
        rows = rows.with_columns(pl.Series(IMPRESSION, names, dtype=pl.String))
        scores = scorer.score(rows)
        self._keep(serving, rows, scores)
        self.gauges.rows.inc(len(scores))
        self.gauges.scores.inc(float(scores.sum()))
        return {"scores": scores.tolist(), "impressions": names, "bundle": digest}

    def _keep(self, serving: _Serving, rows: pl.DataFrame, scores: Floats) -> None:
        """Write the served log; a full disk must not stop the scores, but it is counted and said."""
        if serving.writer is None:
            served_table(rows, scores, serving.bundle.digest, serving.bundle.scorer.schema)
            return
        try:
            if len(scores):
                serving.writer.append(rows, scores)
        except OSError as error:
            self.gauges.lost_rows.inc(len(scores))
            facts = {"event": "served_log_lost", "rows": len(scores)}
            logger.error(f"served log: {error}", extra={"facts": facts})


def _records_in(body: bytes) -> list[object]:
    """The rows of a request; raises DataError for anything but one JSON object with the key "rows" and a list."""
    try:
        content = json.loads(body, parse_constant=_refuse_constant, object_pairs_hook=_refuse_doubled)
    except (ValueError, RecursionError) as error:
        raise DataError(f"the body is not JSON: {str(error)[:200]}") from error
    if not isinstance(content, dict) or content.keys() != {"rows"} or not isinstance(content["rows"], list):
        raise DataError('expected {"rows": [{column: value, ...}, ...]} and nothing else')
    return content["rows"]


def _refuse_constant(word: str) -> float:
    raise ValueError(f"{word} is no number in JSON")


def _refuse_doubled(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError(f"a key stands twice in {sorted(key for key, _ in pairs)[:20]}")
    return content
