"""The command line around champions; each command says in words or, with --json, as one document what was done."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from pipeline.options import HERE, JsonOption, WorkspaceOption
from pipeline.saying import Said

promotion_app = typer.Typer()


class AssignedStage(StrEnum):
    """Where a version may be: shadow and canary beside the champion, prod is the champion."""

    SHADOW = "shadow"
    CANARY = "canary"
    PROD = "prod"


StageOption = Annotated[AssignedStage, typer.Option(help="prod is the champion; shadow and canary stand beside it.")]


@promotion_app.command()
def promote(
    workspace: WorkspaceOption = HERE,
    stage: StageOption = AssignedStage.PROD,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make the packed bundle the champion if its verdict says so (exit 4 if it does not, 7 if another came first)."""
    from pipeline.acts import with_recorded_end
    from pipeline.promotion import promote as act

    raise typer.Exit(
        with_recorded_end(workspace, "promote", lambda: _say(act(workspace, stage.value, dry_run), as_json))
    )


@promotion_app.command()
def champion(
    workspace: WorkspaceOption = HERE, stage: StageOption = AssignedStage.PROD, as_json: JsonOption = False
) -> None:
    """Say which bundle serves this log, since when, why, and from which data."""
    from pipeline.promotion import describe_champion

    _end_with(describe_champion(workspace, stage.value), as_json)


@promotion_app.command()
def history(workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """List every registration and assignment of this log, oldest first."""
    from pipeline.promotion import history as act

    _end_with(act(workspace), as_json)


@promotion_app.command()
def rollback(
    workspace: WorkspaceOption = HERE,
    to: Annotated[
        str | None, typer.Option(help="A version such as v1.2.0; by default the champion before this.")
    ] = None,
    hold: Annotated[str | None, typer.Option(help="Why; nothing is promoted until `release`.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make an older version the champion again."""
    from pipeline.promotion import rollback as act

    _end_with(act(workspace, to, hold), as_json)


@promotion_app.command("hold")
def hold_command(
    reason: Annotated[str, typer.Argument(help="Why; people read it when a promotion is refused.")],
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Promote nothing until `release`."""
    from pipeline.promotion import hold as act

    _end_with(act(workspace, reason), as_json)


@promotion_app.command()
def release(workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """End a hold: promotions may come again."""
    from pipeline.promotion import release as act

    _end_with(act(workspace), as_json)


@promotion_app.command()
def compare(
    one: Annotated[str, typer.Argument(help="A version such as v1.0.0.")],
    other: Annotated[str, typer.Argument(help="Another version.")],
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Two versions side by side: metrics, data window, architecture, and the params that differ."""
    from pipeline.comparing import compare as act

    _end_with(act(workspace, one, other), as_json)


@promotion_app.command()
def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.")],
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Recompute every digest of a bundle (exit 6 naming the file that is not as recorded)."""
    from pipeline.promotion import verify as act

    _end_with(act(workspace, bundle), as_json)


@promotion_app.command()
def gc(
    workspace: WorkspaceOption = HERE,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete from the store what no tag of this log needs; asks first."""
    from pipeline.promotion import gc as act

    def may_delete(what: str) -> bool:
        if yes:
            return True
        if not sys.stdin.isatty():
            print(f"{what}; give --yes to delete them", file=sys.stderr)
            return False
        return typer.confirm(f"Delete {what}?", err=True)

    _end_with(act(workspace, may_delete), as_json)


@promotion_app.command()
def reproduce(
    version: Annotated[str, typer.Argument(help="A version such as v1.0.0.")],
    workspace: WorkspaceOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Check a version's commit out, run its line again and say whether the bundle's bytes are the same (exit 6 if not)."""
    from pipeline.reproducing import reproduce as act

    _end_with(act(workspace, version), as_json)


def _end_with(said: Said, as_json: bool) -> NoReturn:
    """Say it and end with its exit code."""
    raise typer.Exit(_say(said, as_json))


def _say(said: Said, as_json: bool) -> int:
    print(json.dumps(said.facts) if as_json else said.words)
    return said.exit_code
