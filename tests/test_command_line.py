"""What a person at a terminal meets: exit codes, words on stderr, and earlier artifacts that stay as they were."""

from __future__ import annotations

import contextlib
import gzip
import io
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from components.manifest import digest_folder
from pipeline import acts
from pipeline.__main__ import app, main

REPO = Path(__file__).parents[1]
NUM_ROWS = 400

SCHEMA = {
    "click": "clicked",
    "time": {"column": "shown_at", "unit": "seconds"},
    "impression": "key",
    "user": None,
    "item": None,
    "fields": [
        {
            "name": "device",
            "kind": "categorical",
            "buckets": None,
            "max_missing_share": 0.1,
            "minimum": None,
            "maximum": None,
        },
        {
            "name": "price",
            "kind": "numeric",
            "buckets": "quantiles",
            "max_missing_share": 0.1,
            "minimum": 0.0,
            "maximum": None,
        },
    ],
}


def line(number: int, clicked: object, shown_at: float | None = None) -> str:
    moment = 1_772_452_800 + 600 * number if shown_at is None else shown_at
    return f"k{number},{moment},{clicked},{'phone' if number % 3 else 'desk'},{number % 7}.5\n"


def log_of(rows: list[str], header: str = "key,shown_at,clicked,device,price\n") -> bytes:
    return (header + "".join(rows)).encode()


SOUND = [line(number, int(number % 4 == 0)) for number in range(NUM_ROWS)]


def make_project(folder: Path) -> Path:
    """A project on one CSV file, its window open, with the repository's own params."""
    (folder / "logs").mkdir(parents=True)
    preset = yaml.safe_load((REPO / "logs" / "example_table.yaml").read_text(encoding="utf-8"))
    preset["source"] = {
        "format": "table",
        "paths": [str(folder / "log.csv")],
        "options": {"separator": None, "ignored_columns": None, "partition_pattern": None},
    }
    preset["schema"] = SCHEMA
    preset["check"] |= {"click_rate_band": [0.01, 0.99], "min_rows": 100, "max_distinct_share": 1.0}
    (folder / "logs" / "mine.yaml").write_text(yaml.safe_dump(preset, sort_keys=False), encoding="utf-8")
    params = yaml.safe_load((REPO / "params.yaml").read_text(encoding="utf-8")) | {"log": "mine"}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    shutil.copyfile(REPO / "window.yaml", folder / "window.yaml")
    (folder / "log.csv").write_bytes(log_of(SOUND))
    return folder


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what stood on stderr."""

    code: int
    stderr: str


def pipeline(project: Path, *words: str) -> Ended:
    """One command in this process, which has loaded everything; how it ends is the command line's own."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(said):
        patch.setenv("CTR_DATA", str(project))
        patch.setattr(sys, "argv", ["pipeline", *words, "--workspace", str(project)])
        with pytest.raises(SystemExit) as ended:
            main()
    return Ended(int(ended.value.code or 0), said.getvalue())


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose sound log was fetched and checked."""
    project = make_project(tmp_path_factory.mktemp("terminal") / "project")
    for words in (["fetch", "--only", "raw_log"], ["run", "check"]):
        ended = pipeline(project, *words)
        assert ended.code == 0, ended.stderr
    return project


def missing(place: Path) -> None:
    place.unlink()


def written(content: bytes) -> Callable[[Path], None]:
    return lambda place: place.write_bytes(content) and None


BAD_FILES: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "missing file": (missing, ("log.csv",)),
    "empty file": (written(b""), ("log.csv", "empty")),
    "wrong delimiter": (written(log_of(SOUND).replace(b",", b";")), ("log.csv", "semicolon")),
    "missing column": (
        written(log_of([row.rpartition(",")[0] + "\n" for row in SOUND], "key,shown_at,clicked,device\n")),
        ("log.csv", "missing: ['price']"),
    ),
    "extra column": (
        written(log_of([row[:-1] + ",x\n" for row in SOUND], "key,shown_at,clicked,device,price,note\n")),
        ("log.csv", "too many: ['note']"),
    ),
    "byte that is not UTF-8": (
        written(log_of(SOUND).replace(b"phone", b"ph\xffne", 1)),
        ("log.csv", "line 3", "'device'", "0xff"),
    ),
}
BAD_ROWS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "clicks of 2": ([line(number, 2) for number in range(NUM_ROWS)], ("click is not 0 or 1", "400 of 400")),
    "time in milliseconds": (
        [line(number, number % 2, 1_772_452_800_000 + number) for number in range(NUM_ROWS)],
        ("log.csv", "milliseconds"),
    ),
    "all clicks equal": ([line(number, 0) for number in range(NUM_ROWS)], ("'clicked'", "0 in all of 400 rows")),
}


def spoilt(checked: Path, tmp_path: Path) -> tuple[Path, dict[str, str]]:
    project = tmp_path / "project"
    shutil.copytree(checked, project)
    preset = project / "logs" / "mine.yaml"
    preset.write_text(preset.read_text(encoding="utf-8").replace(str(checked), str(project)), encoding="utf-8")
    return project, {folder.name: digest_folder(folder) for folder in (project / "artifacts").iterdir()}


def assert_refused(ended: Ended, words: tuple[str, ...], code: int) -> None:
    assert ended.code == code, ended.stderr
    for word in words:
        assert word in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("what", BAD_FILES)
def test_a_bad_file_ends_fetch_with_3_and_leaves_the_artifacts(what: str, checked: Path, tmp_path: Path) -> None:
    project, before = spoilt(checked, tmp_path)
    spoil, words = BAD_FILES[what]
    spoil(project / "log.csv")
    assert_refused(pipeline(project, "fetch", "--only", "raw_log"), words, 3)
    assert {folder.name: digest_folder(folder) for folder in (project / "artifacts").iterdir()} == before


def test_a_truncated_gzip_ends_fetch_with_3_and_leaves_the_artifacts(checked: Path, tmp_path: Path) -> None:
    project, before = spoilt(checked, tmp_path)
    preset = project / "logs" / "mine.yaml"
    preset.write_text(preset.read_text(encoding="utf-8").replace("log.csv", "log.csv.gz"), encoding="utf-8")
    (project / "log.csv.gz").write_bytes(gzip.compress(log_of(SOUND))[:-20])
    assert_refused(pipeline(project, "fetch", "--only", "raw_log"), ("log.csv.gz", "cut off"), 3)
    assert {folder.name: digest_folder(folder) for folder in (project / "artifacts").iterdir()} == before


@pytest.mark.parametrize("what", BAD_ROWS)
def test_bad_rows_end_check_with_3_and_leave_the_clean_log(what: str, checked: Path, tmp_path: Path) -> None:
    project, before = spoilt(checked, tmp_path)
    rows, words = BAD_ROWS[what]
    (project / "log.csv").write_bytes(log_of(rows))
    assert pipeline(project, "fetch", "--only", "raw_log").code == 0
    assert_refused(pipeline(project, "run", "check"), words, 3)
    assert digest_folder(project / "artifacts" / "clean_log") == before["clean_log"]


def test_wrong_params_and_an_unknown_stage_end_with_2(checked: Path, tmp_path: Path) -> None:
    project, _ = spoilt(checked, tmp_path)
    params = (project / "params.yaml").read_text(encoding="utf-8")
    (project / "params.yaml").write_text(params.replace("sample_rows: 20000", "sample_rows: many", 1), encoding="utf-8")
    assert_refused(pipeline(project, "run", "check"), ("params.yaml", "[check]", "sample_rows", "'many'"), 2)
    assert_refused(pipeline(project, "run", "chek"), ("no stage 'chek'", "'check'"), 2)


def test_a_stage_without_its_input_ends_with_2_and_says_what_makes_it(checked: Path) -> None:
    assert_refused(pipeline(checked, "run", "encode"), ("'splits' is not there yet",), 2)


def test_a_changed_artifact_ends_with_6(checked: Path, tmp_path: Path) -> None:
    project, _ = spoilt(checked, tmp_path)
    (copy,) = (project / "artifacts" / "raw_log" / "files").iterdir()
    copy.chmod(0o644)
    copy.write_bytes(copy.read_bytes() + b"\n")
    assert_refused(pipeline(project, "run", "check"), (copy.name, "run fetch again"), 6)


def test_a_process_of_its_own_ends_with_the_same_code_and_words(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pipeline", "params", "show", "--workspace", str(tmp_path)]
    ended = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
    assert_refused(Ended(ended.returncode, ended.stderr), ("params.yaml",), 2)


@pytest.mark.parametrize(
    ("environment", "arguments", "expected"),
    [
        ({"LOKY_MAX_CPU_COUNT": "1"}, [], 1),  # joblib counts a container's limit, and this one
        ({"CTR_CORES": "3"}, [], 3),
        ({"CTR_CORES": "3"}, ["--cores", "5"], 5),
    ],
)
def test_a_stage_is_lent_the_cores_that_were_said_or_else_those_that_are_there(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], arguments: list[str], expected: int
) -> None:
    lent: list[int] = []
    monkeypatch.setattr(acts, "run_one_stage", lambda *options: lent.append(options[-1]))
    monkeypatch.delenv("CTR_CORES", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, ["run", "search", *arguments])
    assert result.exit_code == 0, result.output
    assert lent == [expected]
