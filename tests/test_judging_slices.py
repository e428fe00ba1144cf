"""Mean score / click rate by slice: what chance does is forgiven, what is surely outside the band stops a promotion."""

from __future__ import annotations

import math

import numpy as np
import pytest

from components.evaluating.evaluation import Interval
from components.judging import chance_inside, clicks_needed, holm_adjusted
from tests.judged_world import PARAMS, evaluation, judge, measured, slice_of

INDEPENDENT = measured(
    calibration_ratio=Interval(1.0, 0.984, 1.017)
)  # of 13,500 clicks in rows that do not go together


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
