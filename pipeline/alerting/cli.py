"""`acknowledge`, `blocked`, `wake` and `alerts`: what people and schedulers ask of alerting."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.options import HERE, JsonOption, WorkspaceOption

if TYPE_CHECKING:
    from pipeline.alerting.warning import Desk

alerts_app = typer.Typer(no_args_is_help=True)
EXIT_BLOCKED, EXIT_NOTHING_TO_DO = 4, 99


@alerts_app.command()
def acknowledge(
    key: Annotated[str, typer.Argument(help="The incident's key, as the alert names it: ctr/ENV/MODEL/CHECK/SLICE.")],
    by: Annotated[str, typer.Option(help="Who has looked.")],
    because: Annotated[str, typer.Option(help="Why training may go on.")],
    workspace: WorkspaceOption = HERE,
) -> None:
    """Let training and promotion go on after a broken contract that somebody has looked at."""
    from datetime import UTC, datetime

    from pipeline.alerting.guard import acknowledge as act

    ended = act(_desk(workspace).book, key, by, because, datetime.now(UTC))
    print(f"{key}: {by} has looked; {ended} block{'s' if ended != 1 else ''} ended.", file=sys.stderr)


@alerts_app.command()
def blocked(workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """Say what blocks training and promotion (exit 4 if something does)."""
    from dataclasses import asdict

    from pipeline.alerting.guard import blocking

    blocks = blocking(_desk(workspace).book)
    if as_json:
        print(json.dumps([asdict(block) for block in blocks]))
    else:
        print(
            "\n".join(f"{block.key} since {block.opened}: {block.what}" for block in blocks)
            or "Nothing blocks training."
        )
    raise typer.Exit(EXIT_BLOCKED if blocks else 0)


@alerts_app.command()
def wake(workspace: WorkspaceOption = HERE) -> None:
    """Note that this window's drift wakes a retraining (exit 99 where it may not: blocked, too soon, or none)."""
    from datetime import UTC, datetime

    from components.watching import Drift
    from pipeline.alerting.guard import wake as act
    from pipeline.moments import in_utc
    from pipeline.params import read_settings
    from pipeline.run import Workspace

    place = Workspace(workspace.absolute())
    end = read_settings(place.root).request().window.end
    text = place.read("drift", Drift).facts.last_time
    if end is not None:
        text = in_utc(end).isoformat()
    desk = _desk(workspace)
    reason = act(desk.book, text or datetime.now(UTC).isoformat(), desk.params.wake_cooldown_hours)
    print("A retraining is woken." if reason is None else f"No retraining is woken: {reason}.", file=sys.stderr)
    raise typer.Exit(0 if reason is None else EXIT_NOTHING_TO_DO)


@alerts_app.command()
def alerts(workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """List what is open, since when, and how many messages wait for a receiver."""
    from pipeline.alerting.outbox import num_waiting

    book = _desk(workspace).book
    incidents = book.state().incidents
    if as_json:
        rows = {
            key: {"opened": one.opened, "severity": one.alert.severity, "clean": one.num_clean}
            for key, one in incidents.items()
        }
        print(json.dumps({"open": rows, "waiting": num_waiting(book)}))
        return
    for key, one in sorted(incidents.items(), key=lambda pair: pair[1].opened):
        print(f"{one.alert.severity:<7}{key} since {one.opened}: {one.alert.annotations['summary']}")
    print(f"{len(incidents)} open; {num_waiting(book)} messages wait in {book.outbox}.")


@alerts_app.command("deliver")
def deliver_command(workspace: WorkspaceOption = HERE) -> None:
    """Send what waits in the outbox (exit 75 if something still does)."""
    from pipeline.alerting.warning import send_waiting

    send_waiting(_desk(workspace))


def _desk(workspace: Path) -> Desk:
    from pipeline.outside import desk_of
    from pipeline.run import Workspace

    return desk_of(Workspace(workspace.absolute()))
