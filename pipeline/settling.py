"""The second look of `monitor`: what was served one label delay ago, whose clicks are final by now.

The hour that has just ended can be held against the champion's fields and scores, not yet against clicks. So each run looks back
once more, at the window that ended one label delay earlier, as the log is known now. Those rows may have been served by an
earlier champion, and are held against the one that served them.
"""

from __future__ import annotations

import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import yaml

from components.champion import Champion
from components.errors import IntegrityError
from components.log import SERVED_BUNDLE, ServedLog
from components.watching import WatchParams
from pipeline.acts import fetch, prepare
from pipeline.outside import registry_of
from pipeline.params import read_settings
from pipeline.registry.records import PROD
from pipeline.run import Workspace
from pipeline.runs import read_order

SETTLED = "settled"


def settle(root: Path) -> None:
    """Make the workspace `settled` in a run's folder: the window one label delay back, its served log, and who served it."""
    order = read_order(root)
    folder = root.absolute() / SETTLED
    delay = timedelta(hours=read_settings(root).section("watch", WatchParams).label_delay_hours)
    prepare(root, folder, order.start - delay, order.end - delay)
    window = {"start": order.start - delay, "end": order.end - delay, "as_of": order.end}
    said = {name: moment.isoformat() for name, moment in window.items()}
    (folder / "window.yaml").write_text(yaml.safe_dump(said, sort_keys=False), encoding="utf-8")
    fetch(folder, ["served_log"])
    workspace = Workspace(folder)
    digest = _most_served(workspace.read("served_log", ServedLog))
    if digest is None or not _pin(workspace, digest):
        fetch(folder, ["champion"])


def _most_served(served: ServedLog) -> str | None:
    """The digest of the bundle that served most rows; None where no row was served."""
    rows = served.scan().drop_nulls(SERVED_BUNDLE).group_by(SERVED_BUNDLE).len()
    counts = rows.sort(["len", SERVED_BUNDLE], descending=True).head(1).collect()
    return str(counts[SERVED_BUNDLE][0]) if counts.height else None


def _pin(workspace: Workspace, digest: str) -> bool:
    """Make the registered bundle with that digest the champion of a workspace; False where there is none of it."""
    registry = registry_of(workspace)
    if not registry.exists():
        return False
    with registry.cloned() as clone, tempfile.TemporaryDirectory(dir=workspace.state("settling")) as scratch:
        try:
            version = registry.version_of(clone, digest)
        except IntegrityError as error:
            print(f"{error}: these rows are held against today's champion.", file=sys.stderr)
            return False
        registry.bring(clone, version, Path(scratch, "bundle"))
        today = registry.assigned(clone, PROD)
        terms = () if today is None else registry.terms(clone, today)
        pinned = Champion.from_bundle(Path(scratch, "bundle"), version.version, terms)
        workspace.write("champion", pinned)
    print(f"Most rows of this window were served by {version.version}.", file=sys.stderr)
    return True
