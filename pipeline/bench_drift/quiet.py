"""Quiet days: hour after hour of a log that stays as it is. Whatever is found is false."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from components.watching.limits import Limits
from components.workbench import Progress
from pipeline.alerting.objective import Objective, burning
from pipeline.bench_drift.counts import by_hour, judge, make_counted_world

CLEAN_WINDOWS = 2
DAYS_PER_QUARTER, DAYS_PER_WEEK = 91, 7


@dataclass
class Quiet:
    """What chance alone did: incidents opened (each closes after two clean windows) and windows with a finding."""

    num_days: int = 0
    num_windows: int = 0
    incidents: Counter[str] = field(default_factory=Counter)
    checks: Counter[str] = field(default_factory=Counter)
    seeds_with_pages: int = 0
    windows_with_findings: int = 0

    def per_days(self, severity: str, days: int) -> float:
        """Incidents in so many days."""
        return self.incidents[severity] * days / self.num_days


def watch_quiet_days(
    num_days: int,
    num_seeds: int,
    num_fields: int,
    rows_per_day: int,
    reference_rows: int,
    limits: Limits,
    objective: Objective,
    progress: Progress,
) -> Quiet:
    """Judge every hour of `num_days` days, each seed with a world and a reference of its own."""
    quiet = Quiet()
    hourly = by_hour(rows_per_day)
    for seed in range(num_seeds):
        generator = np.random.default_rng([seed, 1])
        world = make_counted_world(num_fields, 0.03, seed)
        profile, reference = world.profile(generator, reference_rows), world.reference(generator, reference_rows)
        unchanged = np.ones(world.cells.shape[0])
        clean: dict[tuple[str, str], int] = {}
        pages = quiet.incidents["page"]
        were_bad: list[bool | None] = []
        for day in range(num_days):
            for hour, num_rows in enumerate(hourly):
                of_hour = np.zeros_like(hourly)
                of_hour[hour] = num_rows
                tally = world.tally(generator, of_hour)
                clicked = world.clicked(generator, int(num_rows), reference, unchanged)
                findings = judge(profile, tally, reference, clicked, limits)
                quiet.windows_with_findings += bool(findings)
                clean = {key: count + 1 for key, count in clean.items() if count + 1 < CLEAN_WINDOWS}
                were_bad.append(any(finding.check in objective.checks for finding in findings))
                found = [(finding.severity, finding.check, finding.slice) for finding in findings]
                found += [("page", "objective", "all")] if burning(were_bad, objective) else []
                for severity, check, name in found:
                    if (check, name) not in clean:
                        quiet.incidents[severity] += 1
                        quiet.checks[check] += 1
                    clean[check, name] = 0
            quiet.num_windows += len(hourly)
            progress(
                seed * num_days + day + 1, num_seeds * num_days, f"quiet days, {sum(quiet.incidents.values())} false"
            )
        quiet.num_days += num_days
        incidents = f"{dict(quiet.incidents)} by check {dict(quiet.checks)}"
        print(f"{quiet.num_days:,} quiet days of {seed + 1} worlds: {incidents}", file=sys.stderr, flush=True)
        quiet.seeds_with_pages += quiet.incidents["page"] > pages
    return quiet
