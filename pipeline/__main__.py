"""The command line: `python -m pipeline COMMAND`. Exit codes say who can mend what went wrong (components/errors.py).

Nothing heavy is imported here: each command imports what it needs.
"""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from components.errors import CtrError
from pipeline.alerting.cli import alerts_app
from pipeline.bench_cli import bench_app
from pipeline.drawing_cli import drawing_app
from pipeline.environment import TELEMETRY_OFF, WAITING_THREADS
from pipeline.leaderboard_cli import leaderboard_app
from pipeline.options import HERE, JsonOption, WorkspaceOption
from pipeline.promotion_cli import promotion_app
from pipeline.runs_cli import runs_app

app = typer.Typer(
    help="From an impression log to a served, calibrated and watched click probability.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
params_app = typer.Typer(help="The knobs: what is set and where.", no_args_is_help=True)
app.add_typer(params_app, name="params")
app.add_typer(bench_app, name="bench")
app.add_typer(runs_app, name="runs")
app.add_typer(promotion_app)
app.add_typer(leaderboard_app)
app.add_typer(drawing_app)
app.add_typer(alerts_app)


class Device(StrEnum):
    """Where tensors live."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Resume(StrEnum):
    """What to do with a checkpoint."""

    AUTO = "auto"
    NEVER = "never"
    ALWAYS = "always"


DeviceOption = Annotated[Device, typer.Option(envvar="CTR_DEVICE", help="auto takes a GPU where there is one.")]
ResumeOption = Annotated[
    Resume,
    typer.Option(help="auto goes on from a checkpoint that fits, always refuses without one, never starts anew."),
]
LimitOption = Annotated[int | None, typer.Option(min=1, help="At most so many batches an epoch: a quick look.")]
CoresOption = Annotated[
    int | None,
    typer.Option(
        envvar="CTR_CORES",
        min=1,
        help="At most so many processes at once; by default as many as cores (a container's limit counts).",
    ),
]


@app.command()
def run(
    stage: Annotated[str, typer.Argument(help="A verb of the line, such as check or train.")],
    workspace: WorkspaceOption = HERE,
    device: DeviceOption = Device.AUTO,
    resume: ResumeOption = Resume.AUTO,
    limit_batches: LimitOption = None,
    cores: CoresOption = None,
) -> None:
    """Run one stage: read what its signature names, show its artifact whole or not at all."""
    from joblib import cpu_count

    from pipeline.acts import run_one_stage

    # Not the machine's cores: a container is lent some of its node's.
    run_one_stage(workspace, stage, device.value, resume.value, limit_batches, cores or cpu_count())


@app.command()
def fetch(
    workspace: WorkspaceOption = HERE,
    only: Annotated[list[str] | None, typer.Option(help="raw_log, champion or served_log; may be given twice.")] = None,
) -> None:
    """Bring the window's raw log near; pin the champion and what it served."""
    from pipeline.acts import fetch as act

    act(workspace, only or [])


@app.command()
def prepare(
    folder: Annotated[Path, typer.Argument(help="The workspace to make.")],
    start: Annotated[str, typer.Option(help="Start of its window, ISO 8601, UTC.")],
    end: Annotated[str, typer.Option(help="End of its window, ISO 8601, UTC.")],
    workspace: WorkspaceOption = HERE,
) -> None:
    """Make a workspace of its own with the same params and another window."""
    from pipeline.acts import moment
    from pipeline.acts import prepare as act

    act(workspace, folder, moment(start), moment(end))


@app.command()
def dvc(
    stage: Annotated[str, typer.Argument(help="A verb of the line, or fetch.")], workspace: WorkspaceOption = HERE
) -> None:
    """Reproduce one step of dvc.yaml and end with the step's own exit code, which DVC itself hides."""
    from pipeline.on_dvc import run_through_dvc
    from pipeline.run import Workspace

    raise typer.Exit(run_through_dvc(Workspace(workspace.absolute()), stage))


@app.command()
def warn(
    workspace: WorkspaceOption = HERE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent.")] = False,
    test: Annotated[bool, typer.Option("--test", help="Send an alert that says it is a test, and its end.")] = False,
) -> None:
    """Tell people what watch found (exit 5 if something was found and the alarm was sent)."""
    from pipeline.acts import warn as act
    from pipeline.acts import with_recorded_end

    raise typer.Exit(with_recorded_end(workspace, "warn", lambda: act(workspace, dry_run, test)))


@app.command()
def serve(
    bundle: Annotated[Path | None, typer.Option(help="A bundle's folder; by default the champion's.")] = None,
    host: Annotated[str, typer.Option()] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8080,
    workspace: WorkspaceOption = HERE,
) -> None:
    """Serve scores over HTTP: /score, /livez, /readyz, /metrics; writes the served log."""
    from pipeline.acts import serve as act

    act(workspace, bundle, host, port)


@app.command()
def score(
    start: Annotated[str | None, typer.Option(help="First moment of the rows to score, ISO 8601, UTC.")] = None,
    end: Annotated[str | None, typer.Option(help="Moment after the last row, ISO 8601, UTC.")] = None,
    file: Annotated[
        Path | None,
        typer.Argument(
            help="A file of rows in the log's format, a table with clicks or without; by default its source."
        ),
    ] = None,
    workspace: WorkspaceOption = HERE,
) -> None:
    """Score a batch of rows with the champion and write the served log, with the clicks that are known."""
    from pipeline.acts import score as act

    act(workspace, file, start, end)


@app.command()
def report(
    workspace: WorkspaceOption = HERE,
    drift: Annotated[Path | None, typer.Option(help="The workspace that watched, if another one did.")] = None,
    output: Annotated[Path | None, typer.Option(help="Where to write it; by default report/index.html.")] = None,
) -> None:
    """Write one self-contained HTML page about the run, and a summary on the terminal."""
    from pipeline.acts import report as act

    act(workspace, drift, output)


@app.command()
def wire(
    check: Annotated[bool, typer.Option("--check", help="Only say whether dvc.yaml is current.")] = False,
    workspace: WorkspaceOption = HERE,
) -> None:
    """Write dvc.yaml from the stages' signatures."""
    from pipeline.on_dvc import dvc_yaml
    from pipeline.params import read_settings
    from pipeline.stages import LINE

    path = workspace / "dvc.yaml"
    text = dvc_yaml(LINE, read_settings(workspace))
    is_current = path.is_file() and path.read_text(encoding="utf-8") == text
    if check:
        print(f"{path} is {'current' if is_current else 'stale: run `python -m pipeline wire`'}")
        raise typer.Exit(0 if is_current else 1)
    path.write_text(text, encoding="utf-8")


@app.command()
def airflow(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Of pages and REST API, on loopback.")] = 8080,
    folder: Annotated[Path, typer.Option(help="AIRFLOW_HOME: configuration, logs, database.")] = Path(".ctr/airflow"),
    with_postgres: Annotated[
        bool, typer.Option("--postgres", help="Start a PostgreSQL of its own; default SQLite, or CTR_DATABASE_URL.")
    ] = False,
) -> None:
    """Run Airflow's four processes on loopback until Ctrl-C."""
    from pipeline.airflow_server import serve_airflow

    serve_airflow(HERE.absolute(), folder.absolute(), port, with_postgres)


@app.command()
def kubeflow(
    output: Annotated[Path, typer.Option(help="Where to write the compiled pipeline.")] = Path("pipeline.yaml"),
) -> None:
    """Compile the line for Kubeflow Pipelines."""
    from pipeline.on_kubeflow import write_pipeline

    write_pipeline(HERE.absolute(), output)


@params_app.command("show")
def params_show(workspace: WorkspaceOption = HERE, as_json: JsonOption = False) -> None:
    """Each value and the file it comes from."""
    from pipeline.params import read_settings

    settings = read_settings(workspace).every_setting()
    if as_json:
        print(json.dumps([{"key": one.key, "value": one.value, "file": one.file} for one in settings], default=str))
        return
    width = max(len(one.key) for one in settings)
    for one in settings:
        print(f"{one.key:<{width}}  {json.dumps(one.value, default=str)}  ({one.file})")


@app.command()
def doctor(workspace: WorkspaceOption = HERE) -> None:
    """Say in words what is missing on this machine (exit 2 if something that the line needs is)."""
    from pipeline.doctor import examine

    raise typer.Exit(examine(workspace))


def main() -> None:
    """Run the command line; an error of ours becomes one line on stderr and its exit code."""
    for name, value in (TELEMETRY_OFF | WAITING_THREADS).items():
        os.environ.setdefault(name, value)
    try:
        app()
    except CtrError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
