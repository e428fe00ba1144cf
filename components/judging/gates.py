"""Every gate but those of ratio and size, each a line of the verdict, and the decision over them all."""

from __future__ import annotations

from collections.abc import Sequence

from components.evaluating.evaluation import Comparison, Evaluation, Figures
from components.judging.size import KnownBytes, check_size, known_bytes
from components.judging.slices import check_overall, check_slices
from components.judging.verdict import GateCheck, JudgeParams, Verdict
from components.scoring import Scorer


def judge(scorer: Scorer, evaluation: Evaluation, params: JudgeParams) -> Verdict:
    """Hold the challenger to every gate; it is promoted if it passes them all."""
    return decide(evaluation, known_bytes(scorer, evaluation), params)


def decide(evaluation: Evaluation, known: KnownBytes, params: JudgeParams) -> Verdict:
    """Decide from figures alone."""
    facts = evaluation.facts
    checks = (
        *_quality(evaluation, params),
        _entropy(facts.challenger, params),
        check_overall(facts.challenger, params),
        check_slices(evaluation.slices, facts.challenger, facts.confidence, params),
        _calibration_error(facts.challenger, params),
        _at_most(
            "train/serve parity",
            facts.parity.max_score_difference,
            params.max_parity_difference,
            f"the scorer that is served and the network that was trained differ by {facts.parity.max_score_difference:.1e} "
            f"at most on {facts.parity.num_rows:,} rows ({params.max_parity_difference:.0e} allowed)",
        ),
        _at_most(
            "cost per row",
            facts.cost.num_flops_per_row,
            params.max_flops_per_row,
            f"one score takes {facts.cost.num_flops_per_row:,} floating point operations "
            f"({params.max_flops_per_row:,} allowed)",
        ),
        check_size(known, params),
        _schema(evaluation, params),
    )
    failed = [check for check in checks if not check.passed]
    return Verdict(
        decision="keep_champion" if failed else "promote",
        reasons=tuple(check.words for check in failed) if failed else _reasons_for(evaluation, checks),
        checks=checks,
        champion_version=facts.champion_version,
        champion_digest=facts.champion_digest,
    )


def _quality(evaluation: Evaluation, params: JudgeParams) -> tuple[GateCheck, ...]:
    """Ranking and log loss against the champion; before the first promotion, the absolute limit of AUC."""
    facts = evaluation.facts
    sureness = f"at {_percent(facts.confidence)} confidence"
    if facts.comparison is not None:
        return _auc_loss(facts.comparison, sureness, params), _log_loss_rise(facts.comparison, sureness, params)
    if facts.champion_digest is not None and not (facts.schema_breaks and params.is_schema_break_allowed):
        words = f"the challenger could not be compared with champion {facts.champion_version}: {facts.no_comparison}"
        return (GateCheck("comparison", None, None, False, words),)
    auc = facts.challenger.auc
    limit = params.first_min_auc
    found = f"AUC {auc.value:.4f}, {sureness} no lower than {_figure(auc.low)}"
    words = f"{found}; a first promotion must reach {limit:g}"
    return (GateCheck("AUC", auc.low, limit, auc.low is not None and auc.low >= limit, words),)


def _auc_loss(comparison: Comparison, sureness: str, params: JudgeParams) -> GateCheck:
    difference = comparison.auc_difference
    passed = difference.low is not None and difference.low >= -params.max_auc_loss
    words = (
        f"AUC {comparison.challenger.auc.value:.4f} against the champion's {comparison.champion.auc.value:.4f}: "
        f"{difference.value:+.4f}, {sureness} no worse than {_signed(difference.low)} (-{params.max_auc_loss:.4f} allowed)"
    )
    return GateCheck("AUC", difference.low, -params.max_auc_loss, passed, words)


def _log_loss_rise(comparison: Comparison, sureness: str, params: JudgeParams) -> GateCheck:
    difference = comparison.log_loss_difference
    limit = params.max_log_loss_rise_share * comparison.champion.log_loss.value
    passed = difference.high is not None and difference.high <= limit
    words = (
        f"log loss {comparison.challenger.log_loss.value:.4f} against the champion's "
        f"{comparison.champion.log_loss.value:.4f}: {difference.value:+.4f}, {sureness} no worse than "
        f"{_signed(difference.high)} (+{limit:.4f} allowed)"
    )
    return GateCheck("log loss", difference.high, limit, passed, words)


def _entropy(challenger: Figures, params: JudgeParams) -> GateCheck:
    entropy, limit = challenger.normalised_entropy, params.max_normalised_entropy
    words = (
        f"normalised entropy {entropy.value:.4f}, at most {_figure(entropy.high)} within its interval; "
        f"it must stay below {limit:g}, which is what the click rate alone would reach"
    )
    return GateCheck(
        "normalised entropy", entropy.high, limit, entropy.high is not None and entropy.high < limit, words
    )


def _calibration_error(challenger: Figures, params: JudgeParams) -> GateCheck:
    error, null = challenger.calibration_error, challenger.calibration_error_null
    limit = null + params.max_ece_excess_share * challenger.click_rate
    words = (
        f"calibration error (ECE) {error:.4f}; chance alone gives up to {null:.4f}, and {limit:.4f} is allowed, which is "
        f"{_percent(params.max_ece_excess_share)} of the click rate more"
    )
    return GateCheck("calibration error", error, limit, error <= limit, words)


def _schema(evaluation: Evaluation, params: JudgeParams) -> GateCheck:
    breaks = evaluation.facts.schema_breaks
    if not breaks:
        words = (
            "no champion yet, so no schema to break"
            if evaluation.facts.champion_digest is None
            else "the schema is unbroken"
        )
        return GateCheck("schema", 0.0, 0.0, True, words)
    told = "; ".join(breaks)
    if params.is_schema_break_allowed:
        return GateCheck("schema", float(len(breaks)), None, True, f"the schema is broken, which params allow: {told}")
    return GateCheck("schema", float(len(breaks)), 0.0, False, f"the schema is broken against the champion's: {told}")


def _at_most(name: str, measured: float, limit: float, words: str) -> GateCheck:
    return GateCheck(name, float(measured), float(limit), measured <= limit, words)


def _reasons_for(evaluation: Evaluation, checks: Sequence[GateCheck]) -> tuple[str, ...]:
    """Why a challenger may be promoted: that all checks passed, and the figures that people ask for first."""
    champion = evaluation.facts.champion_version
    against = f"against champion {champion}" if champion is not None else "of a first promotion"
    told = [check.words for check in checks if check.name in ("AUC", "log loss", "calibration overall")]
    return (f"all {len(checks)} checks {against} passed", *told)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _figure(value: float | None) -> str:
    return "(unknown: too few clicks)" if value is None else f"{value:.4f}"


def _signed(value: float | None) -> str:
    return "(unknown: too few clicks)" if value is None else f"{value:+.4f}"
