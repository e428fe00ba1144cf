"""The acts around a scheduled run: open and close its worktree, look for its data, note drift, tell people that it failed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from components.errors import ConfigError, DataError, OutsideError
from components.manifest import verify_manifest
from pipeline.on_dvc import read_end
from pipeline.outside import book_of, champion_architecture, desk_of, home_of, incident_of, read_environment
from pipeline.params import read_settings
from pipeline.resources import read_resources
from pipeline.run import Workspace
from pipeline.runs import (
    Done,
    Ledger,
    Order,
    claim_message,
    close_old_worktrees,
    close_worktree,
    digests_in_lock,
    flow_of,
    give_message_back,
    open_worktree,
    read_order,
)

if TYPE_CHECKING:
    from pipeline.run_store import RunStore

EXIT_NOT_YET = OutsideError.exit_code
EXIT_NOTHING_TO_DO = 99
_WOKEN = "asset_triggered"
_BACKFILL = "backfill"
_SCHEDULED = "scheduled"
_FIXED = "fixed"
_ENDS = {"promote": frozenset({0, 4}), "warn": frozenset({0, 5})}
_LOOKS = ("", "settled")  # a watching run's workspaces below its folder, each of which ends with `warn`


def open_run(home: Path, folder: Path, start: datetime, end: datetime, reason: str, strategy: str) -> int:
    """Make the run's worktree; 99 where the ledger says that nothing is due. A drift-woken run takes its window from the ledger."""
    flow = flow_of(folder)
    ledger = _ledger(home)
    if reason == _WOKEN:
        due = ledger.due_drift(flow, timedelta(hours=read_resources(home).runs.rest_hours))
        if due is None and not (folder / ".ctr" / "order.json").is_file():
            print("Nothing to do: every window with drift has been answered by a later training.", file=sys.stderr)
            return EXIT_NOTHING_TO_DO
        if due is not None:
            start, end = due - (end - start), due
    if reason == _SCHEDULED:
        earlier = [done.run for done in ledger.done(flow) if _same(done, start, end) and done.run != folder.name]
        if earlier:
            print(f"Nothing to do: {earlier[0]} has worked through {start} to {end}.", file=sys.stderr)
            return EXIT_NOTHING_TO_DO
    if strategy and _is_blocked(home, reason):
        return EXIT_NOTHING_TO_DO
    give_message_back(home, folder.name)
    architecture = None
    if strategy == _FIXED:
        architecture = _architecture_of_that_day(ledger, flow, start, end) if reason == _BACKFILL else None
        architecture = architecture or champion_architecture(home)
        if architecture is None:
            raise ConfigError(
                f"{flow}: strategy 'fixed' needs a champion's architecture; run `search` and promote first"
            )
    order = Order(start, end, reason, strategy, architecture)
    if (folder / ".ctr" / "order.json").is_file():
        order = read_order(folder)
    open_worktree(home, folder, order)
    if (store := _store(folder.name)) is not None:
        store.order(folder)
    print(f"Opened {folder}: {order.start} to {order.end} ({reason}).", file=sys.stderr)
    return 0


def look_for_data(root: Path) -> int:
    """0 where every partition of the window is there, 75 where one is missing, which the message names."""
    from pipeline.fetching import find_wanted

    settings = read_settings(root)
    outside = read_environment(home_of(Workspace(root.absolute())))
    try:
        names = find_wanted(settings.request(), outside.home, outside.data)
    except DataError as error:
        print(f"Not there yet: {error}", file=sys.stderr)
        return EXIT_NOT_YET
    print(f"All {len(names)} parts of the window are there." if names else "Nothing to wait for.", file=sys.stderr)
    return 0


def run_step(home: Path, run: str, verb: str, folder: Path) -> int:
    """Run one step of a run whose workspace is in the object store; gives the step's exit code."""
    from pipeline.run_store import run_step_in_store

    store = _store(run)
    if store is None:
        raise ConfigError("CTR_WORKSPACES is not set: the folder, or s3://bucket/prefix, that holds runs' workspaces")
    return run_step_in_store(home, store, verb, folder, read_resources(home).runs.keep_checkpoint_seconds)


def gather(root: Path, only: Sequence[str]) -> None:
    """Bring what pods made into a run's worktree; nothing where runs have no object store."""
    store = _store(root.name)
    if store is not None:
        store.fill(root)
        store.pull(root, only)


def note_drift(root: Path) -> None:
    """Write the window of this run into the ledger as one with drift."""
    _ledger(home_of(Workspace(root.absolute()))).record_drift(read_order(root).end, root.absolute().name)


def renew_champion(root: Path) -> None:
    """Pin today's champion instead of the one that a race was lost to, as DVC's record too."""
    from pipeline.acts import fetch

    fetch(root, ["champion"])
    command = [sys.executable, "-m", "dvc", "commit", "--quiet", "--force", "fetch"]
    if subprocess.run(command, cwd=root, check=False).returncode != 0:
        raise OutsideError(f"{root}: `dvc commit --force fetch` failed, see above")


def close_run(home: Path, folder: Path, reason: str, is_rehearsal: bool) -> None:
    """Note a run that came to its end in the ledger and remove its worktree; leave a failed one for people, for a time."""
    for old in close_old_worktrees(home, folder.parent, flow_of(folder), read_resources(home).runs.keep_failed_days):
        print(f"Removed {old}: its run failed long ago.", file=sys.stderr)
    if not folder.is_dir():
        print(f"{folder} is gone: nothing to clean up.", file=sys.stderr)
        return
    workspace = Workspace(folder)
    act = _last_act(folder)
    if act is None:
        print(f"The run did not come to its end: {folder} stays for {_days(home)} days.", file=sys.stderr)
        return
    _settle(home, flow_of(folder))
    order = read_order(folder)
    bundle = workspace.folder("bundle")
    digest = verify_manifest(bundle) if act == "promote" else None
    span = order.start.isoformat(), order.end.isoformat()
    artifacts = digests_in_lock(folder) if act == "promote" else {}
    _ledger(home).record_done(
        Done(folder.name, flow_of(folder), reason, *span, is_rehearsal, order.architecture, artifacts, digest)
    )
    close_worktree(home, folder)
    if (store := _store(folder.name)) is not None:
        store.forget()
    print(f"Done and removed: {folder}{f' (bundle {digest})' if digest else ''}.", file=sys.stderr)


def tell(home: Path, run: str, dag: str, task: str, reason: str, link: str) -> None:
    """Send the one message that a failed run may send; nothing where it was sent."""
    from pipeline.alerting.alert import make_alert
    from pipeline.alerting.warning import raise_alert

    if not claim_message(home, run):
        print(f"People were told of {run} already.", file=sys.stderr)
        return
    try:
        desk = desk_of(Workspace(home))
        check, severity = _kind(reason)
        summary, description = f"{dag}: {task} failed for good in {run}", f"{reason}\n{link}".strip()
        raise_alert(
            desk, make_alert(check, dag, severity, summary, description, desk.params, desk.environment, desk.model)
        )
    except BaseException:
        give_message_back(home, run)
        raise


def _last_act(folder: Path) -> str | None:
    """The act by which a run came to its end, a watching one in both of its looks; None where it did not."""
    if read_end(Workspace(folder), "promote") in _ENDS["promote"]:
        return "promote"
    looks = [folder / look for look in _LOOKS]
    is_over = all(look.is_dir() and read_end(Workspace(look), "warn") in _ENDS["warn"] for look in looks)
    return "warn" if is_over else None


def _is_blocked(home: Path, reason: str) -> bool:
    """A broken contract waits for a person, who was told of it: what was started by itself is left out; raises ConfigError else."""
    from pipeline.alerting.guard import refuse_if_blocked

    try:
        refuse_if_blocked(book_of(Workspace(home)))
    except ConfigError as refusal:
        if reason not in (_SCHEDULED, _WOKEN):
            raise
        print(f"Nothing to do: {refusal}", file=sys.stderr)
        return True
    return False


def _settle(home: Path, dag: str) -> None:
    """A run that came to its end settles what was told of earlier ones; only where something was told."""
    open_ones = book_of(Workspace(home)).state().incidents
    told = [check for check in ("run_failed", "data_late") if incident_of(Workspace(home), check, dag) in open_ones]
    if not told:
        return
    from pipeline.alerting.warning import settle_alert

    desk = desk_of(Workspace(home))
    for check in told:
        settle_alert(desk, check, dag)


def _kind(reason: str) -> tuple[str, str]:
    """Check and severity: late data and bugs can wait for the morning, a broken contract cannot."""
    if reason.startswith("data late"):
        return "data_late", "ticket"
    return "run_failed", "page" if reason.startswith("exit 3") else "ticket"


def _architecture_of_that_day(ledger: Ledger, flow: str, start: datetime, end: datetime) -> str | None:
    """What a run of the same window took over on its day, so that a backfill makes the same; None where there was none."""
    return next((done.architecture for done in ledger.done(flow) if _same(done, start, end)), None)


def _same(done: Done, start: datetime, end: datetime) -> bool:
    return (datetime.fromisoformat(done.start), datetime.fromisoformat(done.end)) == (start, end)


def _days(home: Path) -> str:
    return f"{read_resources(home).runs.keep_failed_days:g}"


def _store(run: str) -> RunStore | None:
    from pipeline.run_store import RunStore

    address = os.environ.get("CTR_WORKSPACES")
    return RunStore(address.rstrip("/"), run) if address else None


def _ledger(home: Path) -> Ledger:
    return Ledger(Path(os.environ.get("CTR_LEDGER", home / ".ctr" / "ledger")))
