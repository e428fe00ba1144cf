"""Messages to people: what watching found becomes alerts, written to stderr and posted to one webhook.

An alert's key has no time, run or value in it, so the same trouble is the same incident window after window. Delivery
is at least once: what could not be delivered raises OutsideError, and the same call later sends the same keys.
"""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass

import httpx
import tenacity

from components.errors import ConfigError, OutsideError
from components.strict import Strict
from components.watching import CHECKS, Drift

_TOO_MANY = 429


@dataclass(frozen=True)
class WarnParams(Strict):
    """Who is told, and how hard is tried.

    service, team         labels by which alerts are routed
    runbook_url           folder of the runbooks, without the alert's name
    dashboard_url         what to look at first
    attempts              posts of one message at most
    first_wait_seconds    before the second attempt, doubled before each later one
    max_wait_seconds      between two attempts, also where the receiver asks for more
    timeout_seconds       of one attempt
    """

    service: str
    team: str
    runbook_url: str
    dashboard_url: str
    attempts: int
    first_wait_seconds: float
    max_wait_seconds: float
    timeout_seconds: float


@dataclass(frozen=True)
class Alert(Strict):
    """One alert in Alertmanager's words; `dedup_key` is the incident it belongs to."""

    dedup_key: str
    labels: dict[str, str]
    annotations: dict[str, str]


def alerts_from(drift: Drift, params: WarnParams, environment: str, model: str) -> tuple[Alert, ...]:
    """One alert a finding, the most urgent first; none where nothing was found or compared."""
    alerts = []
    for finding in drift.findings:
        alertname = CHECKS[finding.check].alertname
        since = "" if finding.since is None else f" Since about {finding.since}."
        alerts.append(
            Alert(
                dedup_key=f"ctr/{environment}/{model}/{finding.check}/{finding.slice}",
                labels={
                    "alertname": alertname,
                    "severity": finding.severity,
                    "service": params.service,
                    "env": environment,
                    "model": model,
                    "check": finding.check,
                    "slice": finding.slice,
                    "team": params.team,
                },
                annotations={
                    "summary": finding.what,
                    "description": f"{finding.meaning} Seen in {finding.rows}.{since} What to do: {finding.action}",
                    "runbook_url": f"{params.runbook_url.rstrip('/')}/{alertname}.md",
                    "dashboard_url": params.dashboard_url,
                },
            )
        )
    return tuple(alerts)


def send(alerts: tuple[Alert, ...], webhook_url: str | None, params: WarnParams) -> None:
    """Write each alert to stderr and, where there is a webhook, post all in one JSON message `{"alerts": [...]}`.

    The address is a secret and stands in no message. Raises OutsideError when no attempt got through, ConfigError when the
    receiver refuses the message or the address is none.
    """
    for alert in alerts:
        print(in_words(alert), file=sys.stderr)
    if not alerts or webhook_url is None:
        return
    message = {
        "alerts": [
            {"dedup_key": alert.dedup_key, "labels": alert.labels, "annotations": alert.annotations} for alert in alerts
        ]
    }
    logging.getLogger("httpx").setLevel(logging.WARNING)  # its INFO lines hold the address
    attempts = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(params.attempts),
        wait=_Wait(params),
        retry=tenacity.retry_if_exception_type(_TryAgain),
        reraise=True,
    )
    try:
        with httpx.Client(timeout=params.timeout_seconds) as client:
            attempts(_post, client, webhook_url, message)
    except _TryAgain as error:
        raise OutsideError(
            f"the webhook did not take {len(alerts)} alerts in {params.attempts} attempts (last: {error}); warn again later"
        ) from None


def in_words(alert: Alert) -> str:
    """One alert on one line."""
    labels = alert.labels
    return (
        f"{labels['severity'].upper()} {labels['alertname']} [{alert.dedup_key}] {alert.annotations['summary']} "
        f"-> {alert.annotations['runbook_url']}"
    )


class _TryAgain(Exception):  # noqa: N818 - a reason, turned into an OutsideError when attempts run out
    """Why an attempt failed that may succeed later, and how long the receiver asks to wait."""

    def __init__(self, reason: str, wait_seconds: float) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


class _Wait(tenacity.wait.wait_base):
    """Doubling, or as long as the receiver asks for, up to the maximum."""

    def __init__(self, params: WarnParams) -> None:
        self._params = params

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        outcome = retry_state.outcome
        error = None if outcome is None else outcome.exception()
        asked = error.wait_seconds if isinstance(error, _TryAgain) else 0.0
        doubled = self._params.first_wait_seconds * 2 ** (retry_state.attempt_number - 1)
        return float(min(max(asked, doubled), self._params.max_wait_seconds))


def _post(client: httpx.Client, url: str, message: dict[str, object]) -> None:
    try:
        response = client.post(url, json=message)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        raise ConfigError("the webhook's address is no http:// or https:// URL; mend CTR_WEBHOOK") from None
    except httpx.TransportError as error:
        raise _TryAgain(type(error).__name__, 0.0) from None
    if response.is_success:
        return
    if response.status_code == _TOO_MANY or response.is_server_error:
        asked = response.headers.get("Retry-After", "")
        raise _TryAgain(f"status {response.status_code}", float(asked) if asked.isdigit() else 0.0)
    raise ConfigError(f"the webhook refused the message with status {response.status_code}; check CTR_WEBHOOK")
