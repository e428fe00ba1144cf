"""Raw test rows through challenger and champion, and everything that is to be said of both.

The rows are read from the clean log as they would arrive at the service, so the path that is measured is the path that
is served. Shape letters: R test rows, F fields.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from components import metrics
from components.calibrating import Calibrator
from components.champion import Champion
from components.encoding import Encoded
from components.errors import IntegrityError
from components.evaluating.bootstrapping import measure
from components.evaluating.evaluation import (
    CalibrationGain,
    Comparison,
    Evaluation,
    EvaluationFacts,
    Figures,
    Oracle,
    Parity,
    RankerCost,
)
from components.evaluating.params import EvaluateParams
from components.evaluating.slicing import cluster_numbers, columns_needed, measure_slices
from components.exporting import trained_logits
from components.log import CLICK, IMPRESSION, TIME, CleanLog, LogSchema, RawLog
from components.scoring import Scorer
from components.splitting import SPLIT_NAMES, Splits
from components.training import TrainedRanker
from components.workbench import Workbench

Array = np.ndarray[Any, Any]


def evaluate_scorers(
    raw_log: RawLog,
    clean_log: CleanLog,
    splits: Splits,
    encoded: Encoded,
    ranker: TrainedRanker,
    scorer: Scorer,
    champion: Champion,
    params: EvaluateParams,
    workbench: Workbench,
) -> Evaluation:
    """Score the raw test rows with challenger and champion and measure both, the challenger also by slice and for parity.

    Raises ConfigError for fields that the schema has not, IntegrityError where the artifacts are not of one run.
    """
    schema = clean_log.schema
    kept = columns_needed(schema, params)
    breaks = schema_breaks(champion.scorer.schema, schema) if champion.scorer is not None else ()
    serving = champion.scorer if champion.scorer is not None and can_score(champion.scorer.schema, schema) else None
    scored = _score_test_rows(clean_log, splits, scorer, serving, kept, params, workbench)
    encoded_clicks = np.asarray(encoded.split("test").clicks)
    if not np.array_equal(encoded_clicks, scored.clicks):
        raise IntegrityError(
            f"evaluate: the {len(scored.clicks):,} clean test rows are not the {len(encoded_clicks):,} encoded ones; "
            "run the line again from the split stage on"
        )
    clusters = cluster_numbers(scored.rows, schema, params.cluster_by)
    workbench.progress(0.8, 1.0, f"{params.num_bootstraps} resamples")
    comparison, no_comparison = _compare(scored, champion, clusters, breaks, params)
    if comparison is not None and comparison.num_left_out == 0:
        challenger = comparison.challenger
    else:
        challenger = measure(scored.clicks, {"challenger": scored.scores}, clusters, params).figures["challenger"]
    workbench.progress(0.95, 1.0, "slices, parity, oracle")
    span = splits.span("test")
    facts = EvaluationFacts(
        confidence=params.confidence,
        num_bootstraps=params.num_bootstraps,
        cluster_by=params.cluster_by,
        num_clusters=int(clusters.max()) + 1,
        split_rule=splits.rule,
        first_time=span.first_time,
        last_time=span.last_time,
        challenger=challenger,
        champion_version=champion.version,
        champion_digest=champion.digest,
        comparison=comparison,
        no_comparison=no_comparison,
        schema_breaks=breaks,
        oracle=_oracle(raw_log, scored),
        parity=_parity(encoded, ranker, scorer, scored.scores, params.num_parity_rows),
        calibration=_calibration_gain(scorer, scored, challenger, params),
        cost=RankerCost(
            scorer.facts.ranker,
            scorer.facts.num_parameters,
            scorer.facts.num_embedding_parameters,
            scorer.facts.num_flops_per_row,
            len(scorer.onnx),
        ),
    )
    bins = metrics.reliability_bins(scored.clicks, scored.scores, params.num_bins)
    slices = measure_slices(scored.rows, scored.clicks, scored.scores, schema, params)
    workbench.progress(1.0, 1.0, f"test AUC {challenger.auc.value:.4f}, log loss {challenger.log_loss.value:.4f}")
    return Evaluation(facts, bins, slices)


def schema_breaks(served: LogSchema, new: LogSchema) -> tuple[str, ...]:
    """Say in words what a client that sends the served schema's rows would have to change for the new one; empty for nothing."""
    old_kinds, new_kinds = ({field.name: field.kind for field in schema.column_fields} for schema in (served, new))
    words = [f"field '{name}' is gone" for name in old_kinds if name not in new_kinds]
    words += [f"field '{name}' is new" for name in new_kinds if name not in old_kinds]
    words += [
        f"field '{name}' was {old_kinds[name]} and is {new_kinds[name]}"
        for name in old_kinds
        if name in new_kinds and old_kinds[name] != new_kinds[name]
    ]
    old_columns, new_columns = (
        (schema.time.column if schema.time else None, schema.impression) for schema in (served, new)
    )
    for role, old, now in zip(("time", "impression"), old_columns, new_columns, strict=True):
        if old != now:
            words.append(f"the {role} column was {_quoted(old)} and is {_quoted(now)}")
    return tuple(words)


def can_score(served: LogSchema, new: LogSchema) -> bool:
    """Say whether rows of the new schema hold every column that a scorer of the served schema reads, in its kind."""
    kinds = {field.name: field.kind for field in new.column_fields}
    lacks_time = new.time is None and any(field.is_from_time for field in served.fields)
    return not lacks_time and all(kinds.get(field.name) == field.kind for field in served.column_fields)


@dataclass(frozen=True)
class _Scored:
    """The test rows, in the clean log's order: `rows` holds time, impression and the columns of slices and clusters."""

    rows: pl.DataFrame
    clicks: Array
    logits: Array
    scores: Array
    champion_scores: Array | None


def _score_test_rows(
    clean_log: CleanLog,
    splits: Splits,
    scorer: Scorer,
    serving: Scorer | None,
    kept: tuple[str, ...],
    params: EvaluateParams,
    workbench: Workbench,
) -> _Scored:
    rows: list[pl.DataFrame] = []
    logits: list[Array] = []
    champion_scores: list[Array] = []
    for done, chunk in _test_chunks(clean_log, splits, params.chunk_rows):
        logits.append(scorer.logits_of_rows(chunk))
        if serving is not None:
            champion_scores.append(serving.score(chunk))
        rows.append(chunk.select(TIME, IMPRESSION, CLICK, *kept))
        workbench.progress(0.8 * done, 1.0, "scoring test rows")
    together = pl.concat(rows)
    logits_r = np.concatenate(logits)
    return _Scored(
        rows=together.drop(CLICK),
        clicks=together[CLICK].to_numpy(),
        logits=logits_r,
        scores=scorer.calibrator.apply(logits_r),
        champion_scores=np.concatenate(champion_scores) if serving is not None else None,
    )


def _test_chunks(clean_log: CleanLog, splits: Splits, chunk_rows: int) -> Iterator[tuple[float, pl.DataFrame]]:
    """Yield the test rows with their columns, in order and bounded memory, each time with the share of test rows done."""
    is_test = splits.assignment == SPLIT_NAMES.index("test")
    columns = [TIME, IMPRESSION, CLICK, *(field.name for field in clean_log.schema.column_fields)]
    total, done = int(is_test.sum()), 0
    for start in range(0, len(is_test), chunk_rows):
        chosen = is_test[start : start + chunk_rows]
        if not chosen.any():
            continue
        chunk = clean_log.scan().select(columns).slice(start, chunk_rows).collect()
        done += int(chosen.sum())
        yield done / total, chunk.filter(pl.Series(chosen))


def _compare(
    scored: _Scored,
    champion: Champion,
    clusters: Array,
    breaks: tuple[str, ...],
    params: EvaluateParams,
) -> tuple[Comparison | None, str | None]:
    """Hold challenger and champion against each other on rows that the champion was not trained on, or say why not."""
    if champion.version is None or champion.digest is None:
        return None, "there is no champion yet"
    if scored.champion_scores is None:
        return None, f"the champion {champion.version} cannot score these rows: {'; '.join(breaks)}"
    last_time = champion.train_last_time
    is_new = np.full(len(scored.clicks), True) if last_time is None else (scored.rows[TIME] > last_time).to_numpy()
    clicks = scored.clicks[is_new]
    num_clicks = int(clicks.sum(dtype=np.int64))
    if not 0 < num_clicks < len(clicks):
        return None, (
            f"of {len(is_new):,} test rows {len(clicks):,} (with {num_clicks:,} clicks) are later than the last row that "
            f"the champion {champion.version} was trained on; both classes are needed"
        )
    _, clusters = np.unique(clusters[is_new], return_inverse=True)
    scores = {"challenger": scored.scores[is_new], "champion": scored.champion_scores[is_new]}
    measured = measure(clicks, scores, clusters, params)
    return Comparison(
        champion_version=champion.version,
        champion_digest=champion.digest,
        num_left_out=int((~is_new).sum()),
        challenger=measured.figures["challenger"],
        champion=measured.figures["champion"],
        auc_difference=measured.difference("auc", "challenger", "champion"),
        log_loss_difference=measured.difference("log_loss", "challenger", "champion"),
        normalised_entropy_difference=measured.difference("normalised_entropy", "challenger", "champion"),
        calibration_ratio_difference=measured.difference("calibration_ratio", "challenger", "champion"),
    ), None


def _oracle(raw_log: RawLog, scored: _Scored) -> Oracle | None:
    """Measure the true probabilities, where the log has them beside it; raises IntegrityError where a row's is missing."""
    if not raw_log.truth:
        return None
    truth = pl.concat([pl.scan_parquet(raw_log.path_of(partition)) for partition in raw_log.truth])
    wanted = scored.rows.select(IMPRESSION).lazy()
    known = truth.join(wanted.unique(), on=IMPRESSION, how="semi").unique(IMPRESSION)
    joined = wanted.join(known, on=IMPRESSION, how="left", maintain_order="left").collect()["probability"]
    if joined.null_count() > 0:
        raise IntegrityError(
            f"evaluate: {joined.null_count():,} of {len(joined):,} test rows have no true probability in raw_log's truth; "
            "run fetch again"
        )
    probabilities = joined.to_numpy()
    champion_distance = None
    if scored.champion_scores is not None:
        champion_distance = float(np.abs(scored.champion_scores - probabilities).mean())
    return Oracle(
        num_rows=len(probabilities),
        auc=metrics.auc(scored.clicks, probabilities),
        log_loss=metrics.log_loss(scored.clicks, probabilities),
        normalised_entropy=metrics.normalised_entropy(scored.clicks, probabilities),
        mean_distance=float(np.abs(scored.scores - probabilities).mean()),
        champion_mean_distance=champion_distance,
    )


def _parity(encoded: Encoded, ranker: TrainedRanker, scorer: Scorer, scores: Array, num_parity_rows: int) -> Parity:
    """Send rows, evenly spread over the test split, through the encoded ids and the trained network as well."""
    chosen = np.unique(np.linspace(0, len(scores) - 1, min(num_parity_rows, len(scores))).round().astype(np.int64))
    trained = scorer.calibrator.apply(trained_logits(ranker, encoded.split("test").ids[chosen]))
    return Parity(len(chosen), float(np.abs(trained - scores[chosen]).max()))


def _calibration_gain(scorer: Scorer, scored: _Scored, challenger: Figures, params: EvaluateParams) -> CalibrationGain:
    raw_scores = Calibrator.identity(scorer.calibrator.facts.negative_keep_rate).apply(scored.logits)
    return CalibrationGain(
        method=scorer.calibrator.facts.method,
        raw_log_loss=metrics.log_loss(scored.clicks, raw_scores),
        calibrated_log_loss=challenger.log_loss.value,
        raw_calibration_error=metrics.expected_calibration_error(scored.clicks, raw_scores, params.num_bins),
        calibrated_calibration_error=challenger.calibration_error,
        reason=scorer.calibrator.facts.reason,
    )


def _quoted(name: str | None) -> str:
    return "absent" if name is None else f"'{name}'"
