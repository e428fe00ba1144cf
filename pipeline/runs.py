"""Runs beside each other: each in a git worktree of its own around the shared DVC cache, and the ledger of what was done.

A scheduler's events are lost and doubled, so what there is to do is decided here, from files: a window that was trained
on is an entry under done/, drift that was found one under drift/. An entry appears whole, and its name says all.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from components.errors import ConfigError, OutsideError

_NAME = "%Y%m%dT%H%M%SZ"
_SECONDS_A_DAY = 86400.0


@dataclass(frozen=True)
class Done:
    """A window that was worked through.

    run, flow, reason  which run of which DAG, and why it was started
    start, end         the window, ISO 8601
    is_rehearsal       it promoted nothing: a backfill or a dry run, which decides nothing about what is due
    architecture       what strategy "fixed" took over, None where something was searched for
    artifacts          name -> digest as DVC records it, of everything that was made
    bundle             the bundle's own digest, None where none is made
    """

    run: str
    flow: str
    reason: str
    start: str
    end: str
    is_rehearsal: bool
    architecture: str | None
    artifacts: dict[str, str]
    bundle: str | None


@dataclass(frozen=True)
class Ledger:
    """Files below `root`, one an entry; written whole, never changed."""

    root: Path

    def record_done(self, done: Done) -> None:
        """Note a window as worked through; the same run twice is one entry."""
        kind = "rehearsed" if done.is_rehearsal else "done"
        self._write(f"{kind}/{done.flow}/{_name(done.end)}--{done.run}.json", asdict(done))

    def record_drift(self, end: datetime, run: str) -> None:
        """Note that drift was found in a window that ends then."""
        self._write(f"drift/{end.astimezone(UTC).strftime(_NAME)}--{run}.json", {"end": end.isoformat(), "run": run})

    def done(self, flow: str) -> list[Done]:
        """Every window that `flow` has worked through, by end."""
        return [Done(**json.loads(path.read_text("utf-8"))) for path in sorted(self.root.glob(f"done/{flow}/*.json"))]

    def due_drift(self, flow: str, rest: timedelta) -> datetime | None:
        """The end of the last window with drift, if no window of `flow` that ends later, or less than `rest` earlier, was done."""
        found = sorted(self.root.glob("drift/*.json"))
        if not found:
            return None
        end = datetime.fromisoformat(json.loads(found[-1].read_text("utf-8"))["end"])
        answered = max((datetime.fromisoformat(done.end) for done in self.done(flow)), default=None)
        return None if answered is not None and end < answered + rest else end

    def _write(self, name: str, content: dict[str, Any]) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}.new")
        new.write_text(json.dumps(content, sort_keys=True) + "\n", "utf-8")
        new.replace(path)


@dataclass(frozen=True)
class Order:
    """What a run is to do: its window, why it was started, and with which search strategy ("" for the params' own)."""

    start: datetime
    end: datetime
    reason: str
    strategy: str
    architecture: str | None


def flow_of(folder: Path) -> str:
    """The DAG that a run's folder belongs to: its name begins with it."""
    return folder.name.partition("--")[0]


def open_worktree(home: Path, folder: Path, order: Order) -> None:
    """Make `folder` a worktree of `home`'s commit with its own window and params; the same again where it is there already."""
    if not (folder / ".ctr" / "order.json").is_file():
        close_worktree(home, folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        _git(home, "worktree", "prune")
        _git(home, "worktree", "add", "--quiet", "--detach", str(folder), "HEAD")
        (folder / "dvc.lock").unlink(missing_ok=True)  # of another window; each step would read and write it again
    _share_the_cache(home, folder)
    (folder / ".home").write_text(str(home), "utf-8")
    window = {"start": order.start.isoformat(), "end": order.end.isoformat(), "as_of": None}
    _write_yaml(folder / "window.yaml", window)
    _set_strategy(folder, order)
    (folder / ".ctr").mkdir(exist_ok=True)
    content = asdict(order) | {"start": window["start"], "end": window["end"]}
    (folder / ".ctr" / "order.json").write_text(json.dumps(content), "utf-8")


def read_order(folder: Path) -> Order:
    """What `open_worktree` was told; raises ConfigError where the folder is no run's."""
    path = folder / ".ctr" / "order.json"
    if not path.is_file():
        raise ConfigError(f"{folder}: no run was opened there; `python -m pipeline runs open` makes one")
    content = json.loads(path.read_text("utf-8"))
    moments = {name: datetime.fromisoformat(content[name]) for name in ("start", "end")}
    return Order(**(content | moments))


def close_worktree(home: Path, folder: Path) -> None:
    """Remove a run's worktree and git's record of it; nothing where there is none."""
    if folder.exists():
        subprocess.run(
            ["git", "worktree", "remove", "--force", "--force", str(folder)], cwd=home, capture_output=True, check=False
        )
        shutil.rmtree(folder, ignore_errors=True)
    _git(home, "worktree", "prune")


def close_old_worktrees(home: Path, runs: Path, flow: str, keep_days: float) -> list[Path]:
    """Remove the worktrees of a flow's runs that nobody has touched for `keep_days`; gives those removed."""
    limit = time.time() - keep_days * _SECONDS_A_DAY
    orders = [folder / ".ctr" / "order.json" for folder in runs.glob(f"{flow}--*")]
    old = [path.parents[1] for path in orders if path.is_file() and path.stat().st_mtime < limit]
    for folder in old:
        close_worktree(home, folder)
    return old


def digests_in_lock(folder: Path) -> dict[str, str]:
    """Name -> digest of every artifact that the worktree's dvc.lock records."""
    path = folder / "dvc.lock"
    stages = yaml.safe_load(path.read_text("utf-8"))["stages"] if path.is_file() else {}
    outs = [out for stage in stages.values() for out in stage.get("outs", [])]
    return {Path(out["path"]).name: str(out["md5"]) for out in outs}


def claim_message(home: Path, run: str) -> bool:
    """Take the one message that a failed run may send; False where somebody has."""
    path = _claim(home, run)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def give_message_back(home: Path, run: str) -> None:
    """Let the run tell (again): nothing was sent, or it is started anew."""
    _claim(home, run).unlink(missing_ok=True)


def _claim(home: Path, run: str) -> Path:
    return home / ".ctr" / "told" / run


def _set_strategy(folder: Path, order: Order) -> None:
    if not order.strategy:
        return
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text("utf-8"))
    params.setdefault("search", {})["strategy"] = order.strategy
    params["search"]["fixed_architecture"] = order.architecture
    _write_yaml(path, params)


def _share_the_cache(home: Path, folder: Path) -> None:
    """Point the worktree's DVC at the cache of `home`, and take over what `home` sets for this machine alone."""
    local = home / ".dvc" / "config.local"
    own = local.read_text("utf-8") if local.is_file() else ""
    if "dir" not in own:
        own += f"\n['cache']\n    dir = {home / '.dvc' / 'cache'}\n".replace("['cache']", "[cache]")
    (folder / ".dvc" / "config.local").write_text(own, "utf-8")


def _write_yaml(path: Path, content: dict[str, Any]) -> None:
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(yaml.safe_dump(content, sort_keys=False, width=120, allow_unicode=True), "utf-8")
    new.replace(path)


def _name(moment: str) -> str:
    return datetime.fromisoformat(moment).astimezone(UTC).strftime(_NAME)


def _git(folder: Path, *arguments: str) -> None:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OutsideError(f"{folder}: `git {' '.join(arguments)}` failed: {done.stderr.strip()}")
