"""One message to one receiver, tried once: it is taken, may be taken later, or never.

Alertmanager, PagerDuty and webhooks are posted to; Slack and mail go through Apprise.
"""

from __future__ import annotations

import email.utils
import logging
import re
import urllib.parse
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import httpx

from pipeline.alerting.params import WarnParams
from pipeline.alerting.receivers import (
    Receivers,
    alertmanager_alerts,
    chat_text,
    chat_urgency,
    mail_text,
    pagerduty_event,
    webhook_message,
)
from pipeline.alerting.state import Notice

_LATER = (408, 429)  # of a client's mistakes the two that are none: time-out, too many requests
_SLACK_ADDRESSES = ("https://hooks.slack.com/services/", "https://hooks.slack-gov.com/services/")
# Apprise says whether a message was taken; by which status it was not stands in its log only: Slack's, a mail server's to one
# of several recipients, or as an exception of smtplib's, (550, b'no such user').
_STATUS = re.compile(
    r"Failed to send to Slack: .*\berror=(\d{3})\.$|SMTP recipient \S+ was refused: (\d{3}) |Socket Exception: .*?\((\d{3}), b['\"]"
)


class TryAgain(Exception):  # noqa: N818 - a reason, turned into an OutsideError when attempts run out
    """Why an attempt failed that may succeed later, and how long the receiver asks to wait."""

    def __init__(self, reason: str, wait_seconds: float) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


class Refused(Exception):  # noqa: N818 - a reason, turned into a ConfigError
    """The receiver will never take this."""


@contextmanager
def secrets_kept_out_of_logs() -> Iterator[None]:
    """Keep libraries that log the addresses they send to from being heard: httpx at INFO, urllib3 and Apprise at DEBUG.

    Apprise's log is read all the same, by Apprise itself for its result; so it speaks, and nobody listens.
    """
    for name in ("httpx", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
    apprise = logging.getLogger("apprise")
    level, does_propagate, silence = apprise.level, apprise.propagate, logging.NullHandler()
    apprise.setLevel(logging.DEBUG)
    apprise.propagate = False
    apprise.addHandler(silence)
    try:
        yield
    finally:
        apprise.removeHandler(silence)
        apprise.propagate = does_propagate
        apprise.setLevel(level)


def send(
    client: httpx.Client,
    channel: str,
    notices: Sequence[Notice],
    receivers: Receivers,
    params: WarnParams,
    now: Callable[[], datetime],
) -> None:
    """Send what a channel is to be told, in its own words; raises TryAgain or Refused where it is not taken."""
    secret = receivers.secrets[channel]
    match channel:
        case "alertmanager":
            _post(client, f"{secret.rstrip('/')}/api/v2/alerts", alertmanager_alerts(notices, params, now()))
        case "pagerduty":
            _post(client, receivers.pagerduty_url, pagerduty_event(notices[0], secret))
        case "slack":
            _to_slack(secret, notices, params)
        case "mail":
            _mail(secret, notices, params)
        case _:
            _post(client, secret, webhook_message(notices))


def _post(client: httpx.Client, url: str, body: Any) -> None:
    try:
        response = client.post(url, json=body)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        raise Refused("the address is no http:// or https:// URL") from None
    except httpx.TransportError as error:
        raise TryAgain(type(error).__name__, 0.0) from None
    if response.is_success:
        return
    if _is_refusal(response.status_code):
        raise Refused(f"status {response.status_code}")
    asked = response.headers.get("Retry-After", "")
    raise TryAgain(f"status {response.status_code}", float(asked) if asked.isdigit() else 0.0)


def _is_refusal(http_status: int) -> bool:
    return 300 <= http_status < 500 and http_status not in _LATER


def _is_permanent(smtp_status: int) -> bool:
    """As RFC 5321 has it."""
    return smtp_status >= 500


def _to_slack(webhook: str, notices: Sequence[Notice], params: WarnParams) -> None:
    if not webhook.startswith(_SLACK_ADDRESSES):
        raise Refused(f"the address is no incoming webhook of Slack, {_SLACK_ADDRESSES[0]}T.../B.../...")
    wait = params.timeout_seconds
    shape = urllib.parse.urlencode({"blocks": "yes", "footer": "no", "image": "no", "cto": wait, "rto": wait})
    _through_apprise(f"{webhook}?{shape}", 1, ("", chat_text(notices)), notices, params, _is_refusal)


def _mail(address: str, notices: Sequence[Notice], params: WarnParams) -> None:
    try:
        url = urllib.parse.urlsplit(address)
        query = dict(urllib.parse.parse_qsl(url.query))
        recipients = [one for _, one in email.utils.getaddresses([query["to"]])]
        service: dict[str, Any] = {
            "from_addr": query["from"],
            "host": url.hostname,
            "smtp_host": url.hostname,
            "port": url.port,
        }
        mode = {"smtp": "insecure" if url.username is None else "starttls", "smtps": "ssl"}[url.scheme]
    except (ValueError, KeyError):
        raise Refused("the address is not of the form smtp://user:password@host:port?from=a@x.org&to=b@y.org") from None
    service |= {"schema": "mailto", "targets": recipients, "secure_mode": mode, "cto": params.timeout_seconds}
    if url.username is not None:
        user, password = (urllib.parse.unquote(part or "") for part in (url.username, url.password))
        service |= {"user": user, "password": password}
    _through_apprise(service, len(recipients), mail_text(notices), notices, params, _is_permanent)


def _through_apprise(
    service: str | dict[str, Any],
    num_recipients: int,
    told: tuple[str, str],
    notices: Sequence[Notice],
    params: WarnParams,
    is_final: Callable[[int], bool],
) -> None:
    """Send a title and a text to a service in Apprise's words.

    Raises Refused for an address that Apprise does not understand and where every status that its log names is final,
    TryAgain where one is not, and where it names none: what nobody can read is not lost.
    """
    from apprise import Apprise, AppriseAsset, NotifyFormat  # the first address loads a hundred plugins: a second

    asset = AppriseAsset(app_id=params.service, async_mode=False, service_timeout=0, http_redirects=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of modules that some of its plugins import
        plugin = Apprise.instantiate(service, asset=asset)
    if plugin is None or len(plugin) != num_recipients:
        raise Refused("Apprise does not understand the address, or one of the recipients")
    title, body = told
    result = Apprise(plugin, asset=asset).notify(
        body=body,
        title=title,
        notify_type=chat_urgency(notices),
        body_format=NotifyFormat.TEXT,
        log_level=logging.DEBUG,
    )
    if result:
        return
    found = (_STATUS.match(entry.message) for entry in result.logs())
    statuses = [int(next(filter(None, one.groups()))) for one in found if one is not None]
    if statuses and all(is_final(status) for status in statuses):
        raise Refused(f"status {statuses[0]}")
    raise TryAgain(f"status {statuses[0]}" if statuses else "no answer", 0.0)
