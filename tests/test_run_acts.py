"""The acts around a scheduled run: its second look, the architecture that a retraining takes over, what is left of old runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import yaml

from components.artifact import write_json
from components.autopi.architecture import Architecture
from components.champion import Champion
from components.errors import ConfigError
from components.log import IMPRESSION, TIME, ServedLog
from components.manifest import verify_manifest, write_manifest
from components.watching import WatchParams
from pipeline.alerting.alert import make_alert
from pipeline.alerting.warning import raise_alert
from pipeline.on_dvc import record_end
from pipeline.outside import book_of, desk_of, registry_of
from pipeline.params import read_settings
from pipeline.run import Workspace
from pipeline.run_acts import close_run, open_run, tell
from pipeline.runs import Done, Ledger
from pipeline.served.writing import BatchWriter
from pipeline.settling import settle

REPO = Path(__file__).parents[1]
sys.path.insert(0, str(REPO / "tests"))
from bundle_world import LINE, shared_world  # noqa: E402
from registry_world import challenger  # noqa: E402
from toy_project import make_project  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # DVC's own
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
    """Two promoted bundles, the later one champion, with an architecture that a search found."""
    registry, found = registry_of(Workspace(home)), []
    packed = shared_world(tmp_path_factory).pack()
    for line in (None, LINE):
        bundle = home.parent / f"bundle-{line is not None}"
        bundle.mkdir()
        packed.save(bundle)
        of_ranker = json.loads((bundle / "architecture.json").read_text(encoding="utf-8"))
        write_json(bundle / "architecture.json", of_ranker | {"line": line})
        (bundle / "manifest.json").unlink()
        write_manifest(bundle)
        registry.promote(challenger(bundle, found[-1] if found else None))
        found.append(verify_manifest(bundle))
    return found


@pytest.fixture
def no_champion(tmp_path: Path) -> Path:
    """A project in which nothing was promoted yet."""
    make_project(tmp_path / "project")
    return tmp_path / "project"


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
    assert [term.digest for term in champion.terms] == digests, "who was champion when, for both looks"
    _serve(home, UNKNOWN, inside, 200)
    assert _look(home)[0].digest == digests[1], "a bundle that nobody registered is held against today's champion"


def _taken_over(folder: Path) -> str:
    search = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))["search"]
    assert search["strategy"] == "fixed"
    return str(search["fixed_architecture"])


def test_a_retraining_takes_over_the_champions_architecture_and_a_backfill_that_of_the_day(
    home: Path, digests: list[str]
) -> None:
    start, end = datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 30, tzinfo=UTC)
    folder = home / "runs" / "retrain--day"
    assert open_run(home, folder, start, end, "scheduled", "fixed") == 0
    assert Architecture.from_text(_taken_over(folder), "test") == Architecture.from_text(LINE, "test")

    span = start.isoformat(), end.isoformat()
    done = Done("retrain--then", "retrain", "scheduled", *span, False, "what it was on that day", {}, "digest")
    Ledger(home / ".ctr" / "ledger").record_done(done)
    again = home / "runs" / "retrain--backfill"
    assert open_run(home, again, start, end, "backfill", "fixed") == 0
    assert _taken_over(again) == "what it was on that day"


def test_a_retraining_before_the_first_champion_says_what_to_do(no_champion: Path) -> None:
    window = datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 30, tzinfo=UTC)
    with pytest.raises(ConfigError, match="run `search` and promote first"):
        open_run(no_champion, no_champion / "runs" / "retrain--a", *window, "manual", "fixed")


def test_a_failed_runs_worktree_is_kept_for_the_stated_days_and_then_removed(no_champion: Path) -> None:
    window = datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 30, tzinfo=UTC)
    folders = {name: no_champion / "runs" / f"search--{name}" for name in ("old", "young", "now")}
    for folder in folders.values():
        assert open_run(no_champion, folder, *window, "manual", "") == 0
    keep_days = yaml.safe_load((no_champion / "infra/resources.yaml").read_text())["runs"]["keep_failed_days"]
    for name, days in (("old", keep_days + 0.1), ("young", keep_days - 0.1)):
        order = folders[name] / ".ctr" / "order.json"
        os.utime(order, (time.time() - days * 86_400, time.time() - days * 86_400))
    close_run(no_champion, folders["now"], "manual", False)
    assert [name for name, folder in folders.items() if folder.is_dir()] == ["young", "now"]


def _watched_to_its_end(home: Path, name: str) -> Path:
    folder = home / "runs" / f"monitor--{name}"
    assert open_run(home, folder, END - timedelta(hours=1), END, "manual", "") == 0
    for look in (folder, folder / "settled"):
        look.mkdir(exist_ok=True)
        record_end(Workspace(look), "warn", 0)
    return folder


def test_a_run_that_ends_settles_what_was_told_of_its_flow_and_no_incident_whose_name_ends_alike(
    no_champion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Workspace(no_champion)
    desk = desk_of(place)
    words = "clicks of one app", "is a slice with a name of its own"
    alert = make_alert("auc", "app=a/run_failed/monitor", "page", *words, desk.params, desk.environment, desk.model)
    raise_alert(desk, alert)
    monkeypatch.setenv("CTR_SLACK_WEBHOOK_FILE", str(tmp_path / "absent"))
    close_run(no_champion, _watched_to_its_end(no_champion, "first"), "manual", False)
    monkeypatch.delenv("CTR_SLACK_WEBHOOK_FILE")
    assert set(book_of(place).state().incidents) == {alert.dedup_key}, "nobody was to be told of anything"

    tell(no_champion, "monitor--second", "monitor", "fetch", "exit 75", "")
    assert len(book_of(place).state().incidents) == 2
    close_run(no_champion, _watched_to_its_end(no_champion, "second"), "manual", False)
    assert set(book_of(place).state().incidents) == {alert.dedup_key}
