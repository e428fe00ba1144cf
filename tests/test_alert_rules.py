"""What Prometheus, Alertmanager and Grafana are given: valid by their own tools, each alert with its page, each metric real."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.alert_world import desk_in, facts_of, warn

REPO = Path(__file__).parents[1]
INFRA = REPO / "infra"


def rules() -> list[dict[str, Any]]:
    content = yaml.safe_load((INFRA / "prometheus/rules.yaml").read_text())
    return [rule for group in content["groups"] for rule in group["rules"]]


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("promtool", ("check", "config", "prometheus/prometheus.yml")),
        ("promtool", ("test", "rules", "prometheus/rules_test.yaml")),
        ("amtool", ("check-config", "alertmanager/alertmanager.yml")),
    ],
)
def test_the_tools_themselves_accept_what_they_are_given(tool: str, arguments: tuple[str, ...]) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"no {tool} here: install the Debian packages prometheus and prometheus-alertmanager")
    done = subprocess.run([tool, *arguments], cwd=INFRA, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_of_prometheus_has_its_labels_and_its_page() -> None:
    for rule in rules():
        assert {"severity", "service", "team", "check", "slice"} <= rule["labels"].keys(), rule["alert"]
        assert {"summary", "description", "runbook_url", "dashboard_url"} <= rule["annotations"].keys(), rule["alert"]
        assert rule["annotations"]["runbook_url"].endswith(f"/{rule['alert']}.md")
        assert (REPO / rule["annotations"]["runbook_url"]).is_file()


def test_rules_and_dashboard_name_only_metrics_that_there_are(tmp_path: Path) -> None:
    desk = desk_in(tmp_path)
    warn(desk, 0, facts_of("field_drift"))
    texts = [path.read_text() for path in desk.metrics.glob("*.prom")]
    known = {name for text in texts for name in re.findall(r"^# TYPE (\w+)", text, re.MULTILINE)}
    service = re.findall(r'(?:Counter|Gauge|Histogram)\(\s*"(ctr_\w+)"', (REPO / "pipeline/service/app.py").read_text())
    known |= {f"{name}{suffix}" for name in service for suffix in ("", "_total", "_bucket")}
    dashboard = (INFRA / "grafana/dashboards/ctr.json").read_text()
    named = {name for rule in rules() for name in re.findall(r"\bctr_\w+", rule["expr"])}
    for panel in json.loads(dashboard)["panels"]:
        named |= {name for target in panel["targets"] for name in re.findall(r"\bctr_\w+", target["expr"])}
    assert named - known == set()
    assert len(named) >= 10


def test_every_page_is_whole() -> None:
    for path in (REPO / "docs/runbooks").glob("*.md"):
        headings = [line[3:] for line in path.read_text().splitlines() if line.startswith("## ")]
        assert headings == ["Rollback", "Meaning", "Impact", "Is it real?", "Escalate", "Silence"], path.name
