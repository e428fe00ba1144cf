"""What Prometheus reads of watching, as a file for the node exporter's textfile collector: the dead-man's switch among it.

If `warn` does not finish, the file grows old, and a rule outside of all this says so (infra/prometheus/rules.yaml).
"""

from __future__ import annotations

import os
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from pipeline.alerting.state import State

if TYPE_CHECKING:
    from components.watching.drift import DriftFacts

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


Look = Literal["first", "settled"]


def write_metrics(
    folder: Path,
    environment: str,
    model: str,
    facts: DriftFacts,
    look: Look,
    state: State,
    num_waiting: int,
    num_blocks: int,
    now: datetime,
) -> tuple[Path, Path]:
    """Put ctr_alerts_<env>_<model>.prom and ctr_watch_<env>_<model>_<look>.prom in place of the old ones; gives their paths.

    Each look at a window has a file of its own, so that the one at yesterday's final clicks does not hide the newest hour.
    """
    folder.mkdir(parents=True, exist_ok=True)
    own = (("env", environment), ("model", model))
    alerts, watch = _File(own), _File((*own, ("look", look)))
    severities = Counter(dict.fromkeys(("page", "ticket", "info"), 0))
    severities.update(incident.alert.severity for incident in state.incidents.values())
    alerts.gauge("ctr_watch_success_timestamp_seconds", "When a watch was last told of", {(): now.timestamp()})
    alerts.gauge(
        "ctr_alerts_open", "Open incidents", {(("severity", key),): count for key, count in severities.items()}
    )
    alerts.gauge("ctr_alert_outbox_messages", "Messages that were not delivered yet", {(): num_waiting})
    alerts.gauge("ctr_training_blocks", "Broken contracts that nobody has acknowledged", {(): num_blocks})
    watch.gauge("ctr_watch_rows", "Rows served in the last window watched", {(): facts.num_rows})
    watch.gauge("ctr_watch_final_clicks_rows", "Of these, rows whose click is final", {(): facts.num_settled})
    watch.gauge(
        "ctr_watch_findings",
        "Findings in the last window watched",
        {
            (("kind", kind),): sum(one.kind == kind for one in facts.findings)
            for kind in ("contract", "data", "concept")
        },
    )
    figures: _Values = {
        (("figure", name), ("of", of)): value
        for of, prefix in (("served", ""), ("reference", "reference_"))
        for name in FIGURES
        if (value := facts.figures.get(f"{prefix}{name}")) is not None
    }
    watch.gauge("ctr_watch_figure", "Figures of the last window watched, and of the champion's test rows", figures)
    psi: _Values = {
        (("check", one.check), ("slice", one.slice)): one.measured
        for one in facts.measures
        if one.check in ("field_drift", "score_drift")
    }
    watch.gauge("ctr_watch_psi", "Population stability index of the last window watched", psi)
    return (
        alerts.write(folder / f"ctr_alerts_{environment}_{model}.prom"),
        watch.write(folder / f"ctr_watch_{environment}_{model}_{look}.prom"),
    )


class _File:
    """Gauges that share their first labels."""

    def __init__(self, own: tuple[tuple[str, str], ...]) -> None:
        self._own = own
        self._registry = CollectorRegistry()

    def gauge(self, name: str, help_text: str, values: _Values) -> None:
        """Add a metric, a value for each set of further labels; nothing where there are none."""
        if not values:
            return
        metric = Gauge(
            name, help_text, [label for label, _ in (*self._own, *next(iter(values)))], registry=self._registry
        )
        for more, value in values.items():
            metric.labels(**dict((*self._own, *more))).set(value)

    def write(self, path: Path) -> Path:
        """Put the file in place of the old one."""
        write_to_textfile(os.fspath(path), self._registry)
        return path
