"""A copy of this project with a log of some thousand rows and a short search, for proofs and benchmarks of the runners.

The stages are the project's own; only what decides how long they take is smaller, and the gate is open, since so small a
log teaches little.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from components.errors import OutsideError

_LOG = {
    "source": {"options": {"rows_per_week": 2500, "num_users": 300, "num_items": 150, "drift_logit": 0.0}},
    "check": {"min_rows": 1000, "click_rate_band": [0.01, 0.1]},
    "search": {"max_epochs": 1, "batch_rows": 512},
    "train": {"max_epochs": 2, "batch_rows": 512},
}
_KNOBS = {
    "search": {"strategy": "darts", "num_nodes": 1, "embedding_width": 4},
    "evaluate": {"num_null_draws": 20, "num_bootstraps": 50, "num_parity_rows": 500},
    "judge": {
        "first_min_auc": 0.0,
        "max_normalised_entropy": 9.0,
        "max_auc_loss": 1.0,
        "max_log_loss_rise_share": 9.0,
        "ratio_low": 0.01,
        "ratio_high": 99.0,
        "max_ece_excess_share": 9.0,
    },
}


def make_small_project(home: Path, folder: Path) -> None:
    """Clone `home` as it is committed into `folder`, and commit the small settings there; its DAGs schedule nothing."""
    _git(home, "clone", "--quiet", str(home), str(folder))
    _set(folder / "logs" / "simulated.yaml", _LOG)
    _set(folder / "params.yaml", _KNOBS)
    end_schedules(folder / "dags")
    _git(
        folder, "-c", "user.name=small", "-c", "user.email=small@localhost", "commit", "--quiet", "--all", "-m", "small"
    )


def _set(path: Path, changes: Mapping[str, Any]) -> None:
    content = yaml.safe_load(path.read_text("utf-8"))
    _merge(content, changes)
    path.write_text(yaml.safe_dump(content, sort_keys=False, width=120, allow_unicode=True), "utf-8")


def _merge(content: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict):
            _merge(content[key], value)
        else:
            content[key] = value


def _git(folder: Path, *arguments: str) -> None:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OutsideError(f"{folder}: `git {' '.join(arguments)}` failed: {done.stderr.strip()}")


def end_schedules(dags: Path) -> None:
    """Let the DAGs in a folder schedule nothing by themselves: what runs there is triggered."""
    for path in sorted(dags.glob("*.py")):
        text = path.read_text("utf-8").replace(
            "    schedule=", "    end_date=datetime(2026, 4, 5, tzinfo=UTC),\n    schedule="
        )
        path.write_text(
            text.replace("from airflow.sdk", "from datetime import UTC, datetime\n\nfrom airflow.sdk", 1), "utf-8"
        )
