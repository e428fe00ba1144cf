"""The model card: what a bundle is for, from which rows, how good and how honest it is, and where its limits lie.

Markdown from the figures alone, so the same inputs give the same card; laid out for people who decide about it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

from components.encoding import Encoded
from components.evaluating.evaluation import Evaluation, Figures, Interval, SliceFigures
from components.judging import Verdict, slice_name
from components.log import CleanLog
from components.packing.params import PackParams
from components.splitting import Splits, SplitSpan
from components.training import TrainedRanker


def write_card(
    clean_log: CleanLog,
    splits: Splits,
    encoded: Encoded,
    ranker: TrainedRanker,
    evaluation: Evaluation,
    verdict: Verdict,
    params: PackParams,
) -> str:
    """Give the card as Markdown."""
    log = clean_log.request.log
    sections = [
        f"# Click ranker for the log '{log}'",
        _summary(ranker, evaluation, verdict),
        f"## Use\n\nFor: {params.intended_use}\n\nNot for: {params.unintended_use}",
        _data(clean_log, splits),
        _quality(evaluation),
        _calibration(evaluation),
        _slices(evaluation, params.card_slices),
        _limits(clean_log, splits, encoded, ranker, evaluation),
        _verdict(verdict),
        _going_back(log),
    ]
    return "\n\n".join(sections) + "\n"


def _summary(ranker: TrainedRanker, evaluation: Evaluation, verdict: Verdict) -> str:
    cost, challenger = evaluation.facts.cost, evaluation.challenger
    decision = "to be promoted" if verdict.is_promotion else "not to be promoted: the champion stays"
    lines = [
        f"A scorer that gives each impression its probability of a click. Verdict: **{decision}**.",
        "",
        *_table(
            ("", ""),
            [
                ("ranker", ranker.name),
                ("architecture", f"`{ranker.architecture.to_text()}`" if ranker.architecture else "made by hand"),
                *(
                    [("networks whose logits are averaged", str(len(ranker.members)))]
                    if len(ranker.members) > 1
                    else []
                ),
                ("test AUC", _interval(challenger.auc)),
                ("test log loss", _interval(challenger.log_loss)),
                ("mean score / click rate", _interval(challenger.calibration_ratio)),
                ("parameters beside embeddings", f"{cost.num_parameters:,}"),
                ("parameters of embeddings", f"{cost.num_embedding_parameters:,}"),
                ("floating point operations per row", f"{cost.num_flops_per_row:,}"),
            ],
        ),
    ]
    return "\n".join(lines)


def _data(clean_log: CleanLog, splits: Splits) -> str:
    report, window = clean_log.report, clean_log.request.window
    bounds = ["open" if bound is None else str(bound) for bound in (window.start, window.end)]
    rows = [
        (span.name, f"{span.num_rows:,}", f"{span.num_clicks:,}", _share(span.num_clicks, span.num_rows), _span(span))
        for span in splits.spans
    ]
    set_aside = _share(report.num_quarantined, report.num_rows_read)
    return "\n".join(
        [
            "## Data",
            "",
            f"Window asked for: {bounds[0]} to {bounds[1]} (UTC). Rows read: {report.num_rows_read:,}; kept: "
            f"{report.num_rows:,}; set aside because they broke a promise: {report.num_quarantined:,} ({set_aside}).",
            "",
            f"Split rule: {splits.rule}. {splits.note} Rows in the gaps: {splits.num_gap_rows:,}.",
            "",
            *_table(("split", "rows", "clicks", "click rate", "from - to (UTC)"), rows),
        ]
    )


def _quality(evaluation: Evaluation) -> str:
    facts = evaluation.facts
    resampled = f"clusters by {facts.cluster_by}" if facts.cluster_by is not None else "rows"
    lines = [
        "## How good",
        "",
        f"On {facts.challenger.num_rows:,} test rows with {facts.challenger.num_clicks:,} clicks; intervals at "
        f"{_percent(facts.confidence)} confidence from {facts.num_bootstraps:,} resamples of {resampled}.",
        "",
    ]
    comparison = facts.comparison
    if comparison is None:
        lines += [f"No comparison with a champion: {facts.no_comparison}.", ""]
        lines += _table(
            ("figure", "challenger"), [(name, _interval(value)) for name, value in _named(facts.challenger)]
        )
    else:
        differences = (
            comparison.auc_difference,
            comparison.log_loss_difference,
            comparison.normalised_entropy_difference,
            comparison.calibration_ratio_difference,
        )
        left_out = f"{comparison.num_left_out:,} test rows that the champion may have been trained on are left out"
        lines += [f"Against champion {comparison.champion_version} on the same rows; {left_out}.", ""]
        lines += _table(
            ("figure", "challenger", "champion", "difference"),
            [
                (name, _interval(ours), _interval(theirs), _interval(difference))
                for (name, ours), (_, theirs), difference in zip(
                    _named(comparison.challenger), _named(comparison.champion), differences, strict=True
                )
            ],
        )
    if facts.oracle is not None:
        lines += [
            "",
            f"The log is simulated, so the true click probabilities are known: they reach AUC {facts.oracle.auc:.4f} and "
            f"log loss {facts.oracle.log_loss:.4f}; the scores are {facts.oracle.mean_distance:.4f} from them on average.",
        ]
    return "\n".join(lines)


def _calibration(evaluation: Evaluation) -> str:
    gain, challenger = evaluation.facts.calibration, evaluation.challenger
    return "\n".join(
        [
            "## How honest",
            "",
            f"Calibrator: {gain.method}{f' ({gain.reason})' if gain.reason else ''}. Expected calibration error {challenger.calibration_error:.4f}, where chance alone "
            f"gives up to {challenger.calibration_error_null:.4f}; before calibrating {gain.raw_calibration_error:.4f}. "
            f"Log loss {gain.calibrated_log_loss:.4f}, before calibrating {gain.raw_log_loss:.4f}.",
        ]
    )


def _slices(evaluation: Evaluation, num_slices: int) -> str:
    chosen = sorted(evaluation.slices, key=lambda part: (-part.num_clicks, part.field, part.value or ""))[:num_slices]
    rows = [
        (
            slice_name(part),
            f"{part.num_rows:,}",
            f"{part.num_clicks:,}",
            _percent(part.click_rate),
            _percent(part.mean_score),
            _ratio_words(part),
            _figure(part.auc),
            _figure(part.log_loss),
        )
        for part in chosen
    ]
    head = ("slice", "rows", "clicks", "click rate", "mean score", "ratio (within chance)", "AUC", "log loss")
    count = f"The {len(chosen)} slices with the most clicks, of {len(evaluation.slices)}"
    words = f"{count}; the ratio is mean score / click rate, in brackets what chance alone would do to it (95 %)."
    return "\n".join(["## By slice", "", words, "", *_table(head, rows)])


def _limits(
    clean_log: CleanLog, splits: Splits, encoded: Encoded, ranker: TrainedRanker, evaluation: Evaluation
) -> str:
    unseen = sorted(((part.unseen_shares["test"], part.field) for part in encoded.coverage), reverse=True)
    words = [
        "Scores are probabilities on rows like those of the test split. Other rows, other placements and later weeks drift "
        "away from it: `watch` compares what is served with the reference profile in this bundle.",
        "The log holds what was shown, not what could have been shown: a score says nothing of cause and effect.",
    ]
    if unseen and unseen[0][0] > 0:
        share, field = unseen[0]
        words.append(
            f"Values that train never saw share one id; most often in '{field}': {_percent(share)} of test rows."
        )
    if clean_log.schema.time is None or splits.rule != "time":
        words.append(
            f"The split is not by time (rule '{splits.rule}'), so the figures may flatter what comes next week."
        )
    if evaluation.challenger.num_clicks < 1_000:
        words.append(f"The test split has only {evaluation.challenger.num_clicks:,} clicks: its intervals are wide.")
    if ranker.negative_keep_rate < 1:
        words.append(
            f"Trained on all clicks and {_percent(ranker.negative_keep_rate)} of the other rows; scores are corrected."
        )
    if ranker.limit_batches is not None:
        words.append(f"A QUICK LOOK: trained on at most {ranker.limit_batches} batches an epoch. Do not serve it.")
    return "\n".join(["## Limits", "", *(f"- {part}" for part in words)])


def _verdict(verdict: Verdict) -> str:
    rows = [(check.name, "passed" if check.passed else "**failed**", check.words) for check in verdict.checks]
    against = f"against champion {verdict.champion_version}" if verdict.champion_version else "as the first promotion"
    return "\n".join(["## Verdict", "", f"Judged {against}.", "", *_table(("check", "result", "in words"), rows)])


def _going_back(log: str) -> str:
    return "\n".join(
        [
            "## Going back",
            "",
            "    python -m pipeline rollback --hold REASON",
            "",
            "makes the version before this one the champion again (`--to vX.Y.Z` another; `python -m pipeline history` lists "
            "them). Running services take it over by themselves, and nothing is promoted until `python -m pipeline release`. "
            f"Versions are git tags `ctr-ranker-{log}@vX.Y.Z`; the last `ctr-ranker-{log}#prod#N` is the champion.",
        ]
    )


def _named(figures: Figures) -> list[tuple[str, Interval]]:
    return [
        ("AUC", figures.auc),
        ("log loss", figures.log_loss),
        ("normalised entropy", figures.normalised_entropy),
        ("mean score / click rate", figures.calibration_ratio),
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _interval(figure: Interval) -> str:
    if figure.low is None or figure.high is None:
        return f"{figure.value:.4f} (too few clicks for an interval)"
    return f"{figure.value:.4f} ({figure.low:.4f} to {figure.high:.4f})"


def _ratio_words(part: SliceFigures) -> str:
    expected = part.mean_score * part.num_rows
    if part.calibration_ratio is None or expected <= 0:
        return "no click"
    room = 1.96 * math.sqrt(part.score_variance) / expected
    high = f"{1 / (1 - room):.2f}" if room < 1 else "any"
    return f"{part.calibration_ratio:.2f} ({1 / (1 + room):.2f} to {high})"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _share(part: int, whole: int) -> str:
    return _percent(part / whole) if whole else "-"


def _span(span: SplitSpan) -> str:
    if span.first_time is None or span.last_time is None:
        return "no time"
    first, last = (datetime.fromtimestamp(moment / 1e6, UTC) for moment in (span.first_time, span.last_time))
    return f"{first:%Y-%m-%d %H:%M} - {last:%Y-%m-%d %H:%M}"
