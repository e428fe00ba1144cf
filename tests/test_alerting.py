"""Incidents, window after window: when they open, go on and end, what blocks training and what wakes it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from components.errors import ConfigError, IntegrityError
from components.watching import CHECKS
from components.watching.drift import DriftFacts
from components.watching.measuring import measure_volume
from pipeline.__main__ import app
from pipeline.alerting.alert import OTHER_ALERTS, make_alert
from pipeline.alerting.guard import acknowledge, blocking, refuse_if_blocked, wake
from pipeline.alerting.objective import Burn, Objective, burning
from pipeline.alerting.warning import Desk, raise_alert, settle_alert
from tests.alert_world import MODEL, PARAMS, START, desk_in, facts_of, too_small, warn
from tests.served_world import WATCH_PARAMS

REPO = Path(__file__).parents[1]
KEY = f"ctr/prod/{MODEL}/field_drift/device"


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return desk_in(tmp_path)


def events(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().err.splitlines()
    return [line.split(" [")[0] for line in lines if "[ctr/" in line]


def open_keys(desk: Desk) -> set[str]:
    return set(desk.book.state().incidents)


# Incidents


def test_an_alert_carries_all_labels_and_annotations_that_people_agreed_on(desk: Desk) -> None:
    warn(desk, 0, facts_of("field_drift"))
    incident = desk.book.state().incidents[KEY]
    assert incident.alert.labels == {
        "alertname": "CtrFieldDrift",
        "severity": "ticket",
        "service": "ctr-ranker",
        "env": "prod",
        "model": MODEL,
        "check": "field_drift",
        "slice": "device",
        "team": "ads",
    }
    assert set(incident.alert.annotations) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert incident.alert.annotations["runbook_url"] == "https://example.org/docs/runbooks/CtrFieldDrift.md"
    for words in (CHECKS["field_drift"].meaning, CHECKS["field_drift"].action, "2026-03-02T10:00"):
        assert words in incident.alert.annotations["description"]


def test_the_key_holds_no_time_and_no_value(desk: Desk) -> None:
    warn(desk, 0, facts_of("field_drift"))
    warn(desk, 1, facts_of("field_drift", measured=0.9))
    assert open_keys(desk) == {KEY}
    assert "0.9" in desk.book.state().incidents[KEY].alert.annotations["summary"]
    assert desk.book.state().incidents[KEY].opened == "2026-03-02T01:00:00+00:00"


def test_two_clean_windows_resolve_and_one_does_not(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert warn(desk, 0, facts_of("field_drift")) == 1
    assert warn(desk, 1, facts_of(clean=("field_drift",))) == 0
    assert open_keys(desk) == {KEY}
    warn(desk, 2, facts_of(clean=("field_drift",)))
    assert open_keys(desk) == set()
    assert events(capsys) == ["TICKET CtrFieldDrift", "RESOLVED TICKET CtrFieldDrift"]


def test_a_relapse_after_one_clean_window_starts_the_count_anew(desk: Desk) -> None:
    clean = facts_of(clean=("field_drift",))
    for hour, facts in enumerate((facts_of("field_drift"), clean, facts_of("field_drift"), clean)):
        warn(desk, hour, facts)
    assert desk.book.state().incidents[KEY].num_clean == 1


def test_a_missing_or_too_small_window_and_one_without_the_check_are_not_clean(desk: Desk) -> None:
    warn(desk, 0, facts_of("field_drift"))
    for hour, facts in enumerate((too_small(), facts_of(), facts_of(clean=("field_missing",)), too_small()), start=1):
        warn(desk, hour, facts)
    assert desk.book.state().incidents[KEY].num_clean == 0


def test_the_same_window_again_and_an_older_one_change_nothing(desk: Desk) -> None:
    warn(desk, 5, facts_of("field_drift"))
    clean = facts_of(clean=("field_drift",))
    for hour in (6, 6, 6, 4, 3):
        warn(desk, hour, clean)
    assert desk.book.state().incidents[KEY].num_clean == 1
    warn(desk, 7, clean)
    warn(desk, 6, facts_of("field_drift"))
    assert open_keys(desk) == set()


def test_state_survives_restarts_and_damage_is_said(desk: Desk, tmp_path: Path) -> None:
    warn(desk, 0, facts_of("field_drift"))
    again = desk_in(tmp_path)
    assert again.book.state() == desk.book.state()
    (desk.book.folder / "state.json").write_text('{"incidents": 3}')
    with pytest.raises(IntegrityError, match=r"state\.json"):
        warn(again, 1, facts_of())


def test_late_data_inhibits_drift_and_not_contracts(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    late = make_alert("data_late", "monitor", "ticket", "late", "late", PARAMS, "prod", MODEL)
    raise_alert(desk, late)
    warn(desk, 0, facts_of("field_drift", "score_skew"))
    assert events(capsys) == ["TICKET CtrDataLate", "PAGE CtrScoreSkew"]
    assert settle_alert(desk, "data_late", "monitor")
    assert not settle_alert(desk, "data_late", "monitor")
    warn(desk, 1, facts_of("field_drift", "score_skew"))
    assert events(capsys) == ["RESOLVED TICKET CtrDataLate", "PAGE CtrScoreSkew", "TICKET CtrFieldDrift"]


def test_a_dry_run_shows_and_changes_nothing(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    assert warn(desk, 0, facts_of("field_drift"), is_dry_run=True) == 0
    assert "CtrFieldDrift" in capsys.readouterr().out
    assert open_keys(desk) == set()
    assert list(desk.book.folder.glob("*.json")) == []


# The objective


def test_a_burnt_objective_pages_and_one_bad_window_does_not(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    warn(desk, 0, facts_of("calibration", slice_name="all"))
    assert events(capsys) == ["TICKET CtrCalibration"]
    warn(desk, 1, facts_of("calibration", slice_name="all"))
    assert events(capsys) == ["PAGE CtrQualityBurn", "TICKET CtrCalibration"]
    for hour in range(2, 8):
        warn(desk, hour, facts_of(slice_name="all", clean=("calibration", "auc")))
    assert open_keys(desk) == set()


def test_burn_rates_are_shares_of_bad_windows_over_the_budget() -> None:
    objective = Objective(("auc",), 0.05, (Burn(6, 2, 6.0), Burn(72, 12, 2.0)))
    assert burning([True], objective) is None
    fast = burning([False] * 20 + [True, True], objective)
    assert fast is not None
    assert (fast.burn.long_windows, fast.num_bad) == (6, 2)
    assert fast.rate == pytest.approx(2 / 6 / 0.05)
    assert burning([True, True] + [False] * 2, objective) is None
    slow = burning([True] + [False] * 9 + ([True] + [False] * 5) * 9, objective)
    assert slow is not None
    assert slow.burn.long_windows == 72
    with pytest.raises(ConfigError, match="can never page"):
        Objective(("auc",), 0.5, (Burn(6, 2, 6.0),))


def test_windows_without_quality_neither_burn_nor_heal() -> None:
    objective = Objective(("auc",), 0.05, (Burn(6, 2, 6.0),))
    assert burning([True, None, None, None, None, None, None, True], objective) is not None


# Rows against the same hours of past weeks


def test_half_the_rows_of_the_same_hour_in_past_weeks_is_a_finding(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    week = 7 * 24
    for number, rows in enumerate((10_000, 10_900, 9_700)):
        warn(desk, number * week, facts_of(num_rows=rows))
        warn(desk, number * week + 1, facts_of(num_rows=40_000))
    assert events(capsys) == []
    warn(desk, 3 * week, facts_of(num_rows=2_000))
    assert events(capsys) == ["TICKET CtrRowCount"]
    warn(desk, 4 * week, facts_of(num_rows=9_000))
    assert desk.book.state().incidents[f"ctr/prod/{MODEL}/rows/all"].num_clean == 1


def test_rows_are_judged_by_how_much_they_vary_from_week_to_week() -> None:
    levels = WATCH_PARAMS.levels(40, 5)
    cases = {(10_000, (10_000,)): None, (3_000, (10_000, 11_000)): True, (9_000, (10_000, 11_000)): False}
    cases |= {(4_000, (10_000, 3_000, 20_000)): False, (25_000, (10_000, 10_500, 9_900)): True}
    for (num_rows, past), is_found in cases.items():
        measure = measure_volume(num_rows, past, WATCH_PARAMS, levels)
        assert (None if measure is None else measure.is_finding) == is_found, (num_rows, past)


def test_rows_that_come_after_the_first_look_are_a_finding_of_the_second(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    def settled(num_rows: int) -> DriftFacts:
        return replace(facts_of(num_rows=num_rows), num_settled=num_rows)

    for hour in range(4):
        warn(desk, hour, facts_of(num_rows=10_000))
    warn(desk, 0, settled(10_050))
    assert events(capsys) == []
    warn(desk, 1, settled(11_000))
    assert events(capsys) == ["TICKET CtrRowsLate"]
    key = f"ctr/prod/{MODEL}/rows_late/all"
    assert "9.09%" in desk.book.state().incidents[key].alert.annotations["summary"]
    assert [block.key for block in blocking(desk.book)] == [key]
    warn(desk, 4, facts_of(num_rows=10_000))
    assert desk.book.state().incidents[key].num_clean == 0, "a first look says nothing of late rows"
    warn(desk, 2, settled(10_000))
    warn(desk, 3, settled(10_000))
    assert key not in desk.book.state().incidents


# What drift does to training


def test_a_broken_contract_blocks_training_until_someone_acknowledges_it(desk: Desk) -> None:
    warn(desk, 0, facts_of("field_unit", "field_drift"))
    key = f"ctr/prod/{MODEL}/field_unit/device"
    for hour in (1, 2, 3):
        warn(desk, hour, facts_of(clean=("field_unit", "field_drift")))
    assert open_keys(desk) == set()
    assert [block.key for block in blocking(desk.book)] == [key]
    with pytest.raises(ConfigError, match="acknowledge"):
        refuse_if_blocked(desk.book)
    with pytest.raises(ConfigError, match="blocks nothing"):
        acknowledge(desk.book, KEY, "ann", "seen", datetime.now(UTC))
    with pytest.raises(ConfigError, match="must be said"):
        acknowledge(desk.book, key, "ann", " ", datetime.now(UTC))
    assert acknowledge(desk.book, key, "ann", "the producer mended it", datetime.now(UTC)) == 1
    refuse_if_blocked(desk.book)
    warn(desk, 4, facts_of("field_unit"))
    assert [block.key for block in blocking(desk.book)] == [key]


def test_drift_wakes_training_once_a_window_and_not_within_the_cooldown(desk: Desk) -> None:
    def end(hour: int) -> str:
        return START.replace(day=2 + (hour + 1) // 24, hour=(hour + 1) % 24).isoformat()

    warn(desk, 0, facts_of("field_drift"))
    assert wake(desk.book, end(0), 24.0) is None
    assert wake(desk.book, end(0), 24.0) is None
    assert len(json.loads((desk.book.folder / "wakes.json").read_text())["ends"]) == 1
    warn(desk, 1, facts_of("field_drift"))
    assert "woke one less than 24 hours earlier" in str(wake(desk.book, end(1), 24.0))
    warn(desk, 24, facts_of("field_drift"))
    assert wake(desk.book, end(24), 24.0) is None
    warn(desk, 60, facts_of(clean=("field_drift",)))
    assert "no drift" in str(wake(desk.book, end(60), 24.0))
    warn(desk, 61, facts_of("field_drift", "score_skew"))
    assert "blocked until acknowledged" in str(wake(desk.book, end(61), 24.0))


# People


def test_every_alert_has_a_runbook() -> None:
    named = {check.alertname for check in CHECKS.values()} | set(OTHER_ALERTS.values())
    assert {name for name in named if not (REPO / "docs" / "runbooks" / f"{name}.md").is_file()} == set()


def test_metrics_say_when_the_last_watch_was_told_of_and_what_each_look_saw(desk: Desk) -> None:
    warn(desk, 0, facts_of("field_drift"))
    warn(desk, 1, facts_of("field_drift", num_rows=7_000))
    warn(desk, 0, replace(facts_of("calibration"), num_settled=5_000))
    names = ("alerts_prod", "watch_prod", "watch_prod")
    ends = (MODEL, f"{MODEL}_first", f"{MODEL}_settled")
    files = [desk.metrics / f"ctr_{name}_{end}.prom" for name, end in zip(names, ends, strict=True)]
    assert sorted(desk.metrics.glob("*.prom")) == sorted(files)
    alerts, first, settled = (path.read_text() for path in files)
    stamp = float(
        next(line for line in alerts.splitlines() if line.startswith("ctr_watch_success_timestamp")).split()[1]
    )
    assert abs(stamp - datetime.now(UTC).timestamp()) < 60
    assert f'ctr_alerts_open{{env="prod",model="{MODEL}",severity="ticket"}} 2.0' in alerts
    assert f'ctr_watch_rows{{env="prod",look="first",model="{MODEL}"}} 7000.0' in first
    assert f'ctr_watch_final_clicks_rows{{env="prod",look="settled",model="{MODEL}"}} 5000.0' in settled


def test_the_commands_answer_with_their_exit_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "logs").mkdir()
    for name in ("params.yaml", "window.yaml", "logs/simulated.yaml"):
        (tmp_path / name).write_text((REPO / name).read_text())
    desk = replace(desk_in(tmp_path), environment="dev")
    desk = replace(desk, book=replace(desk.book, folder=tmp_path / "book" / "dev" / MODEL))
    warn(desk, 0, facts_of("field_unit"))

    monkeypatch.setenv("CTR_ALERTS", str(tmp_path / "book"))

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--workspace", str(tmp_path)])

    assert run("blocked").exit_code == 4
    key = f"ctr/dev/{MODEL}/field_unit/device"
    assert key in run("alerts").stdout
    assert run("acknowledge", key, "--by", "ann", "--because", "mended").exit_code == 0
    done = run("blocked", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, [])
    assert run("deliver").exit_code == 0
