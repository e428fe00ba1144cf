"""The stage itself: one pass over the served rows, the checks, the findings in words, and the report beside them.

Shape letters: R rows of a chunk.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from components import metrics
from components.champion import Champion
from components.errors import DataError
from components.log import CLICK, IMPRESSION, TIME, ServedLog
from components.profiling import FieldBins, ReferenceProfile, Tally, count_rows
from components.profiling.binning import Counts, Floats
from components.profiling.profile import SCORE
from components.profiling.tally import UNKNOWN_CLICK
from components.scoring import Scorer
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

SERVED_SCORE = "score"
SERVED_BUNDLE = "bundle"
_OWN_COLUMNS = {
    IMPRESSION: pl.String,
    TIME: pl.Int64,
    CLICK: pl.Int8,
    SERVED_SCORE: pl.Float64,
    SERVED_BUNDLE: pl.String,
}


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
class _Seen:
    """What one pass over the served rows leaves: counts, the settled rows' clicks and scores, and a sample in time order."""

    tally: Tally
    clicks: Counts
    scores: Floats
    num_stale: int
    first_time: int
    last_time: int
    sample: pl.DataFrame


def watch_served(champion: Champion, served_log: ServedLog, params: WatchParams, workbench: Workbench) -> Drift:
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
    for name, kind in _OWN_COLUMNS.items():
        if columns.get(name) != kind:
            raise DataError(f"served_log: column '{name}' is {columns.get(name)}, expected {kind}; run fetch again")
    fields = tuple(field for field in profile.binning.fields if columns.get(field.name) == _dtype(field))
    absent = [field for field in profile.binning.fields if field not in fields]

    seen = _read_all(table, num_rows, absent, profile, champion.scorer, champion.digest, params, workbench)
    measures = [Measure("columns", field.name, 1.0, 0.0, 0.0, 1.0, None, None, num_rows) for field in absent]
    measures += measure_counts(profile, seen.tally, fields, params)
    measures.append(measure_share("stale_bundle", seen.num_stale, num_rows, params.max_stale_share))
    measures.append(measure_share("duplicates", _num_repeats(table), num_rows, params.max_duplicate_share))
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

    report = workbench.scratch / "drift_report"
    report.mkdir()
    shown = seen.sample[_evenly(len(seen.sample), params.report_rows)]
    folded = profile.binning.fold(shown).with_columns(shown[SERVED_SCORE].alias(SCORE))
    for name in write_report(profile, folded, params, report):
        notes.append(f"'{name}' has no value in a sample and is left out of the report for people")
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
    return Drift(facts, report)


def _nothing_to_compare(champion: Champion, num_rows: int, reason: str) -> Drift:
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
    return Drift(facts, None)


def _read_all(
    table: pl.LazyFrame,
    num_rows: int,
    absent: list[FieldBins],
    profile: ReferenceProfile,
    scorer: Scorer,
    digest: str,
    params: WatchParams,
    workbench: Workbench,
) -> _Seen:
    generator = np.random.default_rng(params.seed)
    chosen = np.sort(generator.choice(num_rows, min(num_rows, params.sample_rows), replace=False))
    tallies, clicks, scores, samples = [], [], [], []
    num_stale = 0
    first_times, last_times = [], []
    for start, chunk in _chunks(table, num_rows, params.chunk_rows):
        rows = chunk.with_columns(pl.lit(None, dtype=_dtype(field)).alias(field.name) for field in absent)
        chunk_clicks, chunk_scores = _clicks_of(rows), _scores_of(rows)
        tallies.append(count_rows(rows, chunk_scores, chunk_clicks, scorer.encoder, profile.binning))
        is_settled = (chunk_clicks != UNKNOWN_CLICK) & (chunk_scores >= 0) & (chunk_scores <= 1)
        clicks.append(chunk_clicks[is_settled])
        scores.append(chunk_scores[is_settled])
        num_stale += int((rows[SERVED_BUNDLE].fill_null("") != digest).sum())
        times = rows[TIME].to_numpy()
        first_times.append(int(times.min()))
        last_times.append(int(times.max()))
        samples.append(rows[chosen[(chosen >= start) & (chosen < start + len(rows))] - start])
        workbench.progress(start + len(rows), num_rows, "served rows counted")
    tally = tallies[0]
    for part in tallies[1:]:
        tally = tally + part
    sample = pl.concat(samples).sort(TIME, maintain_order=True)
    return _Seen(
        tally, np.concatenate(clicks), np.concatenate(scores), num_stale, min(first_times), max(last_times), sample
    )


def _chunks(table: pl.LazyFrame, num_rows: int, chunk_rows: int) -> Iterator[tuple[int, pl.DataFrame]]:
    for start in range(0, num_rows, chunk_rows):
        yield start, table.slice(start, chunk_rows).collect()


def _clicks_of(rows: pl.DataFrame) -> Counts:
    return rows[CLICK].cast(pl.Int64).fill_null(UNKNOWN_CLICK).to_numpy()


def _scores_of(rows: pl.DataFrame) -> Floats:
    return rows[SERVED_SCORE].fill_null(float("nan")).to_numpy()


def _num_repeats(table: pl.LazyFrame) -> int:
    """Rows whose impression stands in the log already; rows without one cannot repeat."""
    impressions = pl.col(IMPRESSION).drop_nulls()
    return int(table.select(impressions.len() - impressions.n_unique()).collect().item())


def _skew(sample: pl.DataFrame, scorer: Scorer, digest: str, params: WatchParams, notes: list[str]) -> list[Measure]:
    own = sample.filter((pl.col(SERVED_BUNDLE) == digest) & pl.col(SERVED_SCORE).is_finite())
    if own.height == 0:
        notes.append("no sampled row was scored by the champion: served and offline scores were not compared")
        return []
    rows = own[_evenly(own.height, params.skew_rows)]
    return [measure_skew(rows[SERVED_SCORE].to_numpy(), scorer.score(rows), params)]


def _quality(seen: _Seen, profile: ReferenceProfile, params: WatchParams, notes: list[str]) -> list[Measure]:
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
        tally = count_rows(rows, _scores_of(rows), _clicks_of(rows), scorer.encoder, profile.binning)
        for measure in measure_counts(profile, tally, fields, params):
            if measure.is_finding:
                since.setdefault((measure.check, measure.slice), _iso(rows[TIME][0]))
    return since


def _figures(seen: _Seen, profile: ReferenceProfile) -> dict[str, float | None]:
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


def _dtype(field: FieldBins) -> type[pl.DataType]:
    return pl.String if field.kind == "categorical" else pl.Float64


def _iso(microseconds: int) -> str:
    return (datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds)).isoformat()
