"""`python -m pipeline runs ...`: what a scheduler calls around a run; each command's exit code is its answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.options import HERE

runs_app = typer.Typer(help="Runs beside each other: worktrees, ledger, late data.", no_args_is_help=True)
FolderArgument = Annotated[Path, typer.Argument(help="The run's folder; its name begins with the DAG's, as DAG--...")]
ReasonOption = Annotated[str, typer.Option(help="scheduled, manual, backfill or asset_triggered.")]


@runs_app.command("open")
def open_(
    folder: FolderArgument,
    start: Annotated[str, typer.Option(help="Start of its window, ISO 8601, UTC.")],
    end: Annotated[str, typer.Option(help="End of its window, ISO 8601, UTC.")],
    reason: ReasonOption = "manual",
    strategy: Annotated[str, typer.Option(help="Of the search; empty for what params.yaml says.")] = "",
) -> None:
    """Make the run's worktree with its own window (exit 99 if the ledger says that nothing is due)."""
    from pipeline.acts import moment
    from pipeline.run_acts import open_run

    raise typer.Exit(open_run(HERE.absolute(), folder.absolute(), moment(start), moment(end), reason, strategy))


@runs_app.command()
def arrived() -> None:
    """Look whether all of the window's data is there (exit 75 if not)."""
    from pipeline.run_acts import look_for_data

    raise typer.Exit(look_for_data(HERE))


@runs_app.command()
def step(
    verb: Annotated[str, typer.Argument(help="A step of dvc.yaml.")],
    run: Annotated[str, typer.Option(help="The run's name, as the last part of its folder.")],
    folder: Annotated[Path, typer.Option(help="An empty folder for the workspace.")],
) -> None:
    """What a pod does: pull the run's workspace from CTR_WORKSPACES, run one step, push what it made."""
    from pipeline.run_acts import run_step

    raise typer.Exit(run_step(HERE.absolute(), run, verb, folder.absolute()))


@runs_app.command()
def gather(
    only: Annotated[list[str] | None, typer.Option(help="An artifact; may be given more than once.")] = None,
) -> None:
    """Bring what pods made into this run's worktree: everything, or only some artifacts."""
    from pipeline.run_acts import gather as act

    act(HERE.absolute(), only or [])


@runs_app.command()
def drifted() -> None:
    """Note this run's window in the ledger as one with drift."""
    from pipeline.run_acts import note_drift

    note_drift(HERE)


@runs_app.command()
def settle() -> None:
    """Make the workspace `settled` in this run's: the window one label delay back, whose clicks are final by now."""
    from pipeline.settling import settle as act

    act(HERE)


@runs_app.command("renew-champion")
def renew_champion() -> None:
    """Pin the champion anew, after a promotion lost a race."""
    from pipeline.run_acts import renew_champion as act

    act(HERE.absolute())


@runs_app.command()
def close(
    folder: FolderArgument,
    reason: ReasonOption = "manual",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="It promoted nothing: no entry in the ledger.")] = False,
) -> None:
    """Note a run that came to its end and remove its worktree; a failed one stays for some days."""
    from pipeline.run_acts import close_run

    close_run(HERE.absolute(), folder.absolute(), reason, dry_run)


@runs_app.command()
def tell(
    run: Annotated[str, typer.Argument(help="The run's name.")],
    dag: Annotated[str, typer.Option()],
    task: Annotated[str, typer.Option()],
    reason: Annotated[str, typer.Option()],
    link: Annotated[str, typer.Option(help="Where its log is.")] = "",
) -> None:
    """Tell people, once, that a run failed for good."""
    from pipeline.run_acts import tell as act

    act(HERE.absolute(), run, dag, task, reason, link)
