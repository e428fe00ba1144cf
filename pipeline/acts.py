"""The acts around the line, its only effects: what touches the world at its two ends."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from components.errors import ConfigError, CtrError, DataError
from components.log import LogRequest, RawLog, Window
from components.strict import Strict
from pipeline.moments import in_utc
from pipeline.on_dvc import record_end, record_start
from pipeline.outside import Outside, champion_near, desk_of, home_of, read_environment, registry_of
from pipeline.params import Settings, read_settings
from pipeline.progress import shown_progress
from pipeline.run import RunOptions, StopFlag, Workspace, run_stage, stop_signals, workbench_for
from pipeline.subprocesses import die_with_parent

if TYPE_CHECKING:
    from components.workbench import Workbench

T = TypeVar("T")

INPUTS = ("raw_log", "champion", "served_log")
EXIT_ALARM_SENT = 5


@dataclass(frozen=True)
class ScoreParams(Strict):
    """chunk_rows: rows scored at once, which bounds the memory of `score`."""

    chunk_rows: int


def run_one_stage(
    root: Path,
    verb: str,
    device: Literal["auto", "cpu", "cuda"],
    resume: Literal["auto", "never", "always"],
    limit_batches: int | None,
    cores: int,
) -> None:
    """Run one stage and record how it ended, for whoever started it through DVC."""
    workspace = Workspace(root.absolute())
    with _recorded(workspace, verb), shown_progress(verb) as progress:
        from pipeline.foreseeing import DEAR, refuse_what_later_stages_would
        from pipeline.stages import LINE

        verbs = [stage.verb for stage in LINE.stages]
        if verb not in verbs:
            raise ConfigError(f"no stage '{verb}'; there are {verbs}, and the act `fetch`")
        options = RunOptions(device, resume, limit_batches, progress, cores)
        settings = read_settings(workspace.root)
        if verb in DEAR:
            refuse_what_later_stages_would(settings)
        run_stage(LINE.stage(verb), workspace, settings, options)


def fetch(root: Path, only: Sequence[str]) -> None:
    """Bring the window's raw log near, pin the champion and what it served; `only` some of these three if given."""
    from pipeline.fetching import bring_log
    from pipeline.served.joining import bring_served

    unknown = sorted(set(only) - set(INPUTS))
    if unknown:
        raise ConfigError(f"fetch --only {unknown}: there are {list(INPUTS)}")
    workspace = Workspace(root.absolute())
    with _recorded(workspace, "fetch"), _bench(workspace, "fetch") as workbench:
        settings = read_settings(workspace.root)
        request, outside = settings.request(), read_environment(home_of(workspace))
        if _is_wanted("raw_log", only):
            raw = workbench.scratch / "raw"
            workspace.write("raw_log", bring_log(request, outside.home, outside.data, raw, workbench.progress))
        if _is_wanted("champion", only):
            place = workbench.scratch / "champion"
            place.mkdir()
            workspace.write("champion", registry_of(workspace).fetch_champion(place))
        if _is_wanted("served_log", only):
            workspace.write("served_log", bring_served(request, outside.served, workbench.scratch))


def prepare(root: Path, folder: Path, start: datetime, end: datetime) -> None:
    """Make `folder` a workspace of its own with the same params and the window from `start` to `end`."""
    import shutil

    import yaml

    settings = read_settings(root)
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(root / "params.yaml", folder / "params.yaml")
    shutil.copyfile(root / settings.preset_file, folder / settings.preset_file)
    (folder / ".home").write_text(str(home_of(Workspace(root.absolute()))), encoding="utf-8")
    window = {"start": start.isoformat(), "end": end.isoformat(), "as_of": None}
    (folder / "window.yaml").write_text(yaml.safe_dump(window, sort_keys=False), encoding="utf-8")


def score(root: Path, file: Path | None, start: str | None, end: str | None) -> None:
    """Score the rows of a window (or of `file`, in the log's format) with the champion into the served log."""
    from pipeline.fetching import bring_log
    from pipeline.score_batch import score_raw_log

    workspace = Workspace(root.absolute())
    with _bench(workspace, "score") as workbench:
        settings, outside = read_settings(workspace.root), read_environment(home_of(workspace))
        params = settings.section("score", ScoreParams)
        request = request_for(settings, moment(start) if start else None, moment(end) if end else None)
        if file is not None:
            if request.source.format == "simulated":
                raise ConfigError(f"{file}: a simulated log is made, not read; give --start and --end instead")
            request = replace(request, source=replace(request.source, paths=(str(file.absolute()),)))
        champion = champion_near(workspace, workbench.scratch)
        try:
            raw = workbench.scratch / "raw"
            raw_log = bring_log(request, outside.home, outside.data, raw, workbench.progress)
        except DataError as error:
            if file is None or request.source.format != "table":
                raise
            raw_log = _without_clicks(request, outside, workbench, error)
        done = score_raw_log(
            raw_log,
            _known(champion.scorer),
            _known(champion.digest),
            outside.served,
            params.chunk_rows,
            workbench.scratch,
            workbench.progress,
        )
    print(f"{done.num_rows:,} rows scored by {champion.version}, {done.num_outside_window:,} outside the window")
    for reason, count in sorted(done.num_broken.items()):
        print(f"{count:,} rows left out: {reason}", file=sys.stderr)
    if done.num_rows:
        print(f"scores: {done.files}")


def _without_clicks(request: LogRequest, outside: Outside, workbench: Workbench, refused: DataError) -> RawLog:
    """The rows of a table that lacks nothing but the column of clicks; raises `refused` where it lacks something else."""
    from pipeline.fetching import bring_log

    unseen = replace(request, schema=replace(request.schema, click=""))
    try:
        raw_log = bring_log(unseen, outside.home, outside.data, workbench.scratch / "unseen", workbench.progress)
    except DataError:
        raise refused from None
    print(f"There is no column '{request.schema.click}': scored without clicks.", file=sys.stderr)
    return raw_log


def serve(root: Path, bundle: Path | None, host: str, port: int) -> None:
    """Serve the champion, whichever it is at the time, or the bundle in a folder; what is answered is in the served log."""
    from pipeline.registry.feed import ChampionFeed
    from pipeline.registry.signing import check_signature_beside
    from pipeline.service import ServeParams, load_bundle
    from pipeline.service import serve as serve_bundle

    workspace = Workspace(root.absolute())
    settings, outside = read_settings(workspace.root), read_environment(home_of(workspace))
    params = settings.section("serve", ServeParams)
    with _bench(workspace, "serve") as workbench:
        news = None
        if bundle is not None:
            check_signature_beside(bundle, outside.public_key)
            served = load_bundle(bundle, "")
        else:
            champion = champion_near(workspace, workbench.scratch)
            served = load_bundle(_known(champion.folder), _known(champion.version))
            news = ChampionFeed(registry_of(workspace), workbench.scratch).newer
        serve_bundle(served, news, outside.served / settings.log, host, port, params)


def warn(root: Path, dry_run: bool, test: bool) -> int:
    """Tell people what watch found; 0 where nothing was, 5 where something was found and the alarm was sent."""
    from components.watching import Drift, WatchParams
    from pipeline.alerting.warning import send_test, warn_of

    workspace = Workspace(root.absolute())
    settings, desk = read_settings(workspace.root), desk_of(workspace)
    if test:
        send_test(desk)
        return 0
    window = settings.request().window
    watch = settings.section("watch", WatchParams)
    num_findings = warn_of(desk, workspace.read("drift", Drift), (window.start, window.end), watch, dry_run)
    return EXIT_ALARM_SENT if num_findings else 0


def report(root: Path, drift: Path | None, output: Path | None) -> None:
    """Write the page about a run, and its summary to stdout; `drift` is the workspace that watched, if another one did."""
    from pipeline.report import render_report, summary_lines

    workspace = Workspace(root.absolute())
    settings = read_settings(workspace.root)
    page = output or workspace.root / "report" / "index.html"
    artifacts, drift_artifacts = workspace.root / "artifacts", drift and drift.absolute() / "artifacts"
    files = ("params.yaml", settings.preset_file, "window.yaml")
    params_text = "\n".join(f"# {name}\n{(workspace.root / name).read_text(encoding='utf-8')}" for name in files)
    render_report(artifacts, drift_artifacts, params_text, page)
    print("\n".join(summary_lines(artifacts, drift_artifacts, page)))


def with_recorded_end(root: Path, act: str, run: Callable[[], int]) -> int:
    """Run an act and record the exit code that it ends with, also where that is an error of ours."""
    with _recorded(Workspace(root.absolute()), act) as end:
        end.code = run()
    return end.code


def moment(text: str) -> datetime:
    """An ISO 8601 date or time as UTC; raises ConfigError."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"'{text}' is no ISO 8601 date or time, such as 2026-03-30 or 2026-03-30T06:00") from error
    return in_utc(read)


def request_for(settings: Settings, start: datetime | None, end: datetime | None) -> LogRequest:
    """The settings' request with another window."""
    request = settings.request()
    return replace(request, window=Window(start, end, None)) if start or end else request


@dataclass
class _End:
    """The exit code that a step ends with, unless an error gives another."""

    code: int


@contextmanager
def _recorded(workspace: Workspace, step: str) -> Iterator[_End]:
    """Record that a step started and how it ended, for whoever started it; an error that is not ours counts as 1."""
    die_with_parent()
    record_start(workspace, step)
    end, code = _End(0), 1
    try:
        yield end
        code = end.code
    except CtrError as error:
        code = error.exit_code
        raise
    finally:
        record_end(workspace, step, code)


@contextmanager
def _bench(workspace: Workspace, verb: str) -> Iterator[Workbench]:
    stop = StopFlag()
    with (
        shown_progress(verb) as progress,
        stop_signals(stop),
        workbench_for(verb, workspace, RunOptions("cpu", "never", None, progress, 1), stop) as workbench,
    ):
        yield workbench


def _known(part: T | None) -> T:
    """A part of a champion that is there."""
    assert part is not None
    return part


def _is_wanted(name: str, only: Sequence[str]) -> bool:
    return not only or name in only
