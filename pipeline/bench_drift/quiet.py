"""Quiet days: hour after hour of a log that stays as it is. Whatever is found is false."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from components.watching.limits import Levels, Limits
from components.watching.measuring import measure_volume
from pipeline.alerting.objective import Objective, burning
from pipeline.bench_drift.counts import Array, by_hour, judge, make_counted_world
from pipeline.bench_drift.kept import Kept

CLEAN_WINDOWS = 2
DAYS_PER_QUARTER, DAYS_PER_WEEK = 91, 7
_HOURS_PER_WEEK, _WEEKS = 168, 4


@dataclass
class Quiet:
    """What chance alone did: incidents opened (each closes after two clean windows) and windows with a finding."""

    num_days: int = 0
    num_windows: int = 0
    incidents: dict[str, int] = field(default_factory=dict)
    checks: dict[str, int] = field(default_factory=dict)
    windows_with_findings: int = 0
    worlds_with_pages: int = 0

    def per_days(self, severity: str, days: int) -> float:
        """Incidents in so many days."""
        return self.incidents.get(severity, 0) * days / self.num_days

    def add(self, other: dict[str, Any]) -> None:
        """Count what was seen in another world."""
        for name, value in other.items():
            so_far = getattr(self, name)
            setattr(self, name, dict(Counter(so_far) + Counter(value)) if isinstance(value, dict) else so_far + value)


@dataclass(frozen=True)
class QuietDays:
    """How much is watched: days of each world, its fields, rows a day and reference rows."""

    num_days: int
    num_fields: int
    rows_per_day: int
    reference_rows: int


def watch_quiet_worlds(
    days: QuietDays,
    num_worlds: int,
    limits: Limits,
    objective: Objective,
    kept: Kept,
    progress: Callable[[float, float, str], None],
) -> Quiet:
    """Judge every hour, each world with a reference of its own."""
    total = Quiet()
    for seed in range(num_worlds):
        name = f"{days.num_days}-{days.num_fields}-{days.rows_per_day}-{days.reference_rows}-{seed}"
        total.add(kept.result("quiet", name, lambda seed=seed: asdict(_watch_world(days, seed, limits, objective))))  # type: ignore[misc]
        incidents = f"{total.incidents} by check {total.checks}"
        print(f"{total.num_days:,} quiet days of {seed + 1} worlds: {incidents}", file=sys.stderr, flush=True)
        progress(seed + 1, num_worlds, f"quiet worlds, {sum(total.incidents.values())} false")
    return total


def _watch_world(days: QuietDays, seed: int, limits: Limits, objective: Objective) -> Quiet:
    incidents: Counter[str] = Counter()
    checks: Counter[str] = Counter()
    num_with_findings = 0
    generator = np.random.default_rng([seed, 1])
    world = make_counted_world(days.num_fields, 0.03, seed)
    profile, reference = world.profile(generator, days.reference_rows), world.reference(generator, days.reference_rows)
    levels = limits.levels(days.num_fields, reference.num_slices)
    unchanged = np.ones(world.cells.shape[0])
    clean: dict[tuple[str, str], int] = {}
    were_bad: list[bool | None] = []
    rows = _rows_of_hours(generator, days, limits)
    for number, num_rows in enumerate(rows):
        of_hour = np.zeros(24, dtype=np.int64)
        of_hour[number % 24] = num_rows
        tally = world.tally(generator, of_hour, is_clicked=False)
        clicked = world.clicked(generator, int(num_rows), reference, unchanged)
        findings = judge(profile, tally, reference, clicked, limits)
        found = [(finding.severity, finding.check, finding.slice) for finding in findings]
        found += [("ticket", "rows", "all")] if _is_volume_odd(rows, number, limits, levels) else []
        num_with_findings += bool(found)
        clean = {key: count + 1 for key, count in clean.items() if count + 1 < CLEAN_WINDOWS}
        were_bad.append(any(finding.check in objective.checks for finding in findings))
        found += [("page", "objective", "all")] if burning(were_bad, objective) else []
        for severity, check, name in found:
            if (check, name) not in clean:
                incidents[severity] += 1
                checks[check] += 1
            clean[check, name] = 0
    with_pages = int(incidents["page"] > 0)
    return Quiet(days.num_days, len(rows), dict(incidents), dict(checks), num_with_findings, with_pages)


def _rows_of_hours(generator: np.random.Generator, days: QuietDays, limits: Limits) -> Array:
    """Rows of each hour: the day's course, and from week to week as much more or less as is taken for usual."""
    hourly = np.tile(by_hour(days.rows_per_day), days.num_days)
    return np.asarray(hourly * generator.lognormal(0.0, limits.usual_volume_deviation, len(hourly)), dtype=np.int64)


def _is_volume_odd(rows: Array, number: int, limits: Limits, levels: Levels) -> bool:
    past = [int(rows[at]) for week in range(1, _WEEKS + 1) if (at := number - week * _HOURS_PER_WEEK) >= 0]
    measure = measure_volume(int(rows[number]), past, limits, levels)
    return measure is not None and measure.is_finding
