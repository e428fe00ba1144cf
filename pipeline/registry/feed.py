"""News of the champion for whoever serves it: a look without news costs one `git ls-remote`."""

from __future__ import annotations

import shutil
from pathlib import Path

from pipeline.registry.reading import Champions
from pipeline.registry.records import PROD


class ChampionFeed:
    """Brings another champion's bundle into `scratch` once it is there."""

    def __init__(self, champions: Champions, scratch: Path) -> None:
        self._champions = champions
        self._place = scratch / "newer"
        self._known_refs = ""

    def newer(self, digest: str) -> tuple[str, Path] | None:
        """Version and bundle folder of a champion other than `digest`, verified; None where there is none.

        Raises OutsideError, ConfigError and IntegrityError; the next call tries again.
        """
        refs = self._champions.refs()
        if refs == self._known_refs:
            return None
        with self._champions.cloned() as clone:
            champion = self._champions.assigned(clone, PROD)
            if champion is None or champion.digest == digest:
                self._known_refs = refs
                return None
            shutil.rmtree(self._place, ignore_errors=True)
            self._champions.bring(clone, champion, self._place)
        return champion.version, self._place
