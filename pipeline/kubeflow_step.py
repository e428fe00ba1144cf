"""One step in a Kubeflow task: a workspace around the artifacts that Kubeflow brought, the step's own command, and its results back.

`python -m pipeline.kubeflow_step VERB ...` is what each component of the compiled pipeline runs, in the project's folder.
Needs only the standard library; the step itself runs as a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from pipeline.moments import in_utc

_FILES = ("params.yaml", "window.yaml", "dvc.yaml")
_GATE_SAID_NO = 4


def run_step(
    home: Path, command: Sequence[str], window: Mapping[str, str], reads: Mapping[str, Path], makes: Mapping[str, Path]
) -> int:
    """Run a command in a throw-away workspace; `reads` are folders that lie there, `makes` where results are wanted."""
    with tempfile.TemporaryDirectory(prefix="ctr-step-") as folder:
        workspace = Path(folder)
        for name in _FILES:
            shutil.copyfile(home / name, workspace / name)
        shutil.copytree(home / "logs", workspace / "logs")
        (workspace / ".home").write_text(str(home), encoding="utf-8")
        if any(window.values()):
            said = {name: _moment(window.get(name)) for name in ("start", "end")} | {"as_of": None}
            (workspace / "window.yaml").write_text(json.dumps(said), encoding="utf-8")
        for name, place in reads.items():
            shutil.copytree(place, workspace / "artifacts" / name)
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(home), os.environ.get("PYTHONPATH", "")])}
        python = os.environ.get("CTR_PYTHON", sys.executable)
        words = [python if word == "python" else word for word in command]
        code = subprocess.run(words, cwd=workspace, env=environment, check=False).returncode
        if code == 0:
            for name, place in makes.items():
                shutil.rmtree(place, ignore_errors=True)
                shutil.copytree(workspace / "artifacts" / name, place)
    return 0 if code == _GATE_SAID_NO else code


def main() -> None:
    """Read the command line that a component gives."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.kubeflow_step")
    parser.add_argument("command", help="what to run, as one word")
    parser.add_argument("--start", default="")
    parser.add_argument("--end", default="")
    parser.add_argument("--read", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--make", action="append", default=[], metavar="NAME=FOLDER")
    said = parser.parse_args()
    reads, makes = _places(said.read), _places(said.make)
    window = {"start": said.start, "end": said.end}
    sys.exit(run_step(Path.cwd(), shlex.split(said.command), window, reads, makes))


def _moment(text: str | None) -> str | None:
    """A day or a moment of ISO 8601 as window.yaml wants it; None for an open end."""
    return in_utc(datetime.fromisoformat(text)).isoformat() if text else None


def _places(words: Sequence[str]) -> dict[str, Path]:
    return {name: Path(place) for name, _, place in (word.partition("=") for word in words)}


if __name__ == "__main__":
    main()
