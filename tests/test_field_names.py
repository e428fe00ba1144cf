"""A log may call its fields what it likes: names that the line's own tables use, that are no words, or that are markup."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from components.champion import Champion
from components.log import CleanLog
from components.watching import Drift
from pipeline import acts
from pipeline.run import Workspace
from pipeline.stages import LINE

REPO = Path(__file__).parents[1]
NUM_ROWS = 3_000
START = 1_772_409_600  # 2026-03-02, in seconds
NUMERIC = ("number", "Preis €")
OWN_WORDS = ("value", "reason", "source", "part", "row", "time", "click", "count", "bin", "item", "num_rows", "logit")
NO_WORDS = ("a.b", "x/y", "..", "o'b, [x]", "<b>x</b>", "user id", "x" * 200)


def field(name: str, kind: str = "categorical", buckets: str | None = None) -> dict[str, Any]:
    return {"name": name, "kind": kind, "buckets": buckets, "max_missing_share": 0.1, "minimum": None, "maximum": None}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    generator = np.random.default_rng(1)
    columns: dict[str, Any] = {
        "click?": generator.integers(0, 2, NUM_ROWS),
        "shown at": START + np.arange(NUM_ROWS) * 300,
        "id": np.arange(NUM_ROWS),
        **{name: [f"{draw:.3f}" for draw in generator.normal(size=NUM_ROWS)] for name in NUMERIC},
        **{name: generator.integers(0, 4, NUM_ROWS) for name in (*OWN_WORDS, *NO_WORDS)},
    }
    columns["number"][7] = "cheap"
    (tmp_path / "logs").mkdir()
    pl.DataFrame(columns).write_csv(tmp_path / "log.csv")
    preset = yaml.safe_load((REPO / "logs/example_table.yaml").read_text("utf-8"))
    preset["source"] |= {"paths": [str(tmp_path / "log.csv")]}
    preset["source"]["options"]["partition_pattern"] = None
    preset["schema"] = {
        "click": "click?",
        "time": {"column": "shown at", "unit": "seconds"},
        "impression": "id",
        "user": "user id",
        "item": "item",
        "fields": [
            *(field(name, "numeric", "quantiles") for name in NUMERIC),
            *map(field, (*OWN_WORDS, *NO_WORDS)),
            field("hour", "hour"),
        ],
    }
    preset["check"] |= {"click_rate_band": [0.1, 0.9], "min_rows": 100}
    preset["split"] |= {"label_delay_hours": 1.0}
    preset["search"] |= {"trial_rung_epochs": [0.5, 1.0]}
    preset["train"] |= {"max_epochs": 1, "batch_rows": 256, "num_threads": 1}
    preset["evaluate"] |= {"slice_fields": ["number", "row", "<b>x</b>"], "cluster_by": "part"}
    (tmp_path / "logs/named.yaml").write_text(yaml.safe_dump(preset, allow_unicode=True), "utf-8")
    params = yaml.safe_load((REPO / "params.yaml").read_text("utf-8")) | {"log": "named"}
    params["check"] |= {"sample_rows": 500}
    params["search"] |= {"num_nodes": 1, "operators": ["skip", "fm"]}
    params["search"]["trial"] |= {"num_candidates": 2}
    params["evaluate"] |= {"num_bootstraps": 20, "num_parity_rows": 100}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), "utf-8")
    (tmp_path / "window.yaml").write_bytes((REPO / "window.yaml").read_bytes())
    return tmp_path


def test_the_whole_line_takes_such_names(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = Workspace(project)
    acts.fetch(project, ["raw_log", "champion"])
    for stage in LINE.stages:
        if stage.verb != "watch":
            acts.run_one_stage(project, stage.verb, "cpu", "auto", None, 1)
    aside = workspace.read("clean_log", CleanLog).scan_quarantine().collect()
    assert aside.select("_source", "_number", "_value", "number").rows() == [("log.csv", 7, "cheap", None)]
    champion = Champion.from_bundle(workspace.folder("bundle"), "v1.0.0")
    workspace.write("champion", champion)
    acts.run_one_stage(project, "evaluate", "cpu", "auto", None, 1)
    monkeypatch.setattr(acts, "champion_near", lambda *_: champion)
    monkeypatch.setenv("CTR_SERVED", str(project / "served"))
    acts.score(project, None, None, None)
    acts.fetch(project, ["served_log"])
    acts.run_one_stage(project, "watch", "cpu", "auto", None, 1)
    drift = workspace.read("drift", Drift)
    assert drift.facts.num_rows == NUM_ROWS - 1
    acts.report(project, None, None)
    page = (project / "report/index.html").read_text("utf-8")
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "<b>x</b>" not in page
