"""`python -m pipeline bench ...`: benchmarks, each ending with one line of JSON that holds its figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from pipeline.options import HERE, WorkspaceOption

bench_app = typer.Typer(help="Benchmarks; each ends with one line of JSON.", no_args_is_help=True)


@bench_app.command("encode")
def bench_encode(rows: Annotated[int, typer.Option(min=10_000)] = 5_000_000) -> None:
    """check + split + encode of a Criteo-format file: rows/s and peak memory."""
    from pipeline.bench_encode import run_bench_encode

    _print_json(lambda: run_bench_encode(rows))


@bench_app.command("search")
def bench_search(rounds: Annotated[int, typer.Option(min=1, help="Steps timed of each, in turn.")] = 10) -> None:
    """A full alpha-and-weight step of the supernet, ours and a plain one alternating: rows/s and ratios."""
    from pipeline.bench_search import run_bench_search

    _print_json(lambda: run_bench_search(rounds, (1, 2)))


@bench_app.command("kills")
def bench_kills(
    times: Annotated[int, typer.Option(min=1, help="Kills of each strategy.")] = 100,
    strategies: Annotated[str, typer.Option(help="Comma-separated.")] = "darts,halving",
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 1,
    workspace: WorkspaceOption = HERE,
) -> None:
    """A search killed (-9) at random moments and gone on with: its bytes against those of one that nobody killed."""
    from pipeline.bench_kills import run_bench_kills
    from pipeline.progress import shown_progress

    with shown_progress("kills") as progress:
        _print_json(lambda: run_bench_kills(workspace.absolute(), strategies.split(","), times, seed, progress))


@bench_app.command("ablation")
def bench_ablation(
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "1,2,3",
    epochs: Annotated[int, typer.Option(min=1, help="Of each search; the paper takes 50 on Frappe.")] = 50,
    trial_epochs: Annotated[float, typer.Option(min=0.1, help="Of training from scratch what was found.")] = 10.0,
    only: Annotated[str, typer.Option(help="Comma-separated variants; all by default.")] = "",
    workspace: WorkspaceOption = HERE,
) -> None:
    """What annealing, noisy skips, each operator, nodes and edges are worth: searched, trained from scratch, judged on tune."""
    from pipeline.bench_variants import run_bench_ablation
    from pipeline.progress import shown_progress

    numbers, names = [int(seed) for seed in seeds.split(",")], [name for name in only.split(",") if name]
    with shown_progress("ablation") as progress:
        _print_json(lambda: run_bench_ablation(workspace.absolute(), numbers, epochs, trial_epochs, names, progress))


@bench_app.command("alike")
def bench_alike(
    strategies: Annotated[str, typer.Option(help="Comma-separated.")] = "darts,halving",
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "1,2,3,4,5",
    epochs: Annotated[int | None, typer.Option(min=1, help="Of a supernet; as params have it by default.")] = None,
    workspace: WorkspaceOption = HERE,
) -> None:
    """How alike the architectures are that a search finds with several seeds, and that chance would give."""
    from pipeline.bench_variants import run_bench_alike
    from pipeline.progress import shown_progress

    numbers = [int(seed) for seed in seeds.split(",")]
    with shown_progress("alike") as progress:
        _print_json(lambda: run_bench_alike(workspace.absolute(), strategies.split(","), numbers, epochs, progress))


@bench_app.command("rankers")
def bench_rankers(
    rankers: Annotated[
        str, typer.Option(help="Comma-separated: autopi, mlp, linear, linear_planted, ...")
    ] = "autopi,mlp,linear",
    seeds: Annotated[str, typer.Option(help="Comma-separated.")] = "1,2,3",
    workspace: WorkspaceOption = HERE,
) -> None:
    """The leaderboard of a few rankers with these very seeds."""
    from pipeline.leaderboard_cli import make_leaderboard

    numbers = [int(seed) for seed in seeds.split(",")]
    _print_json(lambda: make_leaderboard(workspace, rankers, numbers, 1, 0, 0, None))


@bench_app.command("train")
def bench_train(
    peer: Annotated[Path, typer.Option(help="An interpreter that has fuxictr 2.3.10, polars 1.33 and torch.")],
    rounds: Annotated[int, typer.Option(min=1, help="Three steps of each side, in turn.")] = 10,
    threads: Annotated[str, typer.Option(help="Comma-separated numbers; the last is the ratio's.")] = "1,2",
) -> None:
    """Training steps of DeepFM and DCN-V2 at Frappe's shape, ours and FuxiCTR's in turn: rows/s and ratios."""
    from pipeline.bench_train import run_bench_train

    numbers = [int(number) for number in threads.split(",")]
    _print_json(lambda: run_bench_train(peer.absolute(), rounds, numbers))


@bench_app.command("imbalance")
def bench_imbalance(
    ranker: Annotated[str, typer.Option(help="What is trained in each way.")] = "linear",
    workspace: WorkspaceOption = HERE,
) -> None:
    """Downsampling, weights and focal loss: what each does to calibration, on a simulated log whose truth is known."""
    from pipeline.bench_imbalance import run_bench_imbalance
    from pipeline.params import read_settings
    from pipeline.progress import shown_progress
    from pipeline.run import Workspace

    place = Workspace(workspace.absolute())
    with shown_progress("imbalance") as progress:
        _print_json(lambda: run_bench_imbalance(place, read_settings(workspace), ranker, progress))


@bench_app.command("promotions")
def bench_promotions(
    rounds: Annotated[int, typer.Option(min=1)] = 100,
    processes: Annotated[int, typer.Option(min=2)] = 32,
    workspace: WorkspaceOption = HERE,
) -> None:
    """Warm processes promote at once into one repository: 0 double, 0 lost, the history of one act at a time."""
    from pipeline.bench_promotions import run_bench_promotions
    from pipeline.params import read_settings
    from pipeline.registry import RegistryParams

    params = read_settings(workspace).section("registry", RegistryParams)
    _print_json(lambda: run_bench_promotions(rounds, processes, params))


@bench_app.command("drift")
def bench_drift(
    days: Annotated[int, typer.Option(min=1, help="Quiet days of each seed.")] = 90,
    seeds: Annotated[int, typer.Option(min=1, help="Quiet worlds.")] = 20,
    trials: Annotated[int, typer.Option(min=1, help="Of each fault.")] = 100,
    peer_trials: Annotated[int, typer.Option(min=0, help="Of these, shown to Evidently too (slow).")] = 10,
    rows: Annotated[int, typer.Option(min=1_000, help="Watched once, for speed and memory.")] = 10_000_000,
    only: Annotated[str | None, typer.Option(help="quiet, faults or speed.")] = None,
    kept: Annotated[
        Path | None, typer.Option(help="Folder of results to go on from, while code and params are the same.")
    ] = None,
    workspace: WorkspaceOption = HERE,
) -> None:
    """Watching put to the proof: false alarms of quiet days, faults found, seconds and bytes of ten million rows."""
    from pipeline.bench_drift import PARTS, run_bench_drift
    from pipeline.progress import shown_progress

    if only is not None and only not in PARTS:
        raise typer.BadParameter(f"--only {only}: there are {', '.join(PARTS)}")
    with shown_progress("drift") as progress:
        _print_json(lambda: run_bench_drift(workspace, only, days, seeds, trials, peer_trials, rows, kept, progress))


@bench_app.command("airflow")
def bench_airflow(rounds: Annotated[int, typer.Option(min=1)] = 3, workspace: WorkspaceOption = HERE) -> None:
    """A retraining of the small log under Airflow with PostgreSQL, and by hand, turn about: seconds more, same bytes."""
    from pipeline.bench_airflow import run_bench_airflow

    _print_json(lambda: run_bench_airflow(workspace.absolute(), rounds))


def _print_json(bench: Callable[[], object]) -> None:
    print(json.dumps(bench()))
