"""Who is told, how, and how hard is tried: the section `warn` of params.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from components.strict import Strict
from pipeline.alerting.objective import Objective


@dataclass(frozen=True)
class WarnParams(Strict):
    """Who is told, and how hard is tried.

    service, team         labels by which alerts are routed
    runbook_url           folder of the runbooks, without the alert's name
    dashboard_url         what to look at first
    chat_severities       severities that chat and mail are told of; the pager's channels are told of all of `pager_severities`
    pager_severities      severities that PagerDuty is told of
    clean_windows         windows without the finding, rows enough in each, after which an alert is resolved
    window_minutes        length of a window; Alertmanager is told that an alert ends three of them ahead
    history_windows       windows remembered, for past weeks and for the objective
    objective             on quality: what pages
    wake_cooldown_hours   after a retraining was woken by drift, no other is for so long
    attempts              posts of one message at most, in one call
    first_wait_seconds    before the second attempt, doubled before each later one
    max_wait_seconds      between two attempts, also where the receiver asks for more
    timeout_seconds       of one attempt
    """

    service: str
    team: str
    runbook_url: str
    dashboard_url: str
    chat_severities: tuple[Literal["page", "ticket", "info"], ...]
    pager_severities: tuple[Literal["page", "ticket", "info"], ...]
    clean_windows: int
    window_minutes: float
    history_windows: int
    objective: Objective
    wake_cooldown_hours: float
    attempts: int
    first_wait_seconds: float
    max_wait_seconds: float
    timeout_seconds: float
