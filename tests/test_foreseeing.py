"""A param that a stage at the end of the line would refuse is refused before the search begins."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.errors import ConfigError
from pipeline.foreseeing import refuse_what_later_stages_would
from pipeline.params import read_settings

ROOT = Path(__file__).parents[1]


def project(folder: Path, file: str, section: str, **changes: Any) -> Path:
    """The repository's own params with one section changed."""
    (folder / "logs").mkdir()
    for name in ("params.yaml", "window.yaml", "logs/simulated.yaml"):
        content = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
        if name == file:
            content[section].update(changes)
        (folder / name).write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


@pytest.mark.parametrize("log", sorted(path.stem for path in (ROOT / "logs").glob("*.yaml")))
def test_the_repositorys_own_params_are_taken(tmp_path: Path, log: str) -> None:
    folder = project(tmp_path, "", "")
    content = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    (folder / "params.yaml").write_text(yaml.safe_dump({**content, "log": log}), encoding="utf-8")
    (folder / f"logs/{log}.yaml").write_bytes((ROOT / f"logs/{log}.yaml").read_bytes())
    refuse_what_later_stages_would(read_settings(folder))


@pytest.mark.parametrize(
    ("file", "section", "changes", "words"),
    [
        ("logs/simulated.yaml", "evaluate", {"slice_fields": ["bid"]}, r"slice_fields \['bid'\] are no fields"),
        ("logs/simulated.yaml", "evaluate", {"cluster_by": "usr"}, "cluster_by 'usr' is neither"),
        ("params.yaml", "judge", {"first_min_acu": 0.5}, r"unknown \['first_min_acu'\]"),
        ("params.yaml", "calibrate", {"num_folds": 1}, "num_folds >= 2"),
        ("params.yaml", "watch", {"seed": "one"}, "seed"),
    ],
)
def test_what_any_later_stage_would_refuse_is_refused(
    tmp_path: Path, file: str, section: str, changes: dict[str, Any], words: str
) -> None:
    settings = read_settings(project(tmp_path, file, section, **changes))
    with pytest.raises(ConfigError, match=words):
        refuse_what_later_stages_would(settings)


def test_a_search_does_not_begin_where_the_evaluation_would_refuse(tmp_path: Path) -> None:
    """Said before the search looks for what it reads, which is not there."""
    folder = project(tmp_path, "logs/simulated.yaml", "evaluate", slice_fields=["bid"])
    ended = subprocess.run(
        [sys.executable, "-m", "pipeline", "run", "search", "--workspace", str(folder)],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == ConfigError.exit_code
    assert "slice_fields ['bid'] are no fields of the schema" in ended.stderr
