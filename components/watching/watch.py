"""The stage itself: one pass over the served rows, the checks, the findings in words, and the report beside them.

Shape letters: R rows of a chunk.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from components.champion import Champion
from components.errors import DataError, IntegrityError
from components.log import MICROSECONDS_AN_HOUR, SERVED_BUNDLE, SERVED_SCORE, TIME, ServedLog, microseconds
from components.profiling import ReferenceProfile
from components.profiling.binning import Counts
from components.profiling.profile import SCORE
from components.scoring import Scorer
from components.watching.clicks import measure_quality
from components.watching.counting import (
    OWN_COLUMNS,
    Seen,
    Yardstick,
    column_type,
    read_served,
)
from components.watching.drift import Drift, DriftFacts, Measure, with_discoveries
from components.watching.fields import measure_counts
from components.watching.limits import Limits
from components.watching.measuring import measure_share, measure_skew, measure_unit, quantiles_of
from components.watching.quality import figures_of
from components.watching.reference import QualityReference, read_reference, reference_of_profile
from components.watching.report import write_report
from components.watching.scores import measure_click_rate
from components.watching.since import first_seen, iso
from components.watching.summing import notes_of, summary_of
from components.watching.terms import Terms
from components.watching.words import Evidence, find, notable, status_of
from components.workbench import Workbench


@dataclass(frozen=True)
class WatchParams(Limits):
    """What is too much (see Limits), and how much work goes into finding it.

    confidence    of the intervals around figures, within (0, 1)
    discovery_rate  share of false ones that may be among the measures that are shown as notable
    minimum_rows  served rows below which a window says nothing
    sample_rows   served rows kept for "since when", for units and new values, and for the skew check
    skew_rows     of these, rows that are scored again offline
    report_rows   of these, rows shown to Evidently
    since_parts   number of parts of equal rows that a window is cut into to say since when
    num_movers    number of values named in a finding
    chunk_rows    rows held in memory at once
    seed          of the sample
    """

    confidence: float
    discovery_rate: float
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
    own_scores = shown.select(pl.when(pl.col(SERVED_BUNDLE) == champion.digest).then(pl.col(SERVED_SCORE)).alias(SCORE))
    folded = champion.profile.binning.fold(shown).with_columns(own_scores.to_series())
    level = params.levels(len(champion.profile.binning.fields), 0).of("field_drift")
    left_out = write_report(champion.profile, folded, params, level, report)
    notes = tuple(f"'{name}' has no value in a sample and is left out of the report for people" for name in left_out)
    return Drift(replace(comparison.facts, notes=comparison.facts.notes + notes), report)


def compare_served(champion: Champion, served_log: ServedLog, params: WatchParams, workbench: Workbench) -> Comparison:
    """Hold the served rows against the champion's reference; never raises for what the rows hold, it finds it.

    Raises DataError where the table lacks the served log's own columns or a row has no time, IntegrityError where it cannot
    be read.
    """
    table = served_log.scan()
    columns, num_rows, num_untimed = _overview(served_log)
    if champion.scorer is None or champion.profile is None or champion.digest is None:
        return _nothing_to_compare(champion, num_rows, "there is no champion yet: promote a bundle first", ())
    profile = champion.profile
    for name, kind in OWN_COLUMNS.items():
        if columns.get(name) != kind:
            raise DataError(f"served_log: column '{name}' is {columns.get(name)}, expected {kind}; run fetch again")
    if num_untimed:
        raise DataError(
            f"served_log: '{TIME}' is empty in {num_untimed:,} of {num_rows:,} rows, expected in none; run fetch again"
        )
    if num_rows < params.minimum_rows:
        reason = (
            f"{num_rows:,} rows were served in the window, at least {params.minimum_rows:,} are needed to say anything"
        )
        silence = () if num_rows else (Measure("rows", "all", 0.0, float(params.minimum_rows), 1.0, 1.0, 0),)
        return _nothing_to_compare(champion, num_rows, reason, silence)
    fields = tuple(field for field in profile.binning.fields if columns.get(field.name) == column_type(field))
    absent = [field for field in profile.binning.fields if field not in fields]
    reference = (
        reference_of_profile(profile)
        if champion.folder is None
        else read_reference(champion.folder, champion.scorer.schema)
    )
    levels = params.levels(len(profile.binning.fields), reference.num_slices)
    terms = Terms(
        champion.digest, champion.terms if profile.binning.has_time else (), _hours(params.rollout_grace_hours)
    )
    yardstick = _yardstick(champion.scorer, profile, reference, terms, served_log, params)
    seen = read_served(
        table, num_rows, absent, yardstick, params.chunk_rows, params.sample_rows, params.seed, workbench
    )
    notes = notes_of(seen, yardstick, columns, absent)
    measures = [Measure("columns", field.name, 1.0, 0.0, 0.0, 1.0, num_rows) for field in absent]
    measures += measure_counts(profile, seen.tally, seen.scored, fields, params, levels)
    units = (measure_unit(profile, seen.sample, field, params) for field in fields)
    measures += [unit for unit in units if unit is not None]
    measures += _measure_whole(seen, num_rows, params)
    num_unreadable = served_log.num_unreadable
    share = measure_share("unreadable", num_unreadable, num_rows + num_unreadable, params.max_unreadable_share)
    measures.append(share)
    if not absent:
        measures += _skew(seen.sample, champion.scorer, champion.digest, params, notes)
    promised = measure_click_rate(profile, seen.scored, reference.inflation, params, levels)
    measures += [] if promised is None else [promised]
    measures += measure_quality(reference, seen.quality, params, levels)
    measured = with_discoveries(tuple(measures))

    first_time, last_time = (iso(seen.first_time), iso(seen.last_time)) if profile.binning.has_time else (None, None)
    since = {(measure.check, measure.slice): first_time for measure in measured}
    if profile.binning.has_time and seen.first_stale is not None:
        since["stale_bundle", "all"] = iso(seen.first_stale)
    if profile.binning.has_time and any(measure.is_finding for measure in measured):
        since |= first_seen(seen.sample, yardstick, fields, params.since_parts, params, levels)
    rows = "all served rows of the window" if first_time is None else f"rows served from {first_time} to {last_time}"
    quantiles = [quantiles_of(profile, seen.sample, field) for field in fields]
    evidence = Evidence(yardstick, seen, params, levels, params.num_movers)
    findings = find(measured, evidence, since, rows)

    facts = DriftFacts(
        status=status_of(findings),
        reason="compared",
        champion=champion.version,
        bundle=champion.digest,
        first_time=first_time,
        last_time=last_time,
        num_rows=num_rows,
        num_settled=seen.quality.num_rows(0),
        figures=summary_of(seen, profile, reference, params),
        quality=figures_of(seen.quality, reference, params.confidence, params.seed),
        notes=tuple(notes),
        notable=notable(measured, params.discovery_rate),
        findings=findings,
        measures=measured,
        quantiles=tuple(one for one in quantiles if one is not None),
    )
    return Comparison(facts, seen.sample)


def _overview(served_log: ServedLog) -> tuple[pl.Schema, int, int]:
    """The table's columns, its rows, and those without a time."""
    table = served_log.scan()
    try:
        columns = table.collect_schema()
        untimed = pl.col(TIME).null_count() if TIME in columns else pl.lit(0)
        num_rows, num_untimed = table.select(pl.len(), untimed.alias("untimed")).collect().row(0)
    except (pl.exceptions.PolarsError, OSError) as error:
        place = served_log.folder / "rows.parquet"
        raise IntegrityError(f"{place}: not readable as Parquet ({error}); run fetch again") from error
    return columns, int(num_rows), int(num_untimed)


def _nothing_to_compare(champion: Champion, num_rows: int, reason: str, measures: tuple[Measure, ...]) -> Comparison:
    findings = find(measures, None, {}, "the window as a whole")
    facts = DriftFacts(
        status="contract" if findings else "nothing_to_compare",
        reason=reason,
        champion=champion.version,
        bundle=champion.digest,
        first_time=None,
        last_time=None,
        num_rows=num_rows,
        num_settled=0,
        figures={},
        quality=(),
        notes=(),
        notable=(),
        findings=findings,
        measures=measures,
    )
    return Comparison(facts, None)


def _yardstick(
    scorer: Scorer,
    profile: ReferenceProfile,
    reference: QualityReference,
    terms: Terms,
    served_log: ServedLog,
    params: WatchParams,
) -> Yardstick:
    """Clicks are final `label_delay_hours` before the moment as of which the log is known: the window's own, or its end."""
    window = served_log.request.window
    start, end, known = (
        None if moment is None or not profile.binning.has_time else microseconds(moment)
        for moment in (window.start, window.end, window.as_of or window.end)
    )
    final_before = None if known is None else known - _hours(params.label_delay_hours)
    return Yardstick(profile, reference, scorer, terms, final_before, start, end)


def _measure_whole(seen: Seen, num_rows: int, params: WatchParams) -> list[Measure]:
    measures = [
        measure_share("stale_bundle", seen.num_stale, num_rows, params.max_stale_share),
        measure_share("duplicates", seen.num_repeats, num_rows, params.max_duplicate_share),
        measure_share("outside", seen.num_outside, num_rows, params.max_outside_share),
    ]
    if seen.num_due:
        measures.append(measure_share("clicks_missing", seen.num_clickless, seen.num_due, params.max_clickless_share))
    return measures


def _skew(sample: pl.DataFrame, scorer: Scorer, digest: str, params: WatchParams, notes: list[str]) -> list[Measure]:
    own = sample.filter((pl.col(SERVED_BUNDLE) == digest) & pl.col(SERVED_SCORE).is_finite())
    if own.height == 0:
        notes.append("no sampled row was scored by the champion: served and offline scores were not compared")
        return []
    rows = own[_evenly(own.height, params.skew_rows)]
    return [measure_skew(rows[SERVED_SCORE].to_numpy(), scorer.score(rows), params)]


def _evenly(num_rows: int, wanted: int) -> Counts:
    """Row numbers spread evenly over a table."""
    return np.unique(np.linspace(0, num_rows - 1, min(num_rows, wanted)).astype(np.int64))


def _hours(hours: float) -> int:
    return round(hours * MICROSECONDS_AN_HOUR)
