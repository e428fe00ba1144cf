"""`python -m pipeline bench drift`: how often watching is wrong on quiet days, how often it finds a fault, and how fast it is.

quiet   hours of a log that stays as it is, as counts; whatever is found is false
faults  faults put into quiet hours, and Evidently's default preset on the same rows
speed   ten million rows through the whole stage
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from components.watching import WatchParams
from components.workbench import Progress
from pipeline.alerting.params import WarnParams
from pipeline.bench_drift.click_faults import try_click_faults
from pipeline.bench_drift.faults import try_row_faults
from pipeline.bench_drift.kept import Kept
from pipeline.bench_drift.peers import Peer
from pipeline.bench_drift.quiet import DAYS_PER_QUARTER, DAYS_PER_WEEK, QuietDays, watch_quiet_worlds
from pipeline.bench_drift.speed import time_watch
from pipeline.bench_drift.trials import MAX_HOURS, Trials, in_words
from pipeline.params import read_settings

PARTS = ("quiet", "faults", "speed")
NUM_FIELDS = 40
REFERENCE_ROWS = 500_000
MANY_ROWS = 10_000_000


def run_bench_drift(
    root: Path,
    only: str | None,
    days: int,
    seeds: int,
    trials: int,
    peer_trials: int,
    rows: int,
    kept_in: Path | None,
    progress: Progress,
) -> dict[str, Any]:
    """Run the parts asked for (all by default) with the workspace's params; tables on stderr, the figures given back.

    kept_in  folder of results that are not computed again while code and params stay what they are
    """
    settings = read_settings(root)
    params, objective = settings.section("watch", WatchParams), settings.section("warn", WarnParams).objective
    kept = Kept(kept_in, json.dumps([asdict(params), asdict(objective)]))
    figures: dict[str, Any] = {}
    if only in (None, "quiet"):
        quiet_days = QuietDays(days, NUM_FIELDS, 480_000, REFERENCE_ROWS)
        quiet = watch_quiet_worlds(quiet_days, seeds, params, objective, kept, progress)
        _say(f"{quiet.num_windows:,} quiet hours: incidents {quiet.incidents}, by check {quiet.checks}")
        figures["false_pages_per_quarter"] = quiet.per_days("page", DAYS_PER_QUARTER)
        figures["false_tickets_per_week"] = quiet.per_days("ticket", DAYS_PER_WEEK)
        figures["quiet"] = asdict(quiet)
    if only in (None, "faults"):
        peer = Peer(peer_trials, 5_000) if peer_trials else None
        of_clicks, powers = try_click_faults(trials, peer, params, kept, progress)
        found = try_row_faults(trials, 5_000, peer, params, kept, progress) | of_clicks
        _say(_table(found))
        _say(_power_table(powers, trials))
        figures["detection"] = {name: one.share for name, one in found.items() if name != "none"}
        figures["mean_hours"] = {name: one.mean_hours for name, one in found.items() if one.hours}
        figures["power_by_rows"] = powers
        figures["peer"] = {name: _of_peer(one) for name, one in found.items() if one.num_peer_trials}
    if only in (None, "speed"):
        seconds, processor_seconds, figures["peak_bytes"], report_bytes = time_watch(rows, params, progress)
        figures["seconds_10m_rows" if rows == MANY_ROWS else "seconds"] = seconds
        figures |= {"processor_seconds": processor_seconds, "report_bytes": report_bytes, "rows": rows}
    return figures


def _power_table(powers: dict[int, float], trials: int) -> str:
    lines = [f"| rows | click rate -5 % found in the first hour, of {trials} |", "|---|---|"]
    return "\n".join([*lines, *(f"| {rows:,} | {power:.0%} |" for rows, power in sorted(powers.items()))])


def _of_peer(one: Trials) -> dict[str, Any]:
    return {
        "trials": one.num_peer_trials,
        "errors": one.num_peer_errors,
        "column_hours": one.peer_column_hours,
        "dataset_hours": one.peer_dataset_hours,
    }


def _table(found: dict[str, Trials]) -> str:
    lines = [
        f"| fault | rows | trials | found in the first hour | mean hours | Evidently: the column (within {MAX_HOURS} h) | the data set |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, one in found.items():
        column, whole = (
            in_words(hours, one.num_peer_trials) if one.num_peer_trials else "-"
            for hours in (one.peer_column_hours, one.peer_dataset_hours)
        )
        column += f", {one.num_peer_errors} errors" if one.num_peer_errors else ""
        share = f"{one.share:.1%}" if one.num_trials else "-"
        hours = f"{one.mean_hours:.2f}" if one.hours else "-"
        lines.append(f"| {name} | {one.num_rows:,} | {one.num_trials} | {share} | {hours} | {column} | {whole} |")
    return "\n".join(lines)


def _say(text: str) -> None:
    print(text, file=sys.stderr)
