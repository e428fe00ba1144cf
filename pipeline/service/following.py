"""Following the champion while serving: the registry is asked every few seconds, a new bundle is loaded, verified and warmed
beside the old one, and then swapped in; whatever goes wrong on the way, the old one serves on."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

from components.errors import CtrError
from pipeline.service.app import Service, load_bundle

logger = logging.getLogger("ctr.service")

News = Callable[[str], tuple[str, Path] | None]
"""Told the digest that serves; gives version and bundle folder of another champion, or None where there is no other."""


class Follower(threading.Thread):
    """Asks for news every `poll_seconds` until `stop`."""

    def __init__(self, service: Service, news: News, poll_seconds: float) -> None:
        super().__init__(name="champion-follower", daemon=True)
        self._service = service
        self._news = news
        self._poll_seconds = poll_seconds
        self._is_over = threading.Event()

    def run(self) -> None:
        """Look, wait, look again."""
        while not self._is_over.wait(self._poll_seconds):
            self.look()

    def look(self) -> None:
        """Take another champion over, if there is one; an error is counted and said, and the next look tries again."""
        try:
            found = self._news(self._service.bundle.digest)
            if found is not None:
                self._take_over(*found)
            self._service.gauges.champion_asked.set(time.time())
        except CtrError as error:
            self._service.gauges.champion_errors.inc()
            facts = {"event": "champion_not_followed", "error": type(error).__name__}
            logger.error(f"the champion could not be followed, the old one serves on: {error}", extra={"facts": facts})

    def stop(self) -> None:
        """Look no more."""
        self._is_over.set()

    def _take_over(self, version: str, folder: Path) -> None:
        before = self._service.bundle
        try:
            self._service.take_over(load_bundle(folder, version))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        facts = {"event": "champion_changed", "from": before.version, "from_bundle": before.digest, "to": version}
        logger.info(f"{version} serves instead of {before.version}", extra={"facts": facts})
