"""A small workspace that a leaderboard can be made of, and the project's params cut down to it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
import yaml

from pipeline.params import Settings, read_settings
from pipeline.run import Workspace
from tests.scored_world import make_line

ROOT = Path(__file__).parents[1]


def make_workspace(root: Path, line_folder: Path) -> Workspace:
    """Four thousand rows of a simulated log, encoded."""
    torch.set_num_threads(1)
    line = make_line(line_folder, 4_000, seed=1)
    place = Workspace(root)
    for name in ("raw_log", "clean_log", "splits", "encoded"):
        place.write(name, getattr(line, name))
    return place


def write_params(root: Path, **train: Any) -> Settings:
    """The project's own params with a log of the tests beside them."""
    knobs = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")) | {"log": "tests"}
    knobs["train"] |= train
    preset = yaml.safe_load((ROOT / "logs" / "frappe.yaml").read_text(encoding="utf-8"))
    preset["train"] |= {"batch_rows": 512, "max_epochs": 2, "embedding_l2": {"others": 1e-4}}
    preset["evaluate"] |= {"cluster_by": "user", "slice_fields": []}
    (root / "logs").mkdir(exist_ok=True)
    (root / "params.yaml").write_text(yaml.safe_dump(knobs), encoding="utf-8")
    (root / "logs" / "tests.yaml").write_text(yaml.safe_dump(preset), encoding="utf-8")
    shutil.copyfile(ROOT / "window.yaml", root / "window.yaml")
    return read_settings(root)


_SEARCH = {"num_nodes": 1, "embedding_width": 4, "operators": ["skip", "fm"]}
_TRIAL = {"num_candidates": 2, "hidden_widths": [8]}


def write_search(root: Path, **search: Any) -> Settings:
    """The same with a search of a second or so."""
    write_params(root)
    knobs = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    knobs["search"] |= _SEARCH
    knobs["search"]["trial"] |= _TRIAL
    knobs["search"]["terms"]["orders"] = []
    preset = yaml.safe_load((root / "logs" / "tests.yaml").read_text(encoding="utf-8"))
    preset["search"] |= {"batch_rows": 512, "max_epochs": 2, "trial_rung_epochs": [0.5, 1.0]} | search
    (root / "params.yaml").write_text(yaml.safe_dump(knobs), encoding="utf-8")
    (root / "logs" / "tests.yaml").write_text(yaml.safe_dump(preset), encoding="utf-8")
    return read_settings(root)
