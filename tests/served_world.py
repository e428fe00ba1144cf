"""A small world for the tests of watching and serving: rows whose true click probability is the scorer's own score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from components.calibrating import Calibrator
from components.champion import Champion
from components.encoding import Encoder
from components.encoding.codes import Buckets, Calendar, Vocabulary
from components.log import Field, LogRequest, LogSchema, ServedLog, SourceParams, TimeColumn, Window
from components.profiling import ProfileParams, build_profile
from components.scoring import Scorer, ScorerFacts
from components.watching import Finding, WatchParams
from components.watching.drift import DriftFacts
from components.watching.watch import compare_served
from components.workbench import Workbench
from pipeline.bench_drift.world import linear_ranker

DIGEST = "ab" * 32
DAY = 24 * 3_600_000_000
START = 20_000 * DAY  # 2024-10-04
MIDNIGHT = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=START)
WHENEVER = Window(None, None, None)
Watch = Callable[..., DriftFacts]

PROFILE_PARAMS = ProfileParams(top_values=50, numeric_buckets=20, score_buckets=20, sample_rows=2_000, seed=1)
WATCH_PARAMS = WatchParams(
    false_pages_per_quarter=1.0,
    false_tickets_per_week=1.0,
    windows_per_day=24.0,
    label_delay_hours=24.0,
    minimum_bin_rows=20,
    minimum_hour_rows=200,
    minimum_psi=0.1,
    minimum_share_change=0.02,
    minimum_unit_factor=5.0,
    minimum_ratio_change=0.03,
    minimum_slice_ratio_change=0.1,
    minimum_score_change=0.1,
    minimum_concept_change=0.05,
    minimum_auc_drop=0.01,
    minimum_slice_auc_drop=0.03,
    minimum_slice_clicks=30,
    minimum_volume_change=0.5,
    usual_volume_deviation=0.1,
    max_duplicate_share=0.001,
    max_stale_share=0.01,
    rollout_grace_hours=1.0,
    max_unreadable_share=0.001,
    max_outside_share=0.001,
    max_late_share=0.01,
    max_clickless_share=0.05,
    skew_tolerance=1e-6,
    confidence=0.95,
    discovery_rate=0.05,
    minimum_rows=500,
    sample_rows=10_000,
    skew_rows=500,
    report_rows=1_000,
    since_parts=10,
    num_movers=3,
    chunk_rows=7_000,
    seed=3,
)


@dataclass(frozen=True)
class World:
    """A schema of categorical and numeric fields, the shares of each value, and a scorer whose scores are true."""

    schema: LogSchema
    shares: dict[str, np.ndarray[Any, Any]]
    scorer: Scorer

    def rows(
        self, seed: int, num_rows: int, shares: dict[str, np.ndarray[Any, Any]] | None = None, missing: float = 0.05
    ) -> pl.DataFrame:
        """One day of rows in time order; `shares` replaces those of some fields, `missing` of each field's values are null."""
        generator = np.random.default_rng(seed)
        columns: dict[str, pl.Series] = {}
        for field in self.schema.column_fields:
            is_null = generator.random(num_rows) < missing
            if field.kind == "numeric":
                values = pl.Series(generator.gamma(2.0, 3.0, num_rows))
            else:
                share = (shares or {}).get(field.name, self.shares[field.name])
                values = pl.Series([f"v{number}" for number in generator.choice(len(share), num_rows, p=share)])
            columns[field.name] = pl.select(pl.when(~pl.Series(is_null)).then(values)).to_series()
        times = np.sort(generator.integers(START, START + DAY, num_rows))
        names = [f"{seed}-{number}" for number in range(num_rows)]
        return pl.DataFrame({"_impression": names, "_time": times, **columns})

    def clicks(self, seed: int, scores: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Clicks drawn from the scores."""
        return (np.random.default_rng(seed).random(len(scores)) < scores).astype(np.int64)

    def champion(self, num_rows: int, folder: Path | None = None) -> Champion:
        """A champion whose reference rows have seed 0; with a folder, its evaluation lies there, sliced by c0, n0 and the hour."""
        rows = self.rows(0, num_rows)
        scores = self.scorer.score(rows)
        clicks = self.clicks(1, scores)
        if folder is not None:
            from tests.evaluated_world import evaluation_of  # brings torch, which few tests need

            evaluation_of(rows, clicks, scores, self.schema).save(folder)
        profile = build_profile(rows, scores, clicks, self.scorer.encoder, PROFILE_PARAMS)
        return Champion("v1.0.0", DIGEST, None, None, self.scorer, profile, folder)

    def request(self, window: Window = WHENEVER) -> LogRequest:
        """A request of a window; by default of everything."""
        source = SourceParams(
            "table", ("rows.csv",), {"separator": ",", "ignored_columns": None, "partition_pattern": None}
        )
        return LogRequest("tests", source, self.schema, window)

    def served_log(
        self,
        folder: Path,
        rows: pl.DataFrame,
        clicks: np.ndarray[Any, Any] | list[int | None] | None,
        window: Window = WHENEVER,
    ) -> ServedLog:
        """Rows as if the champion had served them; a column `score` or `bundle` in `rows` stands as it is."""
        folder.mkdir(parents=True)
        table = rows if "score" in rows.columns else rows.with_columns(pl.Series("score", self.scorer.score(rows)))
        table = table if "bundle" in rows.columns else table.with_columns(pl.lit(DIGEST).alias("bundle"))
        known = [None] * rows.height if clicks is None else clicks
        table.with_columns(pl.Series("_click", known, dtype=pl.Int8)).write_parquet(folder / "rows.parquet")
        return ServedLog(self.request(window), folder)


def make_world(num_categorical: int, num_numeric: int) -> World:
    """Categorical fields c0, c1, ... of 3 to 200 values, of which the rarest are unseen; numeric n0, n1, ...; the hour."""
    generator = np.random.default_rng(7)
    sizes = [(3, 8, 20, 60, 200)[number % 5] for number in range(num_categorical)]
    shares = {f"c{number}": generator.dirichlet(np.full(size, 2.0)) for number, size in enumerate(sizes)}
    fields = [
        *(Field(name, "categorical", None, 0.2, None, None) for name in shares),
        *(Field(f"n{number}", "numeric", "quantiles", 0.2, 0.0, 1_000.0) for number in range(num_numeric)),
        Field("hour", "hour", None, 0.0, None, None),
    ]
    schema = LogSchema("click", TimeColumn("time", "iso8601"), "id", None, None, tuple(fields))
    codes: list[Vocabulary | Buckets | Calendar] = []
    for field in fields:
        if field.kind == "categorical":
            known = [f"v{value}" for value in range(int(len(shares[field.name]) * 0.98))]
            codes.append(Vocabulary(field.name, pl.Series(field.name, known), 0))
        else:
            codes.append(Buckets(field.name, (2.0, 4.0, 6.0, 9.0)) if field.kind == "numeric" else Calendar("hour"))
    encoder = Encoder(schema, tuple(codes))
    scale = 1.0 / np.sqrt(len(fields))
    facts = ScorerFacts("linear", 1, sum(encoder.field_sizes), 1, 1.0, 1, 4_096)
    weights = generator.normal(0, scale, sum(encoder.field_sizes)).astype(np.float32)
    onnx_bytes = linear_ranker(encoder.field_sizes, weights, bias=-3.0)  # about 5 % clicks
    return World(schema, shares, Scorer(schema, encoder, Calibrator.identity(1.0), onnx_bytes, facts))


def watching(world: World, champion: Champion, folder: Path, bench: Workbench) -> Watch:
    """Watch rows and their clicks, of a window if one is given: the comparison alone, without the report for people."""

    def act(rows: pl.DataFrame, clicks: np.ndarray | list[int | None] | None, window: Window = WHENEVER) -> DriftFacts:
        served = world.served_log(folder / "served", rows, clicks, window)
        return compare_served(champion, served, WATCH_PARAMS, bench).facts

    return act


def finding_of(drift: DriftFacts, check: str) -> Finding:
    """The one finding of a check."""
    (finding,) = [finding for finding in drift.findings if finding.check == check]
    return finding


def found(drift: DriftFacts) -> set[tuple[str, str]]:
    """Check and slice of every finding."""
    return {(finding.check, finding.slice) for finding in drift.findings}
