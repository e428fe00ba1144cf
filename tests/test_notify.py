from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from components.errors import ConfigError, OutsideError
from components.watching import CHECKS, Drift, Finding
from components.watching.drift import DriftFacts
from pipeline.notify import Alert, WarnParams, alerts_from, send

PARAMS = WarnParams(
    service="ctr-ranker",
    team="ads",
    runbook_url="https://example.org/docs/runbooks/",
    dashboard_url="https://example.org/d/ctr",
    attempts=4,
    first_wait_seconds=0.01,
    max_wait_seconds=0.05,
    timeout_seconds=0.3,
)
SECRET = "T0k3n"


def drift_of(*checks: str, measured: float = 0.31, since: str | None = "2026-03-02T10:00:00+00:00") -> Drift:
    findings = tuple(
        Finding(
            check=check,
            slice="device",
            severity=CHECKS[check].severity,
            kind=CHECKS[check].kind,
            measured=measured,
            limit=0.1,
            num_rows=1_000,
            what=f"field 'device': PSI {measured} over 1,000 rows",
            since=since,
            rows="all served rows of the window",
            meaning=CHECKS[check].meaning,
            action=CHECKS[check].action,
        )
        for check in checks
    )
    return Drift(DriftFacts("drift", "compared", "v1", "ab", None, None, 1_000, 0, {}, (), (), (), findings, ()), None)


def alerts(*checks: str) -> tuple[Alert, ...]:
    return alerts_from(drift_of(*checks), PARAMS, "prod", "ctr-ranker-simulated")


@dataclass
class Receiver:
    """A listener on loopback that answers as told, then with 200."""

    url: str
    answers: list[int | str] = field(default_factory=list)
    received: list[dict[str, Any]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    release: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    class Listener(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = state.answers.pop(0) if state.answers else 200
            if answer == "hang up":
                self.close_connection = True
                return
            if answer == "no answer":
                state.release.wait(5)
                return
            state.received.append({"path": self.path, "status": answer, **json.loads(body)})
            self.send_response(int(answer))
            for name, value in state.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        state = Receiver(f"http://127.0.0.1:{server.server_port}/hook/{SECRET}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield state
        state.release.set()
        server.shutdown()
        thread.join()


def test_an_alert_carries_all_labels_and_annotations_that_people_agreed_on() -> None:
    (alert,) = alerts("field_drift")
    assert alert.labels == {
        "alertname": "CtrFieldDrift",
        "severity": "ticket",
        "service": "ctr-ranker",
        "env": "prod",
        "model": "ctr-ranker-simulated",
        "check": "field_drift",
        "slice": "device",
        "team": "ads",
    }
    assert set(alert.annotations) == {"summary", "description", "runbook_url", "dashboard_url"}
    assert alert.annotations["runbook_url"] == "https://example.org/docs/runbooks/CtrFieldDrift.md"
    assert "PSI 0.31" in alert.annotations["summary"]
    for words in (CHECKS["field_drift"].meaning, CHECKS["field_drift"].action, "2026-03-02T10:00"):
        assert words in alert.annotations["description"]


def test_the_key_holds_no_time_and_no_value() -> None:
    later = drift_of("field_drift", measured=0.5, since=None)
    (alert,) = alerts_from(later, PARAMS, "prod", "ctr-ranker-simulated")
    assert alert.dedup_key == alerts("field_drift")[0].dedup_key
    assert alert.dedup_key == "ctr/prod/ctr-ranker-simulated/field_drift/device"
    assert "Since" not in alert.annotations["description"]


def test_every_runbook_that_an_alert_links_is_there() -> None:
    runbooks = Path(__file__).parents[1] / "docs" / "runbooks"
    for alert in alerts(*CHECKS):
        assert (runbooks / alert.annotations["runbook_url"].rsplit("/", 1)[1]).is_file()


def test_all_alerts_go_out_in_one_message_and_to_stderr(receiver: Receiver, capsys: pytest.CaptureFixture[str]) -> None:
    both = alerts("field_empty", "field_drift")
    send(both, receiver.url, PARAMS)
    (message,) = receiver.received
    assert [one["dedup_key"] for one in message["alerts"]] == [one.dedup_key for one in both]
    assert message["alerts"][0]["labels"] == both[0].labels
    assert message["alerts"][0]["annotations"] == both[0].annotations
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in lines] == ["PAGE", "TICKET"]
    assert "CtrFieldEmpty.md" in lines[0]


def test_without_a_webhook_stderr_is_told_and_without_alerts_nobody(
    receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    send(alerts("auc"), None, PARAMS)
    assert "CtrAucDrop" in capsys.readouterr().err
    send((), receiver.url, PARAMS)
    assert receiver.received == []
    assert alerts_from(drift_of(), PARAMS, "prod", "m") == ()


@pytest.mark.parametrize("trouble", [429, 500, 503, "hang up", "no answer"])
def test_trouble_that_passes_loses_nothing(receiver: Receiver, trouble: int | str) -> None:
    receiver.answers = [trouble, trouble]
    send(alerts("auc"), receiver.url, PARAMS)
    delivered = [message for message in receiver.received if message["status"] == 200]
    assert [one["dedup_key"] for one in delivered[0]["alerts"]] == [alerts("auc")[0].dedup_key]
    assert len(delivered) == 1


def test_a_receiver_that_asks_for_time_gets_it_but_not_for_ever(receiver: Receiver) -> None:
    receiver.answers, receiver.headers = [429, 429], {"Retry-After": "3600"}
    send(alerts("auc"), receiver.url, PARAMS)
    assert [message["status"] for message in receiver.received] == [429, 429, 200]


@pytest.mark.parametrize("trouble", [502, "hang up"])
def test_trouble_that_stays_is_an_outside_error_and_tells_no_secret(
    receiver: Receiver, trouble: int | str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers = [trouble] * 10
    with caplog.at_level("DEBUG", "ctr"), pytest.raises(OutsideError, match="4 attempts") as caught:
        send(alerts("auc"), receiver.url, PARAMS)
    assert len(receiver.answers) == 6
    assert SECRET not in str(caught.value) + str(caught.value.__cause__) + caplog.text + capsys.readouterr().err


def test_nobody_listening_is_an_outside_error() -> None:
    with pytest.raises(OutsideError, match="ConnectError"):
        send(alerts("auc"), f"http://127.0.0.1:1/{SECRET}", replace(PARAMS, attempts=2))


@pytest.mark.parametrize("status", [400, 404, 301])
def test_a_refusal_is_a_mistake_of_ours_and_not_tried_again(receiver: Receiver, status: int) -> None:
    receiver.answers = [status]
    with pytest.raises(ConfigError, match=f"status {status}") as caught:
        send(alerts("auc"), receiver.url, PARAMS)
    assert len(receiver.received) == 1
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("url", [f"ftp://x/{SECRET}", SECRET, f"http:///{SECRET}"])
def test_an_address_that_is_none_is_a_mistake_of_ours_and_stays_secret(url: str) -> None:
    with pytest.raises(ConfigError, match="CTR_WEBHOOK") as caught:
        send(alerts("auc"), url, PARAMS)
    assert SECRET not in str(caught.value)
