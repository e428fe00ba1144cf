"""Parts of the bench that are done are kept and not run again, as long as neither code nor params of theirs have changed.

The bench takes an hour of one core; so it may be stopped, go on, and be put together from what is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.artifact import read_json

_ROOT = Path(__file__).parents[2]
_DECISIONS = (
    *("catalog", "clicks", "comparing", "distances", "drift", "estimating", "fields", "limits", "measuring"),
    *("quality", "reference", "scores", "words"),
)
_QUIET = (
    *(f"components/watching/{name}.py" for name in _DECISIONS),
    *("pipeline/alerting/objective.py", "pipeline/bench_drift/counts.py"),
)
# Whatever a part's result stands on.
SOURCES = {
    "quiet": (*_QUIET, "pipeline/bench_drift/quiet.py"),
    "clicks": (*_QUIET, *(f"pipeline/bench_drift/{name}.py" for name in ("click_faults", "peers", "trials"))),
    "rows": (
        *_QUIET,
        *(f"components/watching/{name}.py" for name in ("counting", "terms", "watch")),
        *(f"components/profiling/{name}.py" for name in ("binning", "profile", "tally")),
        *(f"pipeline/bench_drift/{name}.py" for name in ("faults", "peers", "trials", "world")),
    ),
}


@dataclass(frozen=True)
class Kept:
    """Results by part and name in a folder; without one nothing is kept."""

    folder: Path | None
    params: str

    def result(self, part: str, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What was kept under this name by the same code and params, else what `make` gives now."""
        if self.folder is None:
            return make()
        digest = hashlib.sha256(self.params.encode())
        for source in SOURCES[part]:
            digest.update((_ROOT / source).read_bytes())
        path = self.folder / f"{part}-{name}-{digest.hexdigest()[:12]}.json"
        if not path.is_file():
            result = make()
            self.folder.mkdir(parents=True, exist_ok=True)
            new = path.with_suffix(".new")
            new.write_text(json.dumps(result), "utf-8")
            new.replace(path)
        content: dict[str, Any] = read_json(path)
        return content
