"""The stage itself: one pass over the served rows, the checks, the findings in words, and the report beside them.

Shape letters: R rows of a chunk.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from components import metrics
from components.champion import Champion
from components.errors import DataError
from components.log import TIME, ServedLog
from components.profiling import FieldBins, ReferenceProfile, count_rows
from components.profiling.binning import Counts
from components.profiling.profile import SCORE
from components.scoring import Scorer
from components.watching.counting import (
    OWN_COLUMNS,
    SERVED_BUNDLE,
    SERVED_SCORE,
    Seen,
    clicks_of,
    column_type,
    num_repeats,
    read_served,
    scores_of,
)
from components.watching.drift import Drift, DriftFacts, Measure
from components.watching.measuring import (
    Limits,
    measure_auc,
    measure_calibration,
    measure_counts,
    measure_share,
    measure_skew,
)
from components.watching.report import write_report
from components.watching.words import find, status_of
from components.workbench import Workbench


@dataclass(frozen=True)
class WatchParams(Limits):
    """What is too much (see Limits), and how much work goes into finding it.

    minimum_rows  served rows below which a window says nothing
    sample_rows   served rows kept for "since when" and for the skew check
    skew_rows     of these, rows that are scored again offline
    report_rows   of these, rows shown to Evidently
    since_parts   number of parts of equal rows that a window is cut into to say since when
    num_movers    number of values named in a finding
    chunk_rows    rows held in memory at once
    seed          of the sample
    """

    minimum_rows: int
    sample_rows: int
    skew_rows: int
    report_rows: int
    since_parts: int
    num_movers: int
    chunk_rows: int
    seed: int


@dataclass(frozen=True, eq=False)
class Comparison:
    """The facts, and the sample of served rows that the report is drawn from; None where nothing was compared."""

    facts: DriftFacts
    sample: pl.DataFrame | None


def watch_served(champion: Champion, served_log: ServedLog, params: WatchParams, workbench: Workbench) -> Drift:
    """Compare, and draw the report for people beside it; see `compare_served`."""
    comparison = compare_served(champion, served_log, params, workbench)
    if comparison.sample is None or champion.profile is None:
        return Drift(comparison.facts, None)
    report = workbench.scratch / "drift_report"
    report.mkdir()
    shown = comparison.sample[_evenly(comparison.sample.height, params.report_rows)]
    folded = champion.profile.binning.fold(shown).with_columns(shown[SERVED_SCORE].alias(SCORE))
    left_out = write_report(champion.profile, folded, params, report)
    notes = tuple(f"'{name}' has no value in a sample and is left out of the report for people" for name in left_out)
    return Drift(replace(comparison.facts, notes=comparison.facts.notes + notes), report)


def compare_served(champion: Champion, served_log: ServedLog, params: WatchParams, workbench: Workbench) -> Comparison:
    """Hold the served rows against the champion's reference; never raises for what the rows hold, it finds it.

    Raises DataError where the table lacks the served log's own columns.
    """
    table = served_log.scan()
    num_rows = int(table.select(pl.len()).collect().item())
    if champion.scorer is None or champion.profile is None or champion.digest is None:
        return _nothing_to_compare(champion, num_rows, "there is no champion yet: promote a bundle first")
    if num_rows < params.minimum_rows:
        reason = (
            f"{num_rows:,} rows were served in the window, at least {params.minimum_rows:,} are needed to say anything"
        )
        return _nothing_to_compare(champion, num_rows, reason)
    profile = champion.profile
    columns = table.collect_schema()
    for name, kind in OWN_COLUMNS.items():
        if columns.get(name) != kind:
            raise DataError(f"served_log: column '{name}' is {columns.get(name)}, expected {kind}; run fetch again")
    fields = tuple(field for field in profile.binning.fields if columns.get(field.name) == column_type(field))
    absent = [field for field in profile.binning.fields if field not in fields]

    seen = read_served(
        table,
        num_rows,
        absent,
        profile,
        champion.scorer,
        champion.digest,
        params.chunk_rows,
        params.sample_rows,
        params.seed,
        workbench.progress,
    )
    measures = [Measure("columns", field.name, 1.0, 0.0, 0.0, 1.0, None, None, num_rows) for field in absent]
    measures += measure_counts(profile, seen.tally, fields, params)
    measures.append(measure_share("stale_bundle", seen.num_stale, num_rows, params.max_stale_share))
    measures.append(measure_share("duplicates", num_repeats(table), num_rows, params.max_duplicate_share))
    notes: list[str] = []
    if not absent:
        measures += _skew(seen.sample, champion.scorer, champion.digest, params, notes)
    measures += _quality(seen, profile, params, notes)

    first_time, last_time = (_iso(seen.first_time), _iso(seen.last_time)) if profile.binning.has_time else (None, None)
    since = {(measure.check, measure.slice): first_time for measure in measures}
    if profile.binning.has_time and any(measure.is_finding for measure in measures):
        since |= _since(seen.sample, profile, champion.scorer, fields, params)
    rows = "all served rows of the window" if first_time is None else f"rows served from {first_time} to {last_time}"
    findings = find(tuple(measures), profile, seen.tally, params, params.num_movers, since, rows)

    facts = DriftFacts(
        status=status_of(findings),
        reason="compared",
        champion=champion.version,
        bundle=champion.digest,
        first_time=first_time,
        last_time=last_time,
        num_rows=num_rows,
        num_settled=int(seen.tally.counts["settled"].sum()),
        figures=_figures(seen, profile),
        notes=tuple(notes),
        findings=findings,
        measures=tuple(measures),
    )
    return Comparison(facts, seen.sample)


def _nothing_to_compare(champion: Champion, num_rows: int, reason: str) -> Comparison:
    facts = DriftFacts(
        status="nothing_to_compare",
        reason=reason,
        champion=champion.version,
        bundle=champion.digest,
        first_time=None,
        last_time=None,
        num_rows=num_rows,
        num_settled=0,
        figures={},
        notes=(),
        findings=(),
        measures=(),
    )
    return Comparison(facts, None)


def _skew(sample: pl.DataFrame, scorer: Scorer, digest: str, params: WatchParams, notes: list[str]) -> list[Measure]:
    own = sample.filter((pl.col(SERVED_BUNDLE) == digest) & pl.col(SERVED_SCORE).is_finite())
    if own.height == 0:
        notes.append("no sampled row was scored by the champion: served and offline scores were not compared")
        return []
    rows = own[_evenly(own.height, params.skew_rows)]
    return [measure_skew(rows[SERVED_SCORE].to_numpy(), scorer.score(rows), params)]


def _quality(seen: Seen, profile: ReferenceProfile, params: WatchParams, notes: list[str]) -> list[Measure]:
    if len(seen.clicks) == 0:
        notes.append("no click is known yet (all null): calibration and AUC were not measured")
        return []
    measures = [
        measure
        for measure in (
            measure_calibration(profile, seen.clicks, seen.scores, params),
            measure_auc(profile, seen.clicks, seen.scores, params),
        )
        if measure is not None
    ]
    if len(measures) < 2:
        notes.append("clicks of one kind only, here or in the reference: calibration or AUC could not be measured")
    return measures


def _since(
    sample: pl.DataFrame, profile: ReferenceProfile, scorer: Scorer, fields: tuple[FieldBins, ...], params: WatchParams
) -> dict[tuple[str, str], str | None]:
    """The start of the first part of the sample that shows each finding by itself."""
    since: dict[tuple[str, str], str | None] = {}
    bounds = np.linspace(0, len(sample), params.since_parts + 1).astype(int)
    for start, stop in itertools.pairwise(bounds):
        rows = sample[int(start) : int(stop)]
        if rows.height == 0:
            continue
        tally = count_rows(rows, scores_of(rows), clicks_of(rows), scorer.encoder, profile.binning)
        for measure in measure_counts(profile, tally, fields, params):
            if measure.is_finding:
                since.setdefault((measure.check, measure.slice), _iso(rows[TIME][0]))
    return since


def _figures(seen: Seen, profile: ReferenceProfile) -> dict[str, float | None]:
    num_clicks, num_settled = int(seen.clicks.sum()), len(seen.clicks)
    has_both = 0 < num_clicks < num_settled
    num_valid = seen.tally.counts["scores"][:, 1:].sum()
    own = {
        "mean_score": float(seen.tally.score_sums.sum() / num_valid) if num_valid else None,
        "click_rate": num_clicks / num_settled if num_settled else None,
        "auc": metrics.auc(seen.clicks, seen.scores) if has_both else None,
        "log_loss": metrics.log_loss(seen.clicks, seen.scores) if has_both else None,
        "normalised_entropy": metrics.normalised_entropy(seen.clicks, seen.scores) if has_both else None,
        "calibration_ratio": metrics.calibration_ratio(seen.clicks, seen.scores) if has_both else None,
    }
    reference = {"mean_score": profile.mean_score, "click_rate": profile.click_rate, **profile.metrics}
    return own | {f"reference_{name}": figure for name, figure in reference.items()}


def _evenly(num_rows: int, wanted: int) -> Counts:
    """Row numbers spread evenly over a table."""
    return np.unique(np.linspace(0, num_rows - 1, min(num_rows, wanted)).astype(np.int64))


def _iso(microseconds: int) -> str:
    return (datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds)).isoformat()
