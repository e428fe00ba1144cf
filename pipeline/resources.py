"""`infra/resources.yaml` as data: what a task may use and how it is tried again; needs only yaml, like `pipeline.plan`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Need:
    """One task's share: cpu in cores, memory in GiB, gpu in accelerators; the rest as its name says."""

    pool: str
    cpu: float
    memory_gib: float
    gpu: int
    timeout_minutes: float
    retries: int
    first_wait_seconds: float
    max_wait_seconds: float

    @property
    def timeout(self) -> timedelta:
        """How long one try may take."""
        return timedelta(minutes=self.timeout_minutes)


@dataclass(frozen=True)
class Waiting:
    """For data: seconds between two looks, minutes after the window's end until it counts as late."""

    poll_seconds: float
    deadline_minutes: float


@dataclass(frozen=True)
class RunRules:
    """How runs as a whole are treated; units stand in the names, reasons in the file."""

    stop_grace_seconds: float
    keep_failed_days: float
    rest_hours: float
    race_attempts: int
    keep_checkpoint_seconds: float


@dataclass(frozen=True)
class Resources:
    """The whole file."""

    pools: Mapping[str, int]
    default: Need
    tasks: Mapping[str, Need]
    accelerator: str
    image: str
    waiting: Waiting
    runs: RunRules

    def of(self, task: str) -> Need:
        """What a task of this name may use."""
        return self.tasks.get(task, self.default)


def read_resources(home: Path) -> Resources:
    """Read the file below `home`, or the one that CTR_RESOURCES names; raises TypeError for unknown or missing keys."""
    path = Path(os.environ.get("CTR_RESOURCES", home / "infra" / "resources.yaml"))
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    default = content.pop("default")
    needs = {task: Need(**(default | (own or {}))) for task, own in content.pop("tasks").items()}
    waiting, runs = Waiting(**content.pop("waiting")), RunRules(**content.pop("runs"))
    return Resources(default=Need(**default), tasks=needs, waiting=waiting, runs=runs, **content)
