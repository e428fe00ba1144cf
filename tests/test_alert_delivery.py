"""Delivery: every receiver's own schema, and what a receiver's troubles cost, which is nothing but time."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from click.testing import Result
from typer.testing import CliRunner

from components.errors import ConfigError, OutsideError
from components.watching import Drift
from pipeline.__main__ import app
from pipeline.alerting.outbox import num_waiting
from pipeline.alerting.receivers import read_receivers
from pipeline.alerting.warning import send_test, send_waiting
from tests.alert_schemas import ALERTMANAGER, PAGERDUTY
from tests.alert_world import MODEL, SECRET, Receiver, desk_in, facts_of, free_port, http_receiver, warn

KEY = f"ctr/prod/{MODEL}/field_empty/device"
REPO = Path(__file__).parents[1]

CLEAN = facts_of(clean=("field_empty", "field_drift"))


def check(body: Any, schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(body)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with http_receiver() as state:
        yield state


# What each receiver is told


def test_alertmanager_is_told_each_window_anew_and_of_the_end(tmp_path: Path, receiver: Receiver) -> None:
    desk = desk_in(tmp_path, CTR_ALERTMANAGER=receiver.url)
    warn(desk, 0, facts_of("field_empty", "field_drift"))
    warn(desk, 1, facts_of("field_empty", clean=("field_drift",)))
    warn(desk, 2, CLEAN)
    warn(desk, 3, CLEAN)
    assert {message["path"] for message in receiver.received} == {f"/hook/{SECRET}/api/v2/alerts"}
    for body in receiver.taken:
        check(body, ALERTMANAGER)
    told = [{one["labels"]["check"]: one for one in body} for body in receiver.taken]
    assert [set(body) for body in told] == [{"field_empty", "field_drift"}] * 3 + [{"field_empty"}]
    now = datetime.now(UTC)
    ends = [[datetime.fromisoformat(body[name]["endsAt"]) - now for name in sorted(body)] for body in told]
    three_windows = timedelta(hours=3)
    assert all(abs(end - three_windows) < timedelta(minutes=1) for end in (*ends[0], *ends[1], ends[2][1]))
    assert ends[2][0] <= timedelta(0)
    assert ends[3][0] <= timedelta(0)
    assert told[0]["field_empty"]["labels"] == told[2]["field_empty"]["labels"]


def test_pagerduty_is_triggered_once_and_resolved_under_the_same_key(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = desk_in(tmp_path, CTR_PAGERDUTY_KEY=SECRET, CTR_PAGERDUTY_URL=receiver.url)
    for hour, facts in enumerate((facts_of("field_empty", "field_drift"), facts_of("field_empty"), CLEAN, CLEAN)):
        warn(desk, hour, facts)
    for body in receiver.taken:
        check(body, PAGERDUTY)
    assert [(body["event_action"], body["dedup_key"]) for body in receiver.taken] == [
        ("trigger", KEY),
        ("resolve", KEY),
    ]
    assert {link["text"] for link in receiver.taken[0]["links"]} == {"Runbook", "Dashboard"}
    assert receiver.taken[0]["payload"]["severity"] == "critical"


def test_a_plain_webhook_is_told_of_opening_and_end(tmp_path: Path, receiver: Receiver) -> None:
    desk = desk_in(tmp_path, CTR_WEBHOOK=receiver.url)
    for hour, facts in enumerate((facts_of("field_empty"), CLEAN, CLEAN)):
        warn(desk, hour, facts)
    statuses = [(one["status"], one["dedup_key"]) for body in receiver.taken for one in body["alerts"]]
    assert statuses == [("firing", KEY), ("firing", KEY), ("resolved", KEY)]


def test_a_test_alert_goes_to_everyone_and_ends(tmp_path: Path, receiver: Receiver) -> None:
    desk = desk_in(tmp_path, CTR_WEBHOOK=receiver.url, CTR_PAGERDUTY_KEY=SECRET, CTR_PAGERDUTY_URL=receiver.url)
    send_test(desk)
    assert [body["event_action"] for body in receiver.taken if "event_action" in body] == ["trigger", "resolve"]
    assert desk.book.state().incidents == {}


def test_the_command_shows_sends_and_tests(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "logs").mkdir()
    for name in ("params.yaml", "window.yaml", "logs/simulated.yaml"):
        (tmp_path / name).write_text((REPO / name).read_text())
    (tmp_path / "artifacts" / "drift").mkdir(parents=True)
    Drift(facts_of("field_drift"), None).save(tmp_path / "artifacts" / "drift")
    monkeypatch.setenv("CTR_ALERTS", str(tmp_path / "book"))
    monkeypatch.setenv("CTR_METRICS", str(tmp_path / "metrics"))
    monkeypatch.setenv("CTR_WEBHOOK", receiver.url)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["warn", *arguments, "--workspace", str(tmp_path)])

    shown = run("--dry-run")
    assert (shown.exit_code, receiver.received) == (0, [])
    assert "TICKET CtrFieldDrift" in shown.stdout
    assert "Would tell: stderr, webhook" in shown.stdout
    assert run().exit_code == 5
    assert run("--test").exit_code == 0
    told = [(one["status"], one["labels"]["alertname"]) for body in receiver.taken for one in body["alerts"]]
    assert told == [("firing", "CtrFieldDrift"), ("firing", "CtrTest"), ("resolved", "CtrTest")]


# Trouble


@pytest.mark.parametrize("trouble", [408, 429, 503, "hang up", "no answer"])
def test_trouble_that_passes_loses_nothing(tmp_path: Path, receiver: Receiver, trouble: int | str) -> None:
    receiver.answers = [trouble, trouble]
    warn(desk_in(tmp_path, CTR_WEBHOOK=receiver.url), 0, facts_of("field_empty"))
    assert [one["dedup_key"] for body in receiver.taken for one in body["alerts"]] == [KEY]


@pytest.mark.parametrize("trouble", [429, 502, "hang up"])
def test_a_receiver_that_is_down_for_an_hour_is_told_everything_later(
    tmp_path: Path, receiver: Receiver, trouble: int | str
) -> None:
    environ = {"CTR_PAGERDUTY_KEY": SECRET, "CTR_PAGERDUTY_URL": receiver.url, "CTR_ALERTMANAGER": receiver.url}
    receiver.answers = [trouble] * 1_000
    for hour, facts in enumerate((facts_of("field_empty"), CLEAN, CLEAN)):
        with pytest.raises(OutsideError, match="wait in"):
            warn(desk_in(tmp_path, **environ), hour, facts)
    assert num_waiting(desk_in(tmp_path).book) == 3
    receiver.answers = []
    warn(desk_in(tmp_path, **environ), 3, CLEAN)
    events = [body["event_action"] for body in receiver.taken if "event_action" in body]
    assert events == ["trigger", "resolve"]
    (told,) = [body for body in receiver.taken if isinstance(body, list)]
    assert [one["labels"]["check"] for one in told] == ["field_empty"]
    assert datetime.fromisoformat(told[0]["endsAt"]) <= datetime.now(UTC)
    assert num_waiting(desk_in(tmp_path).book) == 0


def test_one_receiver_in_trouble_does_not_hold_up_the_others(tmp_path: Path, receiver: Receiver) -> None:
    environ = {"CTR_ALERTMANAGER": "http://127.0.0.1:1", "CTR_WEBHOOK": receiver.url}
    with pytest.raises(OutsideError, match="ConnectError"):
        warn(desk_in(tmp_path, **environ), 0, facts_of("field_empty"))
    assert len(receiver.taken) == 1
    with pytest.raises(OutsideError):
        send_waiting(desk_in(tmp_path, **environ))
    assert len(receiver.taken) == 1


def test_a_receiver_that_asks_for_time_gets_it_but_not_for_ever(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answers, receiver.headers = [429], {"Retry-After": "3600"}
    warn(desk_in(tmp_path, CTR_WEBHOOK=receiver.url), 0, facts_of("field_empty"))
    assert [message["status"] for message in receiver.received] == [429, 200]


@pytest.mark.parametrize("status", [400, 404, 301])
def test_a_refusal_is_a_mistake_of_ours_and_is_kept(tmp_path: Path, receiver: Receiver, status: int) -> None:
    receiver.answers = [status]
    desk = desk_in(tmp_path, CTR_WEBHOOK=receiver.url)
    with pytest.raises(ConfigError, match=f"status {status}"):
        warn(desk, 0, facts_of("field_empty"))
    assert len(list((desk.book.outbox / "refused").iterdir())) == 1
    assert len(receiver.received) == 1


def test_a_secret_given_twice_or_in_a_file_that_is_not_there_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="both set"):
        read_receivers({"CTR_WEBHOOK": "x", "CTR_WEBHOOK_FILE": "y"})
    with pytest.raises(ConfigError, match="cannot be read"):
        read_receivers({"CTR_WEBHOOK_FILE": str(tmp_path / "none")})


# The real Alertmanager


def test_the_real_alertmanager_routes_groups_inhibits_and_silences(tmp_path: Path, receiver: Receiver) -> None:
    program = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
    if program is None:
        pytest.skip("no Alertmanager here: install the Debian package prometheus-alertmanager")
    text = (REPO / "infra/alertmanager/alertmanager.yml").read_text()
    text = text.replace("https://events.pagerduty.com/v2/enqueue", f"{receiver.url}/pager")
    text = text.replace("/etc/alertmanager/secrets", str(tmp_path))
    (tmp_path / "pagerduty_key").write_text(SECRET)
    (tmp_path / "slack_webhook").write_text(f"{receiver.url}/tickets")
    text = text.replace("group_wait: 30s", "group_wait: 100ms").replace("group_wait: 10s", "group_wait: 100ms")
    text = text.replace("group_interval: 5m", "group_interval: 1s")
    (tmp_path / "alertmanager.yml").write_text(text)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [program, f"--config.file={tmp_path}/alertmanager.yml", f"--storage.path={tmp_path}/data"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=", "--log.level=error"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _until(lambda: httpx.get(f"{url}/-/ready").is_success)
            silence = {
                "matchers": [{"name": "check", "value": "auc", "isRegex": False, "isEqual": True}],
                "startsAt": datetime.now(UTC).isoformat(),
                "endsAt": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
                "createdBy": "ann",
                "comment": "known",
            }
            assert httpx.post(f"{url}/api/v2/silences", json=silence).is_success
            desk = desk_in(tmp_path, CTR_ALERTMANAGER=url)
            facts = facts_of("field_empty", "field_drift", "field_missing", "auc")
            elsewhere = facts_of("field_drift", slice_name="country")
            warn(desk, 0, replace(facts, findings=facts.findings + elsewhere.findings))
            _until(lambda: len(receiver.received) >= 3)
            states = {
                one["labels"]["check"]: one["status"]["state"] for one in httpx.get(f"{url}/api/v2/alerts").json()
            }
            told_at_first = [message["body"] for message in receiver.received if message["path"].endswith("/tickets")]
            warn(desk, 1, CLEAN)
            warn(desk, 2, CLEAN)
            _until(lambda: "resolve" in {message["body"].get("event_action") for message in receiver.received})
        finally:
            process.terminate()
    pages = [message["body"] for message in receiver.received if message["path"].endswith("/pager")]
    tickets = [message["body"] for message in receiver.received if message["path"].endswith("/tickets")]
    assert "CtrFieldEmpty device" in pages[0]["payload"]["summary"]
    assert pages[0]["dedup_key"] == next(page["dedup_key"] for page in pages if page["event_action"] == "resolve")
    lines = [line for ticket in tickets for line in ticket["attachments"][0]["text"].splitlines()]
    told = {line.split(" ")[0] for line in lines}
    assert told == {"field_drift", "field_missing"}
    groups = {
        tuple(sorted(line.split(":")[0] for line in one["attachments"][0]["text"].splitlines()))
        for one in told_at_first
    }
    assert groups == {("field_drift country", "field_drift device"), ("field_missing device",)}, (
        "one message an alert's name"
    )
    assert states == {"field_empty": "active", "field_drift": "active", "field_missing": "active", "auc": "suppressed"}


def _until(holds: Any) -> None:
    for _ in range(200):
        try:
            if holds():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError("it never came")
