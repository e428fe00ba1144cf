"""The command `leaderboard`, which `bench rankers` is a part of; nothing heavy is imported before one of them runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.options import HERE, WorkspaceOption

leaderboard_app = typer.Typer()


@leaderboard_app.command()
def leaderboard(
    rankers: Annotated[
        str,
        typer.Option(
            help="Comma-separated; 'plain' (the default) and 'searched' stand for several; 'mlp:10' asks for ten seeds."
        ),
    ] = "",
    seeds: Annotated[int, typer.Option(min=1, help="So many seeds each, 1, 2, ...")] = 3,
    first_seeds: Annotated[int, typer.Option(min=0, help="So many for the three that are best on tune.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes at once; they share the cores.")] = 1,
    trials: Annotated[int, typer.Option(min=0, max=4, help="Trials of tuning a ranker, on tune alone.")] = 0,
    against: Annotated[
        str | None, typer.Option(help="The row that all are compared with; by default the best.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="The folder for Markdown, CSV, JSON and HTML; by default report/leaderboard.")
    ] = None,
    workspace: WorkspaceOption = HERE,
) -> None:
    """Every ranker under one protocol: trained, calibrated and measured on the workspace's encoded log, then compared.

    What was measured is kept: killed and started again it goes on. Choices belong on tune; this looks at test.
    """
    numbers = list(range(1, seeds + 1))
    print(json.dumps(make_leaderboard(workspace, rankers, numbers, workers, trials, first_seeds, output, against)))


def make_leaderboard(
    workspace: Path,
    rankers: str,
    seeds: Sequence[int],
    workers: int,
    trials: int,
    first_seeds: int,
    output: Path | None,
    against: str | None = None,
) -> dict[str, Any]:
    """Measure what is missing, print the table, write the files, and give the figures by ranker."""
    from pipeline.leaderboard.board import run_leaderboard, write_board
    from pipeline.leaderboard.table import markdown
    from pipeline.params import read_settings
    from pipeline.run import Workspace

    names = [name.strip() for name in rankers.split(",") if name.strip()]
    place = Workspace(workspace.absolute())
    board = run_leaderboard(place, read_settings(workspace), names, seeds, workers, trials, first_seeds, against)
    made = write_board(board, output or workspace / "report" / "leaderboard")
    print(markdown(board))
    return made
