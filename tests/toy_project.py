"""A project with a small line of its own for tests of the runners: the same acts, shapes and exit codes, trivial stages.

Its log is a file a day below data/, of which only the names are looked at. Its interpreter is a script that gives `runs` and
`dvc` to the real command line and answers `promote`, `champion`, `warn` and `fetch --only` itself. What shall go wrong stands as files in faults/ of the project: `FLOW.VERB.exits` holds exit
codes that the next tries end with, `FLOW.VERB.steps` the number of tenths of a second that it works for, a checkpoint each. For FLOW
stands how the run's name begins: `retrain`, or `retrain--killed` for one run alone, which then wins.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import yaml

REPO = Path(__file__).parents[1]

BEHIND = ("nice", "-n", "10")  # what nobody waits for gives way to what somebody does; with GIVING_WAY on the path
GIVING_WAY = Path(__file__).parent / "giving_way"

STAGES = {
    "check": (["raw_log"], "clean_log"),
    "train": (["clean_log"], "ranker"),
    "pack": (["ranker", "champion"], "bundle"),
    "watch": (["champion", "served_log"], "drift"),
}

WARN = """
warn:
  service: ctr
  team: ctr
  runbook_url: docs/runbooks
  dashboard_url: http://127.0.0.1:3000/d/ctr
  attempts: 3
  first_wait_seconds: 0.1
  max_wait_seconds: 1.0
  timeout_seconds: 5.0
"""

INTERPRETER = """\
#!/bin/sh
export PYTHONPATH={giving_way}:$PYTHONPATH
case "$*" in
  "-m pipeline runs"*|"-m pipeline dvc"*) exec {behind} {python} "$@" ;;
  *) shift 2; exec {behind} {python} {home}/toy_pipeline.py "$@" ;;
esac
"""

STAGE = '''
"""One toy stage or act: what it makes is a digest of what it reads, of its name and of the window."""

import hashlib, json, signal, sys, time
from pathlib import Path

sys.path.insert(0, {repo!r})
from components.manifest import write_manifest
from pipeline.on_dvc import record_end, record_start
from pipeline.run import Workspace
from pipeline.subprocesses import die_with_parent

STAGES = {stages!r}
FAULTS = Path({faults!r})
RUN = Path.cwd()
HERE = RUN / "settled" if sys.argv[-1] == "settled" else RUN
workspace = Workspace(HERE)
die_with_parent()
stopped = []
signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))


def end(verb, code, words):
    print(words, flush=True)
    record_end(workspace, verb, code)
    sys.exit(code)


def fault(name):
    there = [path for path in FAULTS.glob(f"*.{{name}}") if RUN.name.startswith(path.name.partition(".")[0])]
    return max(there, key=lambda path: len(path.name), default=None)


def faults(verb):
    path = fault(f"{{verb}}.exits")
    codes = path.read_text().split() if path is not None else []
    if codes:
        path.write_text(" ".join(codes[1:]))
        if int(codes[0]):
            end(verb, int(codes[0]), f"DataError: {{verb}} was told to end with {{codes[0]}}")


def work(verb):
    path = fault(f"{{verb}}.steps")
    num_steps = int(path.read_text()) if path is not None else 0
    kept = workspace.state("checkpoints") / verb / "step"
    kept.parent.mkdir(exist_ok=True)
    first = int(kept.read_text()) if kept.is_file() else 0
    if num_steps:
        print(f"{{verb}} begins at step {{first}}", flush=True)
    for step in range(first, num_steps):
        time.sleep(0.1)
        kept.write_text(str(step + 1))
        if stopped:
            time.sleep(0.5)  # a checkpoint takes its time
            end(verb, 143, f"{{verb}} stopped after step {{step + 1}}")


def make(name, reads, verb):
    folder = HERE / "artifacts" / name
    folder.mkdir(parents=True, exist_ok=True)
    known = [verb, (HERE / "window.yaml").read_text() if not reads else ""]
    known += [file.read_text(errors="replace") for read in reads for file in sorted((HERE / "artifacts" / read).iterdir())]
    (folder / "digest.txt").write_text(hashlib.sha256("|".join(known).encode()).hexdigest())
    (folder / "manifest.json").unlink(missing_ok=True)
    if name == "bundle":
        write_manifest(folder)


verb = sys.argv[2] if sys.argv[1] == "run" else sys.argv[1]
record_start(workspace, verb)
faults(verb if HERE == RUN else f"{{verb}}_settled")
work(verb)
if verb == "fetch":
    for name in ("raw_log", "champion", "served_log"):
        make(name, [], name)
elif verb in STAGES:
    make(STAGES[verb][1], STAGES[verb][0], verb)
elif verb == "promote":
    with (FAULTS / "promotions").open("a") as file:
        file.write(f"{{RUN.name}} {{' '.join(sys.argv[2:])}}\\n")
end(verb, 0, f"{{verb}} is done")
'''


def make_project(folder: Path) -> Path:
    """Make the toy project in `folder`, committed; gives its interpreter, for CTR_PYTHON."""
    for part in ("infra", "logs", "dags", "faults"):
        (folder / part).mkdir(parents=True)
    for file in ("params.yaml", "logs/simulated.yaml", "infra/resources.yaml", ".dvcignore"):
        shutil.copyfile(REPO / file, folder / file)
    needs = folder / "infra/resources.yaml"
    needs.write_text(needs.read_text("utf-8").replace("ctr_gpu: 1", "ctr_gpu: 3"), "utf-8")  # so that runs meet
    preset = folder / "logs/simulated.yaml"
    content = yaml.safe_load(preset.read_text(encoding="utf-8"))
    options = {"separator": None, "ignored_columns": "*", "partition_pattern": "%Y-%m-%d"}
    content["source"] = {"format": "table", "paths": ["$CTR_DATA/*.csv"], "options": options}
    preset.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    let_arrive(folder, date(2026, 3, 1), date(2026, 4, 5))
    params = (folder / "params.yaml").read_text(encoding="utf-8")
    if "\nwarn:" not in params:
        (folder / "params.yaml").write_text(params + WARN, encoding="utf-8")
    for dag in (REPO / "dags").glob("*.py"):
        text = dag.read_text(encoding="utf-8").replace('strategy="fixed"', 'strategy="darts"')  # it has no champion
        text = text.replace('usual(("weekly",))', 'usual(("weekly",)) | {"max_active_runs": 3}')  # so that runs meet
        ended = "    end_date=datetime(2026, 4, 5, tzinfo=UTC),  # so that nothing is scheduled while tests run\n    schedule="
        text = text.replace("    schedule=", ended).replace(
            "from airflow.sdk", "from datetime import UTC, datetime\n\nfrom airflow.sdk", 1
        )
        (folder / "dags" / dag.name).write_text(text, encoding="utf-8")
    (folder / "window.yaml").write_text("{start: null, end: null, as_of: null}\n")
    (folder / "dvc.yaml").write_text(_dvc_yaml(folder))
    (folder / ".gitignore").write_text("/artifacts/\n/data/\n/runs/\n/.ctr/\n/faults/\n/.home\n__pycache__/\n")
    (folder / "toy_pipeline.py").write_text(
        STAGE.format(repo=str(REPO), stages=STAGES, faults=str(folder / "faults")), encoding="utf-8"
    )
    interpreter = folder / "toy-python"
    interpreter.write_text(
        INTERPRETER.format(giving_way=GIVING_WAY, behind=" ".join(BEHIND), python=sys.executable, home=folder)
    )
    interpreter.chmod(0o755)
    (folder / ".dvc").mkdir()  # as `dvc init` would, which takes seconds
    (folder / ".dvc/config").write_text("[core]\n    analytics = false\n")
    (folder / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    for command in (
        "git init --quiet --initial-branch=main",
        "git add --all",
        "git -c user.name=t -c user.email=t@localhost commit --quiet -m toy",
    ):
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return interpreter


def let_arrive(home: Path, first: date, last: date) -> None:
    """Let the log's files of these days arrive."""
    (home / "data").mkdir(exist_ok=True)
    for number in range((last - first).days + 1):
        (home / "data" / f"{first + timedelta(days=number)}.csv").touch()


def _dvc_yaml(folder: Path) -> str:
    script = f"{sys.executable} {folder / 'toy_pipeline.py'}"

    def outs(*names: str) -> list[dict[str, dict[str, bool]]]:
        return [{f"artifacts/{name}": {"persist": True}} for name in names]

    stages: dict[str, object] = {
        "fetch": {
            "cmd": f"{script} fetch",
            "params": [{"window.yaml": None}],
            "outs": outs("raw_log", "champion", "served_log"),
        }
    }
    for verb, (reads, makes) in STAGES.items():
        deps = [f"artifacts/{name}" for name in reads]
        stages[verb] = {"cmd": f"{script} run {verb}", "deps": deps, "outs": outs(makes)}
    return json.dumps({"stages": stages}, indent=1)
