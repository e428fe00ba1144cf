"""Listeners on loopback that answer as told, and watched windows to warn of."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from components.watching import CHECKS, Drift, Finding, Measure
from components.watching.drift import DriftFacts
from pipeline.alerting.book import Book
from pipeline.alerting.objective import Burn, Objective
from pipeline.alerting.params import WarnParams
from pipeline.alerting.receivers import read_receivers
from pipeline.alerting.warning import Desk, warn_of
from tests.served_world import WATCH_PARAMS

SECRET = "T0k3n"
MODEL = "ctr-ranker-simulated"
PARAMS = WarnParams(
    service="ctr-ranker",
    team="ads",
    runbook_url="https://example.org/docs/runbooks/",
    dashboard_url="https://example.org/d/ctr",
    chat_severities=("page", "ticket"),
    pager_severities=("page",),
    clean_windows=2,
    window_minutes=60.0,
    history_windows=720,
    objective=Objective(("calibration", "auc"), 0.1, (Burn(4, 2, 5.0),)),
    wake_cooldown_hours=24.0,
    attempts=3,
    first_wait_seconds=0.01,
    max_wait_seconds=0.02,
    timeout_seconds=0.3,
)
START = datetime(2026, 3, 2, tzinfo=UTC)


def facts_of(
    *checks: str, slice_name: str = "device", clean: tuple[str, ...] = (), num_rows: int = 5_000, measured: float = 0.31
) -> DriftFacts:
    """A window in which `checks` found something and `clean` ones were made and found nothing."""
    findings = tuple(
        Finding(
            check=check,
            slice=slice_name,
            severity=CHECKS[check].severity,
            kind=CHECKS[check].kind,
            measured=measured,
            limit=0.1,
            num_rows=num_rows,
            what=f"field 'device': PSI {measured} over {num_rows:,} rows",
            since="2026-03-02T10:00:00+00:00",
            rows="all served rows of the window",
            meaning=CHECKS[check].meaning,
            action=CHECKS[check].action,
        )
        for check in checks
    )
    measures = [Measure(check, slice_name, measured, None, 0.1, 3.0, num_rows, 0.0, 1e-6) for check in checks]
    measures += [Measure(check, slice_name, 0.01, None, 0.1, 0.1, num_rows, 0.5, 1e-6) for check in clean]
    status = "drift" if findings else "quiet"
    return DriftFacts(
        status, "compared", "v1", "ab", None, None, num_rows, 0, {"auc": 0.7}, (), (), (), findings, tuple(measures)
    )


def too_small() -> DriftFacts:
    """A window of too few rows to say anything."""
    return replace(facts_of(), status="nothing_to_compare", reason="12 rows were served", num_rows=12)


def desk_in(folder: Path, **environ: str) -> Desk:
    """A desk whose receivers are those of the environment given."""
    book = Book(folder / "alerts" / "prod" / MODEL)
    return Desk(book, folder / "metrics", read_receivers(environ), PARAMS, "prod", MODEL)


def warn(desk: Desk, hour: int, facts: DriftFacts, is_dry_run: bool = False) -> int:
    """Warn of the hour that starts `hour` hours after START."""
    window = START + timedelta(hours=hour), START + timedelta(hours=hour + 1)
    return warn_of(desk, Drift(facts, None), window, WATCH_PARAMS, is_dry_run)


@dataclass
class Receiver:
    """A listener on loopback that answers as told, then with 200."""

    url: str
    answers: list[int | str] = field(default_factory=list)
    received: list[dict[str, Any]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    release: threading.Event = field(default_factory=threading.Event)

    @property
    def taken(self) -> list[Any]:
        """Bodies that were answered with 200."""
        return [message["body"] for message in self.received if message["status"] == 200]


@contextmanager
def http_receiver() -> Iterator[Receiver]:
    """Listen for POSTs of JSON."""

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
            state.received.append({"path": self.path, "status": answer, "body": json.loads(body)})
            self.send_response(200 if answer == "another page" else int(answer))
            for name, value in state.headers.items():
                self.send_header(name, value)
            words = {200: b"ok", "another page": b"<html>"}.get(
                answer, b"no"
            )  # Slack says ok, the others look at the status
            self.send_header("Content-Length", str(len(words)))
            self.end_headers()
            self.wfile.write(words)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        state = Receiver(f"http://127.0.0.1:{server.server_port}/hook/{SECRET}")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield state
        finally:
            state.release.set()
            server.shutdown()
            thread.join()


@dataclass
class MailBox:
    """A mail server on loopback that answers commands as told, once each, and then takes every mail.

    answers  "MAIL", "RCPT" or "DATA" -> a reply that refuses
    logins   user, password, and whether the connection was encrypted
    """

    port: int
    answers: dict[str, str] = field(default_factory=dict)
    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    logins: list[tuple[str, str, bool]] = field(default_factory=list)

    async def handle_MAIL(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        """The sender."""
        envelope.mail_from = address
        return self.answers.pop("MAIL", "250 OK")

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        """One recipient."""
        answer = self.answers.pop("RCPT", "250 OK")
        envelope.rcpt_tos += [address] if answer == "250 OK" else []
        return answer

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        """The mail itself."""
        answer = self.answers.pop("DATA", "250 OK")
        if answer == "250 OK":
            self.recipients.append(envelope.rcpt_tos)
            mail = message_from_bytes(envelope.content, policy=default)
            assert isinstance(mail, EmailMessage)
            self.mails.append(mail)
        return answer

    def login(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        """Every password will do."""
        self.logins.append((data.login.decode(), data.password.decode(), session.ssl is not None))
        return AuthResult(success=True)


@contextmanager
def mail_receiver(tls: ssl.SSLContext | None = None) -> Iterator[MailBox]:
    """A real SMTP server; with a context it takes nobody who has not logged in under TLS (STARTTLS)."""
    box = MailBox(free_port())
    safety = {} if tls is None else {"tls_context": tls, "authenticator": box.login, "auth_required": True}
    server = Controller(box, hostname="127.0.0.1", port=box.port, **safety)
    server.start()
    try:
        yield box
    finally:
        server.stop()


def free_port() -> int:
    """A port that nobody listens at."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
