"""The process that serves: listen, follow the champion, log JSON lines, and on SIGTERM drain before it ends with 0."""

from __future__ import annotations

import json
import logging
import signal
import socket
import sys
import time
from pathlib import Path
from types import FrameType

import uvicorn

from components.errors import ConfigError
from pipeline.service.app import ServedBundle, ServeParams, Service, logger
from pipeline.service.following import Follower, News


def serve(
    bundle: ServedBundle, news: News | None, served_folder: Path | None, host: str, port: int, params: ServeParams
) -> None:
    """Serve until SIGTERM or SIGINT; port 0 takes a free one, said in the first line of the log.

    bundle         what serves at first
    news           asked for another champion every `poll_seconds`; None serves this bundle for good
    served_folder  of this log's served rows; None writes none

    Raises ConfigError for an address that cannot be listened on.
    """
    service = Service(bundle, served_folder, params)
    _log_as_json(service)
    follower = Follower(service, news, params.poll_seconds) if news is not None else None
    config = uvicorn.Config(
        service.app,
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=params.max_connections,
        timeout_graceful_shutdown=params.shutdown_seconds,
    )
    with _listen(host, port) as listener:
        facts = {"event": "listening", "host": host, "port": listener.getsockname()[1], "version": bundle.version}
        logger.info("listening", extra={"facts": facts})
        if follower is not None:
            follower.start()
        _DrainingServer(config, service, params.drain_seconds).run(sockets=[listener])
    if follower is not None:
        follower.stop()
    logger.info("stopped", extra={"facts": {"event": "stopped"}})


class _DrainingServer(uvicorn.Server):
    """Uvicorn that drains before it stops, and ends with 0 instead of raising the signal anew."""

    def __init__(self, config: uvicorn.Config, service: Service, drain_seconds: float) -> None:
        super().__init__(config)
        self._service = service
        self._drain_seconds = drain_seconds
        self._stop_at: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 - uvicorn's signature
        if self._stop_at is not None:
            self.should_exit = True
            return
        self._service.stop_being_ready()
        self._stop_at = time.monotonic() + self._drain_seconds
        facts = {"event": "draining", "signal": signal.Signals(sig).name}
        logger.info("draining", extra={"facts": facts})

    async def on_tick(self, counter: int) -> bool:
        is_over = self._stop_at is not None and time.monotonic() >= self._stop_at
        return await super().on_tick(counter) or is_over


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port} ({error.strerror or error}); choose another --port"
        ) from error


class _JsonLines(logging.Formatter):
    def __init__(self, service: Service) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        content = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "message": record.getMessage(),
            "bundle": self._service.bundle.digest,
            **getattr(record, "facts", {}),
        }
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return json.dumps(content)


def _log_as_json(service: Service) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines(service))
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
