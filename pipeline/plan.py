"""`dvc.yaml` as data: the steps, what each reads and makes, and how to cut the line; needs only yaml.

Airflow and Kubeflow build their graphs from this, so the edges are written once, in the stages' signatures.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

ARTIFACTS = PurePosixPath("artifacts")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # schedulers read this every half minute


@dataclass(frozen=True)
class Step:
    """One entry of `dvc.yaml`: its verb, the command, and the artifacts it reads and makes."""

    verb: str
    command: str
    reads: tuple[str, ...]
    makes: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """All steps, each after those whose artifacts it reads."""

    steps: tuple[Step, ...]

    def step(self, verb: str) -> Step:
        """The step with this verb; raises KeyError."""
        return {step.verb: step for step in self.steps}[verb]

    def maker_of(self, artifact: str) -> Step:
        """The step that makes an artifact; raises KeyError."""
        return {made: step for step in self.steps for made in step.makes}[artifact]

    def edges(self) -> tuple[tuple[str, str], ...]:
        """(upstream verb, downstream verb) for each pair that an artifact joins."""
        pairs = [(self.maker_of(name).verb, step.verb) for step in self.steps for name in step.reads]
        return tuple(dict.fromkeys(pairs))

    def up_to(self, artifact: str) -> Plan:
        """The part of the plan that `artifact` needs; raises KeyError."""
        needed: set[str] = set()
        open_ends = [self.maker_of(artifact)]
        while open_ends:
            step = open_ends.pop()
            needed.add(step.verb)
            open_ends += [self.maker_of(name) for name in step.reads]
        return Plan(tuple(step for step in self.steps if step.verb in needed))


def read_plan(dvc_yaml: Path) -> Plan:
    """Read the steps of a `dvc.yaml` in its order."""
    content = yaml.load(dvc_yaml.read_text(encoding="utf-8"), Loader=_LOADER)
    return Plan(tuple(_step(verb, entry) for verb, entry in content["stages"].items()))


def _step(verb: str, entry: dict[str, Any]) -> Step:
    return Step(verb, entry["cmd"], _artifacts(entry.get("deps", [])), _artifacts(entry.get("outs", [])))


def _artifacts(entries: list[Any]) -> tuple[str, ...]:
    paths = [PurePosixPath(next(iter(entry)) if isinstance(entry, dict) else entry) for entry in entries]
    return tuple(path.name for path in paths if path.parent == ARTIFACTS)
