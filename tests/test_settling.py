"""The second look: which window, known as of when, and held against whom."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from components.champion import Champion
from components.log import IMPRESSION, TIME, ServedLog
from components.manifest import verify_manifest, write_manifest
from components.watching import WatchParams
from pipeline.outside import registry_of
from pipeline.params import read_settings
from pipeline.run import Workspace
from pipeline.served import BatchWriter
from pipeline.settling import settle

REPO = Path(__file__).parents[1]
sys.path.insert(0, str(REPO / "tests"))
from bundle_world import shared_world  # noqa: E402
from registry_world import challenger  # noqa: E402
from toy_project import make_project  # noqa: E402

END = datetime(2026, 3, 30, 7, tzinfo=UTC)
UNKNOWN = "0" * 64


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project, with a run of an hour opened in it."""
    folder = tmp_path_factory.mktemp("settling") / "project"
    make_project(folder)
    window = ("--start", (END - timedelta(hours=1)).isoformat(), "--end", END.isoformat())
    command = [sys.executable, "-m", "pipeline", "runs", "open", str(folder / "runs/monitor--a"), *window]
    subprocess.run(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(REPO)}, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def digests(home: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two promoted bundles, the later one champion."""
    made, found = home.parent / "v1", []
    made.mkdir()
    shared_world(tmp_path_factory).pack().save(made)
    registry = registry_of(Workspace(home))
    for number in range(2):
        bundle = made if number == 0 else Path(shutil.copytree(made, home.parent / "v2"))
        if number:
            with (bundle / "card.md").open("a", encoding="utf-8") as card:
                card.write("\nA later one.\n")
            (bundle / "manifest.json").unlink()
            write_manifest(bundle)
        registry.promote(challenger(bundle, found[-1] if found else None))
        found.append(verify_manifest(bundle))
    return found


def _serve(home: Path, digest: str, moment: datetime, num_rows: int) -> None:
    schema = read_settings(home).request().schema
    times = int(moment.timestamp() * 1_000_000) + np.arange(num_rows) * 1000
    columns: dict[str, object] = {IMPRESSION: [f"{digest[:4]}-{time}" for time in times], TIME: times}
    columns |= {field.name: [None] * num_rows for field in schema.column_fields}
    writer = BatchWriter(home / ".ctr/served/simulated", schema, digest, (str(moment),))
    writer.append(pl.DataFrame(columns), np.full(num_rows, 0.1))
    writer.close()


def _look(home: Path) -> tuple[Champion, int]:
    settle(home / "runs/monitor--a")
    workspace = Workspace(home / "runs/monitor--a/settled")
    rows = workspace.read("served_log", ServedLog).scan().select(pl.len()).collect().item()
    return workspace.read("champion", Champion), int(rows)


def test_the_second_look_is_one_label_delay_back_and_knows_what_is_known_now(home: Path) -> None:
    champion, num_rows = _look(home)
    delay = timedelta(hours=read_settings(home).section("watch", WatchParams).label_delay_hours)
    assert delay > timedelta(0)
    said = yaml.safe_load((home / "runs/monitor--a/settled/window.yaml").read_text())
    moments = {name: datetime.fromisoformat(text) for name, text in said.items()}
    assert moments == {"start": END - timedelta(hours=1) - delay, "end": END - delay, "as_of": END}
    assert num_rows == 0
    assert champion.is_none, "nothing is registered yet"


def test_rows_are_held_against_the_champion_that_served_most_of_them(home: Path, digests: list[str]) -> None:
    delay = timedelta(hours=read_settings(home).section("watch", WatchParams).label_delay_hours)
    assert _look(home)[0].digest == digests[1], "of no rows: today's"
    inside = END - delay - timedelta(minutes=30)
    _serve(home, digests[1], inside, 40)
    _serve(home, digests[0], inside, 60)
    _serve(home, digests[1], END - timedelta(minutes=30), 500)
    champion, num_rows = _look(home)
    assert num_rows == 100, "the hour that has just ended is no part of it"
    assert (champion.digest, champion.version) == (digests[0], "v1.0.0")
    _serve(home, UNKNOWN, inside, 200)
    assert _look(home)[0].digest == digests[1], "a bundle that nobody registered is held against today's champion"
