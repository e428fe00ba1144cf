"""DVC: `dvc.yaml` written from the stages' signatures, and one step run through DVC with the stage's own exit code.

DVC ends with 255 whatever its stage ended with, dies at once on a signal and does not wait for a stage that still
writes its checkpoint (see docs/dvc.md). So a step runs in a process group of its own, signals go to the group, and
the stage, not DVC, is waited for; the stage records how it ended beside the artifacts.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import yaml

from components.errors import ConfigError
from pipeline.plan import ARTIFACTS
from pipeline.run import Workspace

if TYPE_CHECKING:
    from pipeline.params import Settings
    from pipeline.stage import Line, Stage

HEADER = """\
# Written by `python -m pipeline wire` from the signatures in pipeline/stages.py; edit those and write it anew.
"""
_POLL_SECONDS = 0.1
_FETCH_FILES = (
    "pipeline/fetching.py",
    *(f"pipeline/served/{name}.py" for name in ("__init__", "columns", "joining", "reading")),
)
_OTHER_FILES_READ = {"pack": ("requirements.lock",)}  # the lineage holds its digest
_SCHEMA_AND_SOURCE = ["schema", "source"]


def dvc_yaml(line: Line, settings: Settings) -> str:
    """The text of `dvc.yaml` for a line; which sections a params file has is read off `settings`."""
    stages: dict[str, Any] = {"fetch": _fetch_entry(line)}
    stages |= {stage.verb: _entry(stage, settings) for stage in line.stages}
    content = {
        "stages": stages,
        "metrics": [f"{ARTIFACTS}/evaluation/evaluation.json"],
        "plots": [
            {
                f"{ARTIFACTS}/ranker/ranker.json": {
                    "x": "epoch",
                    "y": "tune_auc",
                    "title": "Training: AUC on tune by epoch",
                }
            }
        ],
    }
    return HEADER + yaml.safe_dump(content, sort_keys=False, width=120)


def _fetch_entry(line: Line) -> dict[str, Any]:
    return {
        "desc": "Bring the window's raw log near, and pin the champion and what it served.",
        "cmd": "python -m pipeline fetch",
        "deps": sorted({*_FETCH_FILES, *_files_under(("components.sources",))}),
        "params": ["log", {"logs/${log}.yaml": _SCHEMA_AND_SOURCE}, {"window.yaml": None}],
        "outs": [_out(name) for name in line.inputs],
    }


def _entry(stage: Stage, settings: Settings) -> dict[str, Any]:
    from pipeline.params import LOG_SECTIONS

    params: list[Any] = []
    preset: list[str] = []
    if stage.params is not None:
        if stage.verb in settings.knobs:
            params.append(stage.verb)
        if stage.verb in LOG_SECTIONS:
            preset.append(stage.verb)
    if "request" in stage.lent:
        params.append("log")
        preset += _SCHEMA_AND_SOURCE
    if preset:
        params.append({"logs/${log}.yaml": sorted(preset)})
    if "request" in stage.lent:
        params.append({"window.yaml": None})
    entry = {
        "desc": (stage.function.__doc__ or "").strip(),
        "cmd": f"python -m pipeline run {stage.verb}",
        "deps": [
            *(str(ARTIFACTS / name) for name in stage.reads),
            *_files_under(stage.modules),
            *_OTHER_FILES_READ.get(stage.verb, ()),
        ],
        "params": params,
        "outs": [_out(stage.makes)],
    }
    return {key: value for key, value in entry.items() if value}


def _out(artifact: str) -> dict[str, Any]:
    return {str(ARTIFACTS / artifact): {"persist": True}}


def _files_under(modules: Iterable[str]) -> list[str]:
    """The files of these component modules and of all that they import, directly or not, and what lies in C beside them."""
    import grimp

    graph = grimp.build_graph("components", cache_dir=None)
    roots = {name for module in modules for name in (module, *graph.find_descendants(module))}
    standing_on = set(roots).union(*(graph.find_upstream_modules(name) for name in roots)) if roots else set()
    packages = {name.rpartition(".")[0] for name in standing_on}
    in_c = {path for name in packages if name for path in Path(*name.split(".")).glob("*.[ch]")}
    return sorted(str(path) for path in in_c | {_file_of(name) for name in standing_on | packages if name})


def _file_of(module: str) -> Path:
    path = Path(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def record_start(workspace: Workspace, verb: str) -> None:
    """Note that this process runs the step now."""
    _write_record(workspace, verb, None)


def record_end(workspace: Workspace, verb: str, exit_code: int) -> None:
    """Note how the step ended, for whoever started it through DVC."""
    _write_record(workspace, verb, exit_code)


def read_end(workspace: Workspace, verb: str) -> int | None:
    """The exit code that a step or act last ended with; None where it never ran, or was killed before it could say."""
    path = _record_file(workspace, verb)
    return json.loads(path.read_text(encoding="utf-8"))["exit_code"] if path.is_file() else None


def run_through_dvc(workspace: Workspace, verb: str) -> int:
    """Reproduce one step of `dvc.yaml` and give the exit code of the step itself (0 where nothing had to be done)."""
    if not (workspace.root / "dvc.yaml").is_file():
        raise ConfigError(f"{workspace.root / 'dvc.yaml'}: the file is missing; run from the project's root")
    _wait_for_the_stage(workspace, verb)  # one that was told to stop may still be writing its checkpoint
    _record_file(workspace, verb).unlink(missing_ok=True)
    command = [sys.executable, "-m", "pipeline.quick_dvc", verb]
    passed_on: list[int] = []
    environment = os.environ | {"CTR_DIE_WITH_PARENT": "1", "DVC_NO_ANALYTICS": "1", "PATH": _path_with_this_python()}
    with subprocess.Popen(command, cwd=workspace.root, env=environment, start_new_session=True) as process:

        def pass_on(number: int, _frame: FrameType | None) -> None:
            passed_on.append(number)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)

        before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            dvc_code = process.wait()
            stage_code = _wait_for_the_stage(workspace, verb)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
    if dvc_code == 0 or stage_code:
        return stage_code or 0
    # Killed before the stage could say that it runs, or while its success was noted: nothing is wrong with it.
    if dvc_code < 0:
        return 128 - dvc_code
    return 128 + passed_on[0] if passed_on else 1


def _path_with_this_python() -> str:
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def _wait_for_the_stage(workspace: Workspace, verb: str) -> int | None:
    """How the stage ended: its recorded code, 137 where it was killed before it could record one, None if it never ran."""
    while True:
        path = _record_file(workspace, verb)
        if not path.is_file():
            return None
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["exit_code"] is not None:
            return int(record["exit_code"])
        if not _is_ours(int(record["process"])):
            return 128 + signal.SIGKILL
        time.sleep(_POLL_SECONDS)


def _is_ours(process: int) -> bool:
    """The process lives and is one of ours, not another that was given the number of one long gone."""
    try:
        return b"pipeline" in Path("/proc", str(process), "cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _record_file(workspace: Workspace, verb: str) -> Path:
    return workspace.state("ends") / f"{verb}.json"


def _write_record(workspace: Workspace, verb: str, exit_code: int | None) -> None:
    path = _record_file(workspace, verb)
    new = path.with_suffix(f".{os.getpid()}.new")
    new.write_text(json.dumps({"process": os.getpid(), "exit_code": exit_code}), encoding="utf-8")
    new.replace(path)
