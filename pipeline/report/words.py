"""Figures and findings in words, for people who never saw the project; the page and the terminal say the same."""

from __future__ import annotations

from datetime import UTC, datetime

from components.evaluating.evaluation import Evaluation, Figures, Interval
from components.judging import Verdict
from pipeline.report.planted_use import in_words
from pipeline.report.reading import Run


def percent(share: float) -> str:
    """A share in percent with three digits that count."""
    return f"{100 * share:.3g} %"


def interval(figure: Interval) -> str:
    """The bounds of a figure, or why there are none."""
    if figure.low is None or figure.high is None:
        return "too few clicks for an interval"
    return f"{figure.low:.4f} to {figure.high:.4f}"


def moment(microseconds: int | None) -> str:
    """A time of the log in UTC, to the minute."""
    return "-" if microseconds is None else f"{datetime.fromtimestamp(microseconds / 1e6, UTC):%Y-%m-%d %H:%M}"


def num_bytes(size: int) -> str:
    """A size in kB or MB."""
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size / 1e3:,.1f} kB"


def figure(value: float | None, digits: int) -> str:
    """A figure with so many digits after the point, or a dash where it is undefined."""
    return "–" if value is None else f"{value:.{digits}f}"


def decision(verdict: Verdict) -> str:
    """The headline of the run."""
    if verdict.is_promotion:
        return "Promote the challenger"
    return "Keep the champion" if verdict.champion_digest is not None else "Do not promote: there is no champion yet"


def ranking(figures: Figures) -> str:
    """AUC in a sentence."""
    pairs = round(100 * figures.auc.value)
    return f"it ranks an impression that was clicked above one that was not in {pairs} of 100 such pairs (50 is chance)"


def honesty(figures: Figures) -> str:
    """Calibration in a sentence."""
    ratio = figures.calibration_ratio.value
    off = abs(ratio - 1)
    overall = (
        "its scores promise as many clicks as came"
        if off < 0.005
        else f"its scores promise {percent(off)} {'more' if ratio > 1 else 'fewer'} clicks than came"
    )
    is_chance = figures.calibration_error <= figures.calibration_error_null
    spread = (
        "no more than chance explains"
        if is_chance
        else f"more than the {figures.calibration_error_null:.4f} that chance explains"
    )
    return f"{overall}; score by score they are off by {figures.calibration_error:.4f} on average, {spread}"


def against_champion(evaluation: Evaluation) -> str:
    """The comparison in a sentence."""
    comparison = evaluation.comparison
    if comparison is None:
        return f"It was not compared with a champion: {evaluation.facts.no_comparison}."
    auc, loss = comparison.auc_difference, comparison.log_loss_difference
    return (
        f"Against champion {comparison.champion_version} on the same {comparison.challenger.num_rows:,} rows its AUC is "
        f"{_than(auc, 'higher', 'lower')} and its log loss {_than(loss, 'higher (worse)', 'lower (better)')}."
    )


def story(run: Run) -> list[str]:
    """The run in a few sentences."""
    sentences = []
    if run.clean_log is not None:
        report = run.clean_log.report
        rate = percent(report.num_clicks / report.num_rows) if report.num_rows else "unknown"
        set_aside = (
            f", after {report.num_quarantined:,} that broke a promise were set aside" if report.num_quarantined else ""
        )
        sentences.append(
            f"The run learned from {report.num_rows:,} impressions of the log “{run.clean_log.request.log}”{set_aside}; "
            f"{rate} of them were clicked."
        )
    if run.evaluation is not None:
        challenger = run.evaluation.challenger
        sentences.append(
            f"On {challenger.num_rows:,} {'later' if run.evaluation.facts.split_rule == 'time' else 'held-out'} impressions "
            f"the challenger was measured: "
            f"{ranking(challenger)}, and {honesty(challenger)}."
        )
        sentences.append(against_champion(run.evaluation))
    return sentences


def summary_of(run: Run) -> list[str]:
    """The run in lines for a terminal."""
    lines = []
    if run.clean_log is not None:
        report = run.clean_log.report
        rate = percent(report.num_clicks / report.num_rows) if report.num_rows else "unknown"
        lines.append(
            f"rows          {report.num_rows:,} of {report.num_rows_read:,} read "
            f"({report.num_quarantined:,} set aside), click rate {rate}"
        )
    if run.architecture is not None:
        lines.append(f"architecture  {run.architecture.architecture.to_text()}")
    if run.evaluation is not None:
        lines += _figures_of(run.evaluation)
    if run.planted is not None:
        lines.append(f"planted       {in_words(run.planted)}")
    if run.verdict is not None:
        lines.append(f"verdict       {decision(run.verdict)}")
        lines += [f"              - {reason}" for reason in run.verdict.reasons]
    if run.drift is not None:
        number = len(run.drift.findings)
        lines.append(
            f"drift         {run.drift.status.replace('_', ' ')}, {number} finding{'s' if number != 1 else ''}"
        )
    return lines


def _figures_of(evaluation: Evaluation) -> list[str]:
    comparison = evaluation.comparison
    scorers = [("challenger", evaluation.challenger)]
    if comparison is not None:
        scorers.append((f"champion {comparison.champion_version}", comparison.champion))
    width = max(len(name) for name, _ in scorers)
    lines = [
        f"{'test' if place == 0 else '':<13} {name:<{width}}  AUC {one.auc.value:.4f} ({interval(one.auc)})  "
        f"log loss {one.log_loss.value:.4f}  calibration error {one.calibration_error:.4f} "
        f"(chance: up to {one.calibration_error_null:.4f})"
        for place, (name, one) in enumerate(scorers)
    ]
    oracle = evaluation.facts.oracle
    if oracle is not None:
        lines.append(
            f"{'':<13} {'oracle':<{width}}  AUC {oracle.auc:.4f}  log loss {oracle.log_loss:.4f} (true probabilities)"
        )
    return lines


def _than(difference: Interval, above: str, below: str) -> str:
    if difference.low is not None and difference.high is not None and difference.low <= 0 <= difference.high:
        return f"no different beyond chance ({difference.value:+.4f}, {_signed_bounds(difference)})"
    bounds = f" ({_signed_bounds(difference)})" if difference.low is not None else ""
    return f"{abs(difference.value):.4f} {above if difference.value > 0 else below}{bounds}"


def _signed_bounds(difference: Interval) -> str:
    return f"interval {difference.low:+.4f} to {difference.high:+.4f}"
