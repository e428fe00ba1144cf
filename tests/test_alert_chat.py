"""Slack and mail through Apprise, against real listeners: what they are told, and what their troubles and refusals cost."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import jsonschema
import pytest
from apprise.plugins.slack import NotifySlack
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from components.errors import ConfigError, OutsideError
from components.watching.drift import DriftFacts
from pipeline.alerting.outbox import num_waiting
from pipeline.alerting.warning import Desk, send_waiting
from tests.alert_schemas import SLACK
from tests.alert_world import MODEL, SECRET, MailBox, Receiver, desk_in, facts_of, http_receiver, mail_receiver, warn

KEY = f"ctr/prod/{MODEL}/field_empty/device"
WEBHOOK = f"https://hooks.slack.com/services/T0000/B0000/{SECRET}"
CLEAN = facts_of(clean=("field_empty", "field_drift"))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with http_receiver() as state:
        yield state


@pytest.fixture
def slack(tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A desk that tells Slack, whose host is the listener."""
    monkeypatch.setattr(NotifySlack, "webhook_url", receiver.url)
    return desk_in(tmp_path, CTR_SLACK_WEBHOOK=WEBHOOK)


def texts(receiver: Receiver) -> list[str]:
    for body in receiver.taken:
        jsonschema.validate(body, SLACK)
    return [body["attachments"][0]["blocks"][0]["text"]["text"] for body in receiver.taken]


def saying(what: str, *checks: str) -> DriftFacts:
    facts = facts_of(*checks)
    return replace(facts, findings=tuple(replace(finding, what=what) for finding in facts.findings))


# Slack


def test_slack_is_told_of_opening_and_end_under_the_same_key(slack: Desk, receiver: Receiver) -> None:
    for hour, facts in enumerate((facts_of("field_empty"), facts_of("field_empty"), CLEAN, CLEAN)):
        warn(slack, hour, facts)
    opening, end = texts(receiver)
    assert opening.startswith(f"PAGE CtrFieldEmpty [{KEY}]")
    assert facts_of("field_empty").findings[0].action.partition(",")[0] in opening
    assert end.startswith(f"RESOLVED PAGE CtrFieldEmpty [{KEY}]")
    colours = [body["attachments"][0]["color"] for body in receiver.taken]
    assert len(set(colours)) == 2
    assert {message["path"].rpartition("/services")[2] for message in receiver.received} == {
        f"/hook/{SECRET}/T0000/B0000/{SECRET}"
    }


def test_no_value_becomes_a_mention_and_a_long_one_is_cut(slack: Desk, receiver: Receiver) -> None:
    warn(slack, 0, saying("moved: '<!channel>' & " + "<" * 5_000, "field_drift"))
    (text,) = texts(receiver)
    assert "&lt;!channel&gt;' &amp;" in text
    assert "<" not in text
    assert "CtrFieldDrift.md" in text


def test_many_alerts_are_one_message_that_says_how_many_more_there_are(slack: Desk, receiver: Receiver) -> None:
    facts = facts_of("field_drift")
    many = tuple(replace(facts.findings[0], slice=f"field {number}") for number in range(40))
    warn(slack, 0, replace(facts, findings=many))
    (text,) = texts(receiver)
    *lines, last = text.splitlines()
    assert last == f"and {40 - len(lines)} more: `python -m pipeline alerts` lists them"
    assert 5 < len(lines) == len({line.split("[")[1].split("]")[0] for line in lines}) < 40


@pytest.mark.parametrize("trouble", [408, 429, 500, 503, "hang up", "no answer", "another page"])
def test_trouble_of_slack_that_passes_loses_nothing(slack: Desk, receiver: Receiver, trouble: int | str) -> None:
    receiver.answers = [trouble, trouble]
    warn(slack, 0, facts_of("field_empty"))
    assert KEY in texts(receiver)[-1]
    assert num_waiting(slack.book) == 0


@pytest.mark.parametrize("trouble", [429, 502, "hang up"])
def test_a_slack_that_is_down_for_an_hour_is_told_everything_later(
    slack: Desk, receiver: Receiver, trouble: int | str
) -> None:
    receiver.answers = [trouble] * 1_000
    for hour, facts in enumerate((facts_of("field_empty"), CLEAN, CLEAN)):
        with pytest.raises(OutsideError, match="slack did not take its messages"):
            warn(slack, hour, facts)
    assert num_waiting(slack.book) == 2
    receiver.answers = []
    send_waiting(slack)
    assert [text.split(" [")[0] for text in texts(receiver)] == ["PAGE CtrFieldEmpty", "RESOLVED PAGE CtrFieldEmpty"]
    assert num_waiting(slack.book) == 0


@pytest.mark.parametrize("status", [301, 400, 403, 404, 410])
def test_a_refusal_of_slack_is_told_from_trouble_and_kept(slack: Desk, receiver: Receiver, status: int) -> None:
    receiver.answers = [status]
    with pytest.raises(ConfigError, match=f"status {status}"):
        warn(slack, 0, facts_of("field_empty"))
    assert len(list((slack.book.outbox / "refused").iterdir())) == 1
    assert len(receiver.received) == 1


def test_a_value_that_looks_like_a_refusal_decides_nothing(slack: Desk, receiver: Receiver) -> None:
    receiver.answers = [503]
    warn(slack, 0, saying("moved: 'error=404.' (550, b'no'), Failed to send to Slack: error=404.", "field_empty"))
    assert [message["status"] for message in receiver.received] == [503, 200]


@pytest.mark.parametrize("address", ["https://example.org/hook", "https://hooks.slack.com/services/T0000/B0000", "x"])
def test_an_address_that_is_no_webhook_of_slack_is_a_config_error(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match="check CTR_SLACK_WEBHOOK"):
        warn(desk_in(tmp_path, CTR_SLACK_WEBHOOK=address), 0, facts_of("field_empty"))


# Mail


@pytest.fixture
def mailbox() -> Iterator[MailBox]:
    with mail_receiver() as state:
        yield state


def mailing(folder: Path, mailbox: MailBox, to: str = "oncall@x.test") -> Desk:
    return desk_in(folder, CTR_SMTP=f"smtp://127.0.0.1:{mailbox.port}?from=ctr@x.test&to={to}")


def test_mail_has_a_subject_and_says_what_to_do(tmp_path: Path, mailbox: MailBox) -> None:
    warn(mailing(tmp_path, mailbox, "oncall@x.test,second@y.test"), 0, saying("2 > 1 & 'é' <b>", "field_empty"))
    assert mailbox.recipients == [["oncall@x.test"], ["second@y.test"]]
    for mail in mailbox.mails:
        assert (mail["From"], mail["Subject"]) == ("ctr@x.test", "[page] CtrFieldEmpty device")
        assert mail.get_content_type() == "text/plain"
        text = mail.get_content()
        assert f"[{KEY}] 2 > 1 & 'é' <b> -> https://example.org/docs/runbooks/CtrFieldEmpty.md" in text
        assert facts_of("field_empty").findings[0].action in text
    assert [mail["To"] for mail in mailbox.mails] == ["oncall@x.test", "second@y.test"]


@pytest.mark.parametrize("trouble", [{"RCPT": "450 busy"}, {"DATA": "451 later"}, {"MAIL": "421 closing"}])
def test_trouble_of_a_mail_server_that_passes_loses_nothing(
    tmp_path: Path, mailbox: MailBox, trouble: dict[str, str]
) -> None:
    mailbox.answers = trouble
    warn(mailing(tmp_path, mailbox), 0, facts_of("field_empty"))
    assert len(mailbox.mails) == 1


def test_a_mail_server_that_is_down_is_told_everything_later(tmp_path: Path) -> None:
    with mail_receiver() as mailbox:
        desk = mailing(tmp_path, mailbox)
    for hour, facts in enumerate((facts_of("field_empty"), CLEAN, CLEAN)):
        with pytest.raises(OutsideError, match="mail did not take its messages"):
            warn(desk, hour, facts)
    with mail_receiver() as mailbox:
        send_waiting(mailing(tmp_path, mailbox))
        subjects = [mail["Subject"] for mail in mailbox.mails]
    assert subjects == ["[page] CtrFieldEmpty device", "[resolved] CtrFieldEmpty device"]


@pytest.mark.parametrize("refusal", [{"RCPT": "550 no such user"}, {"DATA": "554 spam"}, {"MAIL": "553 who?"}])
def test_a_refusal_of_a_mail_server_is_told_from_trouble_and_kept(
    tmp_path: Path, mailbox: MailBox, refusal: dict[str, str]
) -> None:
    mailbox.answers = dict(refusal)
    desk = mailing(tmp_path, mailbox)
    with pytest.raises(ConfigError, match=f"status {next(iter(refusal.values()))[:3]}"):
        warn(desk, 0, facts_of("field_empty"))
    assert len(list((desk.book.outbox / "refused").iterdir())) == 1


@pytest.mark.parametrize(
    "address",
    ["x", "smtp://h:25?from=a@x.test", "http://h?from=a@x.test&to=b@y.test", "smtp://h:25?from=a@x.test&to=b@y.test,c"],
)
def test_an_address_that_nobody_can_mail_to_is_a_config_error(tmp_path: Path, address: str) -> None:
    with pytest.raises(ConfigError, match="check CTR_SMTP"):
        warn(desk_in(tmp_path, CTR_SMTP=address), 0, facts_of("field_empty"))


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """One that signs itself for 127.0.0.1, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")]), datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    pem = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    (folder / "cert.pem").write_bytes(pem)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "key.pem").write_bytes(secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return folder / "cert.pem", context


def test_a_password_is_sent_under_tls_only_and_to_a_server_that_proves_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted, context = certificate(tmp_path)
    with mail_receiver(context) as mailbox:
        address = f"smtp://ann:{SECRET}@127.0.0.1:{mailbox.port}?from=ctr@x.test&to=oncall@x.test"
        desk = desk_in(tmp_path, CTR_SMTP=address)
        with pytest.raises(OutsideError):
            warn(desk, 0, facts_of("field_empty"))
        assert mailbox.logins == []
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        send_waiting(desk)
    assert mailbox.logins == [("ann", SECRET, True)]
    assert len(mailbox.mails) == 1


# Secrets


@pytest.mark.parametrize("answer", [200, 404, 502])
def test_no_secret_stands_in_any_message_log_or_file_even_where_everything_is_logged(
    slack: Desk,
    receiver: Receiver,
    tmp_path: Path,
    answer: int,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver.answers = [answer] * 100
    (tmp_path / "key").write_text(f"{SECRET}\n")
    desk = desk_in(
        tmp_path,
        CTR_ALERTMANAGER=receiver.url,
        CTR_WEBHOOK=receiver.url,
        CTR_PAGERDUTY_KEY_FILE=str(tmp_path / "key"),
        CTR_PAGERDUTY_URL="http://127.0.0.1:1",
        CTR_SMTP=f"smtp://user:{SECRET}@127.0.0.1:1?from=a@x.test&to=b@y.test",
        CTR_SLACK_WEBHOOK=WEBHOOK,
    )
    with caplog.at_level(1), pytest.raises((ConfigError, OutsideError)) as caught:
        warn(desk, 0, facts_of("field_empty"))
    said = capsys.readouterr()
    files = [path.read_text() for path in desk.book.folder.rglob("*.json")]
    assert len(files) >= 3
    assert desk.receivers.secrets["pagerduty"] == SECRET
    assert SECRET not in "".join((str(caught.value), caplog.text, said.out, said.err, repr(desk), *files))
    assert "T0000" not in caplog.text


@pytest.mark.parametrize(
    ("variable", "address"),
    [
        ("CTR_SLACK_WEBHOOK", f"ftp://{SECRET}"),
        ("CTR_SLACK_WEBHOOK", f"https://hooks.slack.com/services/{SECRET}!/B0000/x"),
        ("CTR_SMTP", f"smtp://user:{SECRET}@h:25?from=x&to=b@y.test"),
        ("CTR_WEBHOOK", f"ftp://{SECRET}"),
    ],
)
def test_no_secret_stands_in_what_is_said_of_an_address_that_is_wrong(
    tmp_path: Path,
    variable: str,
    address: str,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(1), pytest.raises(ConfigError) as caught:
        warn(desk_in(tmp_path, **{variable: address}), 0, facts_of("field_empty"))
    said = capsys.readouterr()
    assert SECRET not in "".join((str(caught.value), caplog.text, said.out, said.err))
