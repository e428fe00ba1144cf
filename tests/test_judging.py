"""The verdict, case by case: each gate is tried on both sides of its limit, the rest of the evaluation being good."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from components.errors import ConfigError, IntegrityError
from components.evaluating.evaluation import Interval, Parity
from components.judging import GateCheck, KnownBytes, Verdict, decide
from tests.judged_world import PARAMS, compared, cost, evaluation, judge, measured, slice_of

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
