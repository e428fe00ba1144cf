"""What Prometheus reads of watching, as a file for the node exporter's textfile collector: the dead-man's switch among it.

If `warn` does not finish, the file grows old, and a rule outside of all this says so (infra/prometheus/rules.yaml).
"""

from __future__ import annotations

import os
from collections import Counter
from datetime import datetime
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from components.watching.drift import DriftFacts
from pipeline.alerting.state import State

_Values = dict[tuple[tuple[str, str], ...], float]
FIGURES = (
    "auc",
    "log_loss",
    "normalised_entropy",
    "calibration_ratio",
    "mean_score",
    "click_rate",
    "estimated_click_rate",
)


def write_metrics(
    folder: Path,
    environment: str,
    model: str,
    facts: DriftFacts,
    state: State,
    num_waiting: int,
    num_blocks: int,
    now: datetime,
) -> Path:
    """Put ctr_watch_<env>_<model>.prom in place of the old one; gives its path."""
    registry = CollectorRegistry()

    def gauge(name: str, help_text: str, values: _Values) -> None:
        own = [("env", environment), ("model", model)]
        labels = [name for name, _ in (*own, *next(iter(values), ()))]
        metric = Gauge(name, help_text, labels, registry=registry)
        for more, value in values.items():
            metric.labels(**dict((*own, *more))).set(value)

    severities = Counter(dict.fromkeys(("page", "ticket", "info"), 0))
    severities.update(incident.alert.severity for incident in state.incidents.values())
    gauge("ctr_watch_success_timestamp_seconds", "When a watch was last told of", {(): now.timestamp()})
    gauge("ctr_watch_rows", "Rows served in the last window watched", {(): facts.num_rows})
    gauge("ctr_watch_final_clicks_rows", "Of these, rows whose click is final", {(): facts.num_settled})
    gauge(
        "ctr_watch_findings",
        "Findings in the last window watched",
        {
            (("kind", kind),): sum(one.kind == kind for one in facts.findings)
            for kind in ("contract", "data", "concept")
        },
    )
    gauge("ctr_alerts_open", "Open incidents", {(("severity", key),): count for key, count in severities.items()})
    gauge("ctr_alert_outbox_messages", "Messages that were not delivered yet", {(): num_waiting})
    gauge("ctr_training_blocks", "Broken contracts that nobody has acknowledged", {(): num_blocks})
    figures: _Values = {
        (("figure", name), ("of", of)): value
        for of, prefix in (("served", ""), ("reference", "reference_"))
        for name in FIGURES
        if (value := facts.figures.get(f"{prefix}{name}")) is not None
    }
    if figures:
        gauge("ctr_watch_figure", "Figures of the last window watched, and of the champion's test rows", figures)
    psi: _Values = {
        (("check", one.check), ("slice", one.slice)): one.measured
        for one in facts.measures
        if one.check in ("field_drift", "score_drift")
    }
    if psi:
        gauge("ctr_watch_psi", "Population stability index of the last window watched", psi)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"ctr_watch_{environment}_{model}.prom"
    write_to_textfile(os.fspath(path), registry)
    return path
