"""The verdict, case by case: each gate is tried on both sides of its limit, the rest of the evaluation being good."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.errors import ConfigError, IntegrityError
from components.evaluating.evaluation import (
    CalibrationGain,
    Comparison,
    Evaluation,
    EvaluationFacts,
    Figures,
    Interval,
    Parity,
    RankerCost,
    SliceFigures,
)
from components.judging import (
    GateCheck,
    JudgeParams,
    KnownBytes,
    Verdict,
    chance_inside,
    clicks_needed,
    decide,
    holm_adjusted,
)

PARAMS = JudgeParams(
    first_min_auc=0.55,
    max_normalised_entropy=1.0,
    max_auc_loss=0.003,
    max_log_loss_rise_share=0.01,
    ratio_low=0.9,
    ratio_high=1.1,
    max_ece_excess_share=0.1,
    max_parity_difference=1e-6,
    max_flops_per_row=1_000_000,
    max_bundle_bytes=10_000_000,
    other_bundle_bytes=1_000_000,
    is_schema_break_allowed=False,
)

KNOWN = KnownBytes(scorer=200_000, ranker=100_000, evaluation=10_000)

FIGURES = Figures(
    num_rows=100_000,
    num_clicks=3_000,
    click_rate=0.03,
    mean_score=0.0303,
    auc=Interval(0.75, 0.74, 0.76),
    log_loss=Interval(0.12, 0.118, 0.122),
    normalised_entropy=Interval(0.89, 0.87, 0.91),
    calibration_ratio=Interval(1.01, 0.98, 1.04),
    calibration_error=0.002,
    calibration_error_null=0.0025,
)

COMPARISON = Comparison(
    champion_version="v1.2.0",
    champion_digest="c" * 64,
    num_left_out=0,
    challenger=FIGURES,
    champion=dataclasses.replace(FIGURES, auc=Interval(0.749, 0.739, 0.759), log_loss=Interval(0.12, 0.118, 0.122)),
    auc_difference=Interval(0.001, -0.002, 0.004),
    log_loss_difference=Interval(0.0, -0.001, 0.001),
    normalised_entropy_difference=Interval(0.0, -0.01, 0.01),
    calibration_ratio_difference=Interval(0.0, -0.01, 0.01),
)


def slice_of(
    value: str | None, num_rows: int, num_clicks: int, mean_score: float, is_rest: bool = False
) -> SliceFigures:
    return SliceFigures(
        field="device",
        value=value,
        is_rest=is_rest,
        num_rows=num_rows,
        num_clicks=num_clicks,
        click_rate=num_clicks / num_rows,
        mean_score=mean_score,
        score_variance=num_rows * mean_score * (1 - mean_score),
        calibration_ratio=mean_score * num_rows / num_clicks if num_clicks else None,
        auc=0.7,
        log_loss=0.1,
        normalised_entropy=0.9,
    )


def evaluation(has_champion: bool, slices: tuple[SliceFigures, ...] = (), **changes: Any) -> Evaluation:
    """A good evaluation, with or without a champion, but for `changes` of its facts."""
    facts = EvaluationFacts(
        confidence=0.95,
        num_bootstraps=200,
        cluster_by=None,
        num_clusters=100_000,
        split_rule="time",
        first_time=0,
        last_time=1,
        challenger=FIGURES,
        comparison=COMPARISON if has_champion else None,
        no_comparison=None if has_champion else "no champion yet",
        champion_version="v1.2.0" if has_champion else None,
        champion_digest="c" * 64 if has_champion else None,
        schema_breaks=(),
        oracle=None,
        parity=Parity(10_000, 1e-7),
        calibration=CalibrationGain("platt", 0.121, 0.12, 0.004, 0.002),
        cost=RankerCost("autopi", 1_000, 10_000, 50_000, 100_000),
    )
    return Evaluation(dataclasses.replace(facts, **changes), (), slices)


def compared(**changes: Any) -> dict[str, Any]:
    return {"comparison": dataclasses.replace(COMPARISON, **changes)}


def measured(**changes: Any) -> dict[str, Any]:
    return {"challenger": dataclasses.replace(FIGURES, **changes)}


INDEPENDENT = measured(
    calibration_ratio=Interval(1.0, 0.984, 1.017)
)  # of 13,500 clicks in rows that do not go together


def cost(**changes: Any) -> dict[str, Any]:
    return {"cost": dataclasses.replace(RankerCost("autopi", 1_000, 10_000, 50_000, 100_000), **changes)}


# (has a champion, what is changed, the check that fails or None); each limit is tried on both sides
CASES: dict[str, tuple[bool, dict[str, Any], str | None]] = {
    "all good against a champion": (True, {}, None),
    "all good, first promotion": (False, {}, None),
    "AUC surely within the margin": (True, compared(auc_difference=Interval(-0.001, -0.003, 0.001)), None),
    "AUC not surely within the margin": (True, compared(auc_difference=Interval(0.001, -0.0031, 0.004)), "AUC"),
    "AUC far worse": (True, compared(auc_difference=Interval(-0.05, -0.06, -0.04)), "AUC"),
    "AUC of too few clicks": (True, compared(auc_difference=Interval(0.01, None, None)), "AUC"),
    "log loss surely within the margin": (True, compared(log_loss_difference=Interval(0.0, -0.001, 0.0012)), None),
    "log loss not surely within it": (
        True,
        compared(log_loss_difference=Interval(-0.001, -0.003, 0.00121)),
        "log loss",
    ),
    "log loss of too few clicks": (True, compared(log_loss_difference=Interval(-0.001, None, None)), "log loss"),
    "first promotion surely ranks": (False, measured(auc=Interval(0.6, 0.55, 0.65)), None),
    "first promotion may not rank": (False, measured(auc=Interval(0.9, 0.549, 0.99)), "AUC"),
    "first promotion of too few clicks": (False, measured(auc=Interval(0.9, None, None)), "AUC"),
    "entropy at one": (False, measured(normalised_entropy=Interval(0.95, 0.9, 1.0)), "normalised entropy"),
    "entropy below one": (False, measured(normalised_entropy=Interval(0.95, 0.9, 0.999)), None),
    "entropy above one against a champion": (
        True,
        measured(normalised_entropy=Interval(1.05, 1.0, 1.1)),
        "normalised entropy",
    ),
    "ratio below the band, perhaps by chance": (True, measured(calibration_ratio=Interval(0.87, 0.84, 0.9)), None),
    "ratio surely below the band": (
        True,
        measured(calibration_ratio=Interval(0.87, 0.84, 0.899)),
        "calibration overall",
    ),
    "ratio above the band, perhaps by chance": (True, measured(calibration_ratio=Interval(1.107, 1.04, 1.18)), None),
    "ratio surely above the band": (
        False,
        measured(calibration_ratio=Interval(1.13, 1.101, 1.16)),
        "calibration overall",
    ),
    "ratio as sure as the band is wide": (True, measured(calibration_ratio=Interval(1.0, 0.91, 1.1)), None),
    "ratio less sure than the band is wide": (
        True,
        measured(calibration_ratio=Interval(1.0, 0.9, 1.1)),
        "calibration overall",
    ),
    "ratio of too few clicks": (True, measured(calibration_ratio=Interval(1.0, None, None)), "calibration overall"),
    "ECE at its limit": (True, measured(calibration_error=0.0025 + 0.1 * 0.03), None),
    "ECE above its limit": (True, measured(calibration_error=0.0056), "calibration error"),
    "parity at its limit": (True, {"parity": Parity(10_000, 1e-6)}, None),
    "parity above its limit": (True, {"parity": Parity(10_000, 1.1e-6)}, "train/serve parity"),
    "cost at its limit": (True, cost(num_flops_per_row=1_000_000), None),
    "cost above its limit": (True, cost(num_flops_per_row=1_000_001), "cost per row"),
    "schema broken": (True, {"schema_breaks": ("field 'device' is gone",)}, "schema"),
    "champion without rows to compare": (True, {"comparison": None, "no_comparison": "no row left"}, "comparison"),
}


def judge(evaluation: Evaluation, params: JudgeParams) -> Verdict:
    """The verdict on a bundle that is small enough."""
    return decide(evaluation, KNOWN, params)


@pytest.mark.parametrize("name", CASES)
def test_the_table_of_cases(name: str) -> None:
    has_champion, changes, failing = CASES[name]
    verdict = judge(evaluation(has_champion, **changes), PARAMS)
    failed = [check for check in verdict.checks if not check.passed]
    assert [check.name for check in failed] == ([failing] if failing else [])
    assert verdict.decision == ("keep_champion" if failing else "promote")
    assert verdict.is_promotion is (failing is None)
    assert verdict.champion_digest == ("c" * 64 if has_champion else None)
    if failing:
        assert verdict.reasons == tuple(check.words for check in failed)


@pytest.mark.parametrize(("scorer", "is_too_large"), [(8_990_000, False), (8_990_001, True)])
def test_the_whole_bundle_counts_with_the_room_for_what_is_packed_later(scorer: int, is_too_large: bool) -> None:
    """By hand: scorer, 10,000 bytes of evaluation and 1,000,000 set aside are to be at most 10,000,000."""
    verdict = decide(evaluation(True), KnownBytes(scorer, 100_000, 10_000), PARAMS)
    assert [check.name for check in verdict.checks if not check.passed] == (["bundle size"] if is_too_large else [])
    check = next(check for check in verdict.checks if check.name == "bundle size")
    assert (check.measured, check.limit) == (scorer + 1_010_000, 10_000_000)
    assert "10.0 MB allowed" in check.words
    assert "9.0 MB of scorer, of which the exported ranker is 0.1 MB, 10.0 kB of evaluation" in check.words


@pytest.mark.parametrize("other", [0, 10_000_000])
def test_room_for_the_rest_of_the_bundle_must_lie_within_its_limit(other: int) -> None:
    with pytest.raises(ConfigError, match="other_bundle_bytes"):
        dataclasses.replace(PARAMS, other_bundle_bytes=other)


def test_several_faults_are_all_told() -> None:
    bad = evaluation(True, **cost(num_flops_per_row=10**9), parity=Parity(10_000, 0.1))
    verdict = judge(bad, PARAMS)
    assert len(verdict.reasons) == 2
    assert "1,000,000,000" in " ".join(verdict.reasons)


def test_reasons_hold_the_figures_that_people_ask_for() -> None:
    promoted = " / ".join(judge(evaluation(True), PARAMS).reasons)
    for words in ("all 10 checks", "v1.2.0", "AUC 0.7500", "0.7490", "+0.0010", "-0.0020", "log loss", "ratio 1.010"):
        assert words in promoted
    kept = judge(evaluation(True, **compared(auc_difference=Interval(-0.02, -0.03, -0.01))), PARAMS).reasons[0]
    assert "-0.0200" in kept
    assert "95 % confidence" in kept


def test_a_schema_break_that_params_allow_is_judged_by_absolute_limits() -> None:
    allowed = dataclasses.replace(PARAMS, is_schema_break_allowed=True)
    broken = {"schema_breaks": ("field 'device' is gone",), "comparison": None, "no_comparison": "schema"}
    assert judge(evaluation(True, **broken), allowed).is_promotion
    worthless = measured(auc=Interval(0.5, 0.45, 0.55))
    assert not judge(evaluation(True, **broken, **worthless), allowed).is_promotion
    assert not judge(evaluation(True, **broken), PARAMS).is_promotion


def test_a_large_slice_that_promises_too_much_stops_the_promotion_and_is_named() -> None:
    good = slice_of("phone", 50_000, 1_500, 0.0301)
    bad = slice_of("tablet", 50_000, 1_500, 0.0375)
    verdict = judge(evaluation(True, (good, bad)), PARAMS)
    assert not verdict.is_promotion
    assert "device = tablet: ratio 1.250" in verdict.reasons[0]
    assert "phone" not in verdict.reasons[0]
    assert judge(evaluation(True, (good,)), PARAMS).is_promotion


def test_a_slice_outside_the_band_by_chance_alone_does_not_count() -> None:
    """At 430 clicks a ratio of 1.22 is 2.2 standard deviations above 1.1: alone it fails, among ten Holm forgives it."""
    odd = slice_of("odd", 14_000, 430, 1.22 * 430 / 14_000)
    calm = tuple(slice_of(f"calm {number}", 50_000, 1_500, 0.03) for number in range(9))
    assert 0.02 < chance_inside(odd, 0.9, 1.1, 1.0) < 0.04
    assert not judge(evaluation(True, (odd,)), PARAMS).is_promotion
    assert judge(evaluation(True, (odd, *calm)), PARAMS).is_promotion


def test_a_slice_too_small_for_the_band_is_left_out_unless_its_scores_promise_enough_clicks() -> None:
    assert clicks_needed(0.9, 1.1, 0.95) == 423  # (1.959964 / ln 1.1) ** 2 = 422.9
    small = slice_of("small", 10_000, 100, 0.03)
    assert judge(evaluation(True, (small,)), PARAMS).is_promotion
    silent = slice_of("silent", 50_000, 0, 0.03)
    verdict = judge(evaluation(True, (silent,)), PARAMS)
    assert not verdict.is_promotion
    assert "device = silent" in verdict.reasons[0]


def test_rows_without_a_value_and_the_rest_have_names() -> None:
    missing, rest = slice_of(None, 50_000, 1_000, 0.03), slice_of(None, 50_000, 1_000, 0.03, is_rest=True)
    words = judge(evaluation(True, (missing, rest)), PARAMS).reasons[0]
    assert "device = (missing)" in words
    assert "device = (other)" in words


def test_holm_as_by_hand() -> None:
    """Holm (1979): sorted p are multiplied by 4, 3, 2, 1, and never fall."""
    assert holm_adjusted([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm_adjusted([0.9, 0.5]) == pytest.approx([1.0, 1.0])
    assert holm_adjusted([0.02]) == pytest.approx([0.02])
    assert holm_adjusted([]) == []


def test_holm_rejects_what_its_step_down_procedure_rejects() -> None:
    """The procedure as Holm wrote it: go through sorted p, stop at the first above alpha / (m - k)."""
    generator = np.random.default_rng(4)
    for _ in range(300):
        p_values = list(generator.random(generator.integers(1, 12)) ** 3)
        rejected = set()
        for rank, index in enumerate(np.argsort(p_values)):
            if p_values[index] > 0.05 / (len(p_values) - rank):
                break
            rejected.add(int(index))
        adjusted = holm_adjusted(p_values)
        assert {place for place, value in enumerate(adjusted) if value <= 0.05} == rejected


@pytest.mark.parametrize("edge", [0.9, 1.1])
def test_false_alarms_are_as_rare_as_the_confidence_says_even_at_the_bands_edge(edge: float) -> None:
    """400 evaluations of 30 slices whose true ratio is just allowed: 5 % may stop a promotion, 8 % is beyond chance."""
    generator = np.random.default_rng(7)
    stopped = 0
    for _ in range(400):
        clicks = generator.binomial(15_000, 0.03 / edge, size=30)
        slices = tuple(slice_of(str(place), 15_000, int(count), 0.03) for place, count in enumerate(clicks))
        stopped += not judge(evaluation(True, slices, **INDEPENDENT), PARAMS).is_promotion
    assert stopped / 400 <= 0.08


def test_a_slice_far_outside_is_found_in_nearly_every_evaluation() -> None:
    """A true ratio of 1.45 among 29 honest slices of 450 clicks: found in at least 95 % of 200 evaluations."""
    generator = np.random.default_rng(8)
    found = 0
    for _ in range(200):
        clicks = generator.binomial(15_000, [0.03 / 1.45, *[0.03] * 29])
        slices = tuple(slice_of(str(place), 15_000, int(count), 0.03) for place, count in enumerate(clicks))
        found += not judge(evaluation(True, slices, **INDEPENDENT), PARAMS).is_promotion
    assert found / 200 >= 0.95


def test_the_slice_test_is_scipys_normal_law_at_the_nearer_edge() -> None:
    from scipy.stats import norm

    part = slice_of("a", 10_000, 400, 0.03)
    z = (400 - 300 / 0.9) / math.sqrt(10_000 * 0.03 * 0.97 / 0.9)
    assert chance_inside(part, 0.9, 1.1, 1.0) == pytest.approx(2 * norm.sf(z))
    assert chance_inside(part, 0.9, 1.1, 2.0) == pytest.approx(2 * norm.sf(z / 2))
    part = slice_of("a", 10_000, 250, 0.03)
    z = (250 - 300 / 1.1) / math.sqrt(10_000 * 0.03 * 0.97 / 1.1)
    assert chance_inside(part, 0.9, 1.1, 1.0) == pytest.approx(2 * norm.cdf(z))
    assert chance_inside(slice_of("a", 10_000, 300, 0.03), 0.9, 1.1, 1.0) == 1.0


def test_slices_are_as_unsure_as_rows_that_depend_on_one_another() -> None:
    """Two slices of 100,000 rows at 3 %: independent rows would know the overall ratio to 2.49 %; an interval of twice that
    says that a user's rows go together, and what was three standard deviations beyond 1.1 is one and a half."""
    calm, odd = slice_of("calm", 100_000, 3_000, 0.03), slice_of("odd", 100_000, 2_573, 0.03)
    sure = measured(calibration_ratio=Interval(1.0, 1 / 1.0249, 1.0249))
    verdict = judge(evaluation(True, (calm, odd), **sure), PARAMS)
    assert "device = odd: ratio 1.166" in verdict.reasons[0]
    unsure = judge(evaluation(True, (calm, odd), **measured(calibration_ratio=Interval(1.0, 1 / 1.051, 1.051))), PARAMS)
    assert unsure.is_promotion
    words = next(check.words for check in unsure.checks if check.name == "calibration by slice")
    assert words.startswith("none of 2 slices with 1,6"), "four times the 423 clicks are needed for the same band"


def test_a_verdict_is_saved_and_loaded_equal(tmp_path: Path) -> None:
    verdict = judge(evaluation(True, (slice_of("é", 50_000, 1_500, 0.05),)), PARAMS)
    verdict.save(tmp_path)
    assert Verdict.load(tmp_path) == verdict
    before = (tmp_path / "verdict.json").read_bytes()
    Verdict.load(tmp_path).save(tmp_path)
    assert (tmp_path / "verdict.json").read_bytes() == before


@pytest.mark.parametrize(
    "damage", [("promote", "perhaps"), ('"passed": true', '"passed": "true"'), ('"checks"', '"cheques"'), ("{", "")]
)
def test_a_damaged_verdict_is_refused(tmp_path: Path, damage: tuple[str, str]) -> None:
    judge(evaluation(True), PARAMS).save(tmp_path)
    path = tmp_path / "verdict.json"
    path.write_text(path.read_text().replace(*damage, 1))
    with pytest.raises(IntegrityError, match=r"verdict\.json"):
        Verdict.load(tmp_path)


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.1), (0.9, 1.0), (0.0, 1.1), (1.1, 0.9)])
def test_a_band_that_does_not_lie_around_one_is_a_config_error(low: float, high: float) -> None:
    with pytest.raises(ConfigError, match="band"):
        dataclasses.replace(PARAMS, ratio_low=low, ratio_high=high)


def test_every_check_says_its_figures_in_words() -> None:
    for has_champion in (True, False):
        for check in judge(evaluation(has_champion, (slice_of("a", 50_000, 1_500, 0.03),)), PARAMS).checks:
            assert isinstance(check, GateCheck)
            assert check.words
            assert check.measured is not None
