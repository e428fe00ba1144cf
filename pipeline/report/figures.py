"""The drawings of the report, each made from one artifact."""

from __future__ import annotations

import math
from collections.abc import Callable

from components.autopi.architecture import FoundArchitecture
from components.evaluating.evaluation import Evaluation, Figures, Interval, SliceFigures
from components.log import CheckReport
from components.splitting import Splits
from components.training import TrainedRanker
from pipeline.report.charts import Axes, Scale, Series, band, nothing_under, vertical_rule, xy_chart
from pipeline.report.strips import Stretch, Whisker, over_band, time_line, whiskers
from pipeline.report.words import percent

_LOG_AXIS_FROM = 10.0  # a spread of scores from which a linear axis would crowd most bins into a corner
_SURE = 1.96  # standard deviations on either side that hold 95 % of chance


def split_line(splits: Splits) -> str:
    """Where each split lies: in time, or by its number of rows where the split is not by time."""
    is_time = splits.rule == "time" and all(span.first_time is not None for span in splits.spans)
    stretches, start = [], 0.0
    for span in splits.spans:
        words = f"{span.num_rows:,} rows, {span.num_clicks:,} clicks"
        if is_time and span.first_time is not None and span.last_time is not None:
            stretches.append(Stretch(span.name, span.name, span.first_time, span.last_time, words))
        else:
            stretches.append(Stretch(span.name, span.name, start, start + span.num_rows, words))
        start += span.num_rows
    return time_line("the splits of the log", stretches, is_time)


def flow_of_rows(report: CheckReport) -> list[dict[str, str]]:
    """What became of the rows that were read, as parts of a bar: name, role, width in percent and count."""
    parts = [
        ("kept", "kept", report.num_rows),
        ("outside the window", "outside", report.num_rows_outside_window),
        ("dropped as duplicates", "duplicate", report.num_duplicates),
        ("set aside (quarantine)", "quarantine", report.num_quarantined),
    ]
    whole = max(report.num_rows_read, 1)
    return [
        {
            "name": name,
            "role": role,
            "width": f"{100 * count / whole:.3f}",
            "count": f"{count:,}",
            "share": percent(count / whole),
        }
        for name, role, count in parts
    ]


def search_losses(found: FoundArchitecture) -> str:
    """The course of a search: losses of weights, of alpha and beta, and on tune."""
    series = [
        Series("weights (first half of train)", "second", [(r.epoch, r.weight_loss) for r in found.history], "line"),
        Series("alpha, beta (other half)", "third", [(r.epoch, r.alpha_loss) for r in found.history], "line"),
        Series("tune", "first", [(r.epoch, r.tune_log_loss) for r in found.history], "line+points"),
    ]
    axes = Axes("epoch", "log loss (nats)", None, None, False, True, 260)
    return xy_chart("log loss over the epochs of the search", axes, series, _best_rule(found.best_epoch, True))


def training_losses(ranker: TrainedRanker) -> str:
    """Log loss on train and tune over the epochs, of each network that is averaged."""
    series = [
        one
        for member in ranker.members
        for one in (
            Series("train (as learned from)", "second", [(r.epoch, r.train_loss) for r in member.history], "line"),
            Series("tune", "first", [(r.epoch, r.tune_log_loss) for r in member.history], "line+points"),
        )
    ]
    axes = Axes("epoch", "log loss (nats)", None, None, False, True, 260)
    return xy_chart(f"log loss over the epochs of {_trainings(ranker)}", axes, series, _kept_rule(ranker, True))


def training_auc(ranker: TrainedRanker) -> str:
    """AUC on tune over the epochs, of each network that is averaged."""
    series = [
        Series("tune", "first", [(r.epoch, r.tune_auc) for r in member.history], "line+points")
        for member in ranker.members
    ]
    axes = Axes("epoch", "AUC on tune", None, None, False, True, 220)
    return xy_chart(f"AUC over the epochs of {_trainings(ranker)}", axes, series, _kept_rule(ranker, False))


def reliability(evaluation: Evaluation) -> str:
    """What scores promised against what came, with the band that chance alone fills around a perfect scorer."""
    bins = evaluation.reliability
    if not bins:
        return ""
    means = [one.mean_score for one in bins]
    is_log = min(means) > 0 and max(means) / min(means) > _LOG_AXIS_FROM
    floor = min(means) / 3 if is_log else 0.0
    rates = [max(one.click_rate, floor) for one in bins]
    low, high = min(*means, *rates), max(*means, *rates)
    spread = [_SURE * math.sqrt(one.mean_score * (1 - one.mean_score) / max(one.num_rows, 1)) for one in bins]
    lower = [(mean, min(max(mean - room, floor), high)) for mean, room in zip(means, spread, strict=True)]
    upper = [(mean, min(mean + room, high * 1.2)) for mean, room in zip(means, spread, strict=True)]
    series = [
        Series("a perfect scorer", "rule", [(low, low), (high, high)], "dashed"),
        Series(
            "the challenger, by bins of equally many rows", "first", list(zip(means, rates, strict=True)), "line+points"
        ),
    ]

    def under(x_scale: Scale, y_scale: Scale) -> str:
        return band(lower, upper, "chance", x_scale, y_scale)

    top = max(high, max(y for _, y in upper))
    bottom = min(low, min(y for _, y in lower))
    axes = Axes("mean score (promised)", "click rate (came)", (low, high), (bottom, top), is_log, False, 430)
    return xy_chart("reliability diagram", axes, series, under)


def figure_whiskers(evaluation: Evaluation, name: str) -> str:
    """Challenger, champion and oracle on one axis for the figure `name` of Figures."""
    facts = evaluation.facts
    comparison = facts.comparison
    ours = comparison.challenger if comparison is not None else facts.challenger
    values = [_whisker("first", _figure_of(ours, name))]
    if comparison is not None:
        values.append(_whisker("second", _figure_of(comparison.champion, name)))
    if facts.oracle is not None and name != "calibration_ratio":
        values.append(Whisker("third", float(getattr(facts.oracle, name)), None, None))
    ends = [end for one in values for end in (one.value, one.low, one.high) if end is not None]
    room = (max(ends) - min(ends)) * 0.1 or 0.01
    rules = [1.0] if name == "calibration_ratio" else []
    low, high = min(*ends, *rules, max(ends)) - room, max(*ends, *rules, min(ends)) + room
    return whiskers(f"{name.replace('_', ' ')} with intervals", values, low, high, rules)


def slice_whisker(part: SliceFigures) -> str:
    """A slice's ratio of promised to actual clicks, over the stretch that chance alone would fill."""
    expected = part.mean_score * part.num_rows
    room = _SURE * math.sqrt(part.score_variance) / expected if expected > 0 else 1.0
    high = 1 / (1 - room) if room < 1 else 9.0
    ratio = part.calibration_ratio
    title = f"ratio {ratio:.3f}" if ratio is not None else "no click"
    return over_band(title, ratio, (1 / (1 + room), high), (0.5, 1.5))


def is_beyond_chance(part: SliceFigures) -> bool:
    """The slice's clicks lie more than 1.96 standard deviations from what its scores promise."""
    return abs(part.num_clicks - part.mean_score * part.num_rows) > _SURE * math.sqrt(part.score_variance)


def _figure_of(figures: Figures, name: str) -> Interval:
    return {
        "auc": figures.auc,
        "log_loss": figures.log_loss,
        "normalised_entropy": figures.normalised_entropy,
        "calibration_ratio": figures.calibration_ratio,
    }[name]


def _whisker(role: str, figure: Interval) -> Whisker:
    return Whisker(role, figure.value, figure.low, figure.high)


def _trainings(ranker: TrainedRanker) -> str:
    count = len(ranker.members)
    return "the training" if count == 1 else f"the trainings of {count} networks"


def _kept_rule(ranker: TrainedRanker, is_note_on_top: bool) -> Callable[[Scale, Scale], str]:
    """Where the kept epoch is; of several networks each has its own, so none is marked."""
    return _best_rule(ranker.members[0].best_epoch if len(ranker.members) == 1 else None, is_note_on_top)


def _best_rule(best_epoch: int | None, is_note_on_top: bool) -> Callable[[Scale, Scale], str]:
    if best_epoch is None:
        return nothing_under

    def under(x_scale: Scale, y_scale: Scale) -> str:
        return vertical_rule(best_epoch, f"epoch {best_epoch} was kept", is_note_on_top, x_scale, y_scale)

    return under
