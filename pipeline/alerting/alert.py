"""One alert in the words that all receivers share: labels to route by, annotations to read, and the key of its incident."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from components.strict import Strict
from components.watching import CHECKS
from pipeline.alerting.params import WarnParams

if TYPE_CHECKING:  # not imported: whoever tells of a failed run would wait for tables and SciPy
    from components.watching import Finding

BURN_CHECK, LATE_CHECK, TEST_CHECK = "objective", "data_late", "test"
# Alerts that are no finding of one window; CtrDataLate and CtrRunFailed come from the runner (pipeline/run_acts.py).
OTHER_ALERTS = {
    BURN_CHECK: "CtrQualityBurn",
    LATE_CHECK: "CtrDataLate",
    "run_failed": "CtrRunFailed",
    TEST_CHECK: "CtrTest",
}


@dataclass(frozen=True)
class Alert(Strict):
    """One alert in Alertmanager's words; `dedup_key` is the incident it belongs to, without time or value."""

    dedup_key: str
    labels: dict[str, str]
    annotations: dict[str, str]

    @property
    def severity(self) -> str:
        """page, ticket or info."""
        return self.labels["severity"]

    @property
    def check(self) -> str:
        """What found it."""
        return self.labels["check"]


def dedup_key(environment: str, model: str, check: str, slice_name: str) -> str:
    """The name of an incident, the same window after window."""
    return f"ctr/{environment}/{model}/{check}/{slice_name}"


def make_alert(
    check: str,
    slice_name: str,
    severity: str,
    summary: str,
    description: str,
    params: WarnParams,
    environment: str,
    model: str,
) -> Alert:
    """An alert with every label and annotation that people agreed on."""
    alertname = CHECKS[check].alertname if check in CHECKS else OTHER_ALERTS[check]
    return Alert(
        dedup_key=dedup_key(environment, model, check, slice_name),
        labels={
            "alertname": alertname,
            "severity": severity,
            "service": params.service,
            "env": environment,
            "model": model,
            "check": check,
            "slice": slice_name,
            "team": params.team,
        },
        annotations={
            "summary": summary,
            "description": description,
            "runbook_url": f"{params.runbook_url.rstrip('/')}/{alertname}.md",
            "dashboard_url": params.dashboard_url,
        },
    )


def alert_from(finding: Finding, params: WarnParams, environment: str, model: str) -> Alert:
    """What one finding says."""
    since = "" if finding.since is None else f" Since about {finding.since}."
    description = f"{finding.meaning} Seen in {finding.rows}.{since} What to do: {finding.action}"
    return make_alert(
        finding.check, finding.slice, finding.severity, finding.what, description, params, environment, model
    )


def in_words(event: str, alert: Alert) -> str:
    """One alert on one line."""
    state = "" if event != "resolve" else "RESOLVED "
    return (
        f"{state}{alert.severity.upper()} {alert.labels['alertname']} [{alert.dedup_key}] {alert.annotations['summary']} "
        f"-> {alert.annotations['runbook_url']}"
    )
