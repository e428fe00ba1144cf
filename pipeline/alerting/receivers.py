"""Who is told, and what each is told in: addresses and secrets from the environment, messages by the receiver's own schema.

CTR_ALERTMANAGER     address of an Alertmanager, such as http://alertmanager:9093
CTR_PAGERDUTY_KEY    routing key of a PagerDuty service (Events API v2); CTR_PAGERDUTY_URL for another address
CTR_SLACK_WEBHOOK    an incoming webhook of Slack: https://hooks.slack.com/services/T.../B.../...
CTR_SMTP             smtp://user:password@host:port?from=a@x.org&to=b@y.org,c@z.org (smtps:// for TLS from the start)
CTR_WEBHOOK          any address that takes {"alerts": [...]} as JSON

Each may be given as NAME_FILE instead: a file that holds the value. None of them stands in a message, log or outbox.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from components.errors import ConfigError
from pipeline.alerting.alert import Alert, in_words
from pipeline.alerting.params import WarnParams
from pipeline.alerting.state import Notice

CHANNELS = {
    "alertmanager": "CTR_ALERTMANAGER",
    "pagerduty": "CTR_PAGERDUTY_KEY",
    "slack": "CTR_SLACK_WEBHOOK",
    "mail": "CTR_SMTP",
    "webhook": "CTR_WEBHOOK",
}
_PAGERDUTY_URL = "https://events.pagerduty.com/v2/enqueue"
_WINDOWS_AHEAD = 3
_KEY_CHARACTERS, _SUMMARY_CHARACTERS = 255, 1024
_SLACK_CHARACTERS = 2_900  # of a block, which may hold 3,000
_LONG_CHARACTERS, _BRIEF_CHARACTERS = 1_000, 100  # of one text in it
_APPRISE_URGENCY = {"page": "failure", "ticket": "warning", "info": "info"}
_PAGERDUTY_SEVERITY = {"page": "critical", "ticket": "warning", "info": "info"}


@dataclass(frozen=True)
class Receivers:
    """The addresses and secrets by channel; a channel without one is not used."""

    secrets: Mapping[str, str]
    pagerduty_url: str

    @property
    def channels(self) -> tuple[str, ...]:
        """Those in use."""
        return tuple(channel for channel in CHANNELS if channel in self.secrets)

    def __repr__(self) -> str:
        return f"Receivers({', '.join(self.channels)})"


def read_receivers(environment: Mapping[str, str]) -> Receivers:
    """Read addresses and secrets; raises ConfigError for a file that cannot be read."""
    secrets = {channel: _secret(environment, variable) for channel, variable in CHANNELS.items()}
    known = {channel: secret for channel, secret in secrets.items() if secret}
    return Receivers(known, environment.get("CTR_PAGERDUTY_URL") or _PAGERDUTY_URL)


def _secret(environment: Mapping[str, str], variable: str) -> str | None:
    place = environment.get(f"{variable}_FILE")
    if not place:
        return environment.get(variable)
    if environment.get(variable):
        raise ConfigError(f"{variable} and {variable}_FILE are both set; keep one of them")
    try:
        return Path(place).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{variable}_FILE: {place} cannot be read ({type(error).__name__})") from error


def wanted(channel: str, notices: Sequence[Notice], params: WarnParams) -> tuple[Notice, ...]:
    """What a channel is told of: Alertmanager and the webhook of everything that pages or is a ticket, each window anew."""
    severities = {"pagerduty": params.pager_severities, "slack": params.chat_severities, "mail": params.chat_severities}
    told = severities.get(channel, ("page", "ticket"))
    is_repeated = channel in ("alertmanager", "webhook")
    return tuple(one for one in notices if one.alert.severity in told and (is_repeated or one.event != "update"))


def alertmanager_alerts(notices: Sequence[Notice], params: WarnParams, now: datetime) -> list[dict[str, Any]]:
    """The body of POST /api/v2/alerts: an open alert ends three windows ahead unless it is posted again, a resolved one now."""
    ahead = now + timedelta(minutes=_WINDOWS_AHEAD * params.window_minutes)
    return [
        {
            "labels": notice.alert.labels,
            "annotations": {**notice.alert.annotations, "dedup_key": notice.alert.dedup_key},
            "startsAt": min(notice.opened, now.isoformat()),
            "endsAt": (now if notice.event == "resolve" else ahead).isoformat(),
            "generatorURL": notice.alert.annotations["dashboard_url"],
        }
        for notice in notices
    ]


def pagerduty_event(notice: Notice, routing_key: str) -> dict[str, Any]:
    """The body of one PagerDuty event (Events API v2): a trigger, or the resolution of the same key."""
    alert = notice.alert
    event: dict[str, Any] = {
        "routing_key": routing_key,
        "dedup_key": alert.dedup_key[:_KEY_CHARACTERS],
        "event_action": "resolve" if notice.event == "resolve" else "trigger",
    }
    if notice.event == "resolve":
        return event
    links = (("runbook_url", "Runbook"), ("dashboard_url", "Dashboard"))
    return event | {
        "client": alert.labels["service"],
        "payload": {
            "summary": alert.annotations["summary"][:_SUMMARY_CHARACTERS],
            "source": f"{alert.labels['env']}/{alert.labels['model']}",
            "severity": _PAGERDUTY_SEVERITY[alert.severity],
            "timestamp": notice.opened,
            "component": alert.labels["model"],
            "group": alert.labels["slice"],
            "class": alert.labels["alertname"],
            "custom_details": {"description": alert.annotations["description"], **alert.labels},
        },
        "links": [
            {"href": alert.annotations[name], "text": text}
            for name, text in links
            if alert.annotations[name].startswith(("http://", "https://"))
        ],
    }


def chat_text(notices: Sequence[Notice]) -> str:
    """A line an alert and below it what it means; where that is too long for one message of Slack only lines, and how many more."""
    whole = [_in_chat(notice) for notice in notices]
    if _length(whole) <= _SLACK_CHARACTERS:
        return "\n".join(whole)
    lines = [in_words(notice.event, _shortened(notice.alert, _BRIEF_CHARACTERS)) for notice in notices]
    num_shown = len(lines)
    while _length(lines[:num_shown]) > _SLACK_CHARACTERS:
        num_shown -= 1
    more = (
        [f"and {len(lines) - num_shown} more: `python -m pipeline alerts` lists them"] if num_shown < len(lines) else []
    )
    return "\n".join(lines[:num_shown] + more)


def chat_urgency(notices: Sequence[Notice]) -> str:
    """Of the most urgent one, in Apprise's words, by which a chat colours it."""
    first = notices[0]
    return "success" if first.event == "resolve" else _APPRISE_URGENCY[first.alert.severity]


def webhook_message(notices: Sequence[Notice]) -> dict[str, Any]:
    """The body for a plain webhook."""
    return {
        "alerts": [
            {
                "status": "resolved" if notice.event == "resolve" else "firing",
                "dedup_key": notice.alert.dedup_key,
                "labels": notice.alert.labels,
                "annotations": notice.alert.annotations,
            }
            for notice in notices
        ]
    }


def mail_text(notices: Sequence[Notice]) -> tuple[str, str]:
    """Subject and body of one mail."""
    first = notices[0]
    more = f" and {len(notices) - 1} more" if len(notices) > 1 else ""
    state = "resolved" if first.event == "resolve" else first.alert.severity
    subject = f"[{state}] {first.alert.labels['alertname']} {first.alert.labels['slice']}{more}"
    body = "\n\n".join(f"{in_words(one.event, one.alert)}\n{one.alert.annotations['description']}" for one in notices)
    return subject.replace("\n", " "), body


def _in_chat(notice: Notice) -> str:
    alert = _shortened(notice.alert, _LONG_CHARACTERS)
    description = "" if notice.event == "resolve" else f"\n{alert.annotations['description']}"
    return in_words(notice.event, alert) + description


def _shortened(alert: Alert, num_characters: int) -> Alert:
    words = {name: alert.annotations[name] for name in ("summary", "description")}
    cut = {name: text if len(text) <= num_characters else f"{text[:num_characters]}..." for name, text in words.items()}
    return replace(alert, annotations=alert.annotations | cut)


def _length(lines: Sequence[str]) -> int:
    """As Slack counts them: with its escapes of &, < and >, which keep a field's value from becoming a link or a mention."""
    return len(html.escape("\n".join(lines), quote=False))
