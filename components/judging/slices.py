"""Mean score / click rate within a band, overall and in every slice that is large enough to tell a fault from chance.

One rule for both: a ratio fails when its interval at the evaluation's confidence lies wholly outside the band, and it is
asked only where chance alone would keep an honest one inside. So the band is about the truth (how far bids may be off,
drift between the cuts included), and the interval about chance; more clicks never make the band itself narrower or wider.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from components.evaluating.evaluation import Figures, Interval, SliceFigures
from components.judging.verdict import GateCheck, JudgeParams

_NORMAL = NormalDist()


def holm_adjusted(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that a limit on each bounds the chance of any false alarm (Holm 1979); order is kept."""
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda number: p_values[number])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def clicks_needed(ratio_low: float, ratio_high: float, confidence: float) -> int:
    """Number of clicks from which chance alone keeps an honest set of rows inside the band with that confidence.

    The number of clicks is about Poisson, so the ratio's logarithm has standard deviation 1 / sqrt(clicks).
    """
    half_width = min(math.log(ratio_high), -math.log(ratio_low))
    return math.ceil((_quantile(confidence) / half_width) ** 2)


def check_overall(challenger: Figures, params: JudgeParams) -> GateCheck:
    """All test rows fail when their interval lies outside the band, and when it is wider than the band: too few clicks."""
    ratio, low, high = challenger.calibration_ratio, params.ratio_low, params.ratio_high
    band = f"{low:g} to {high:g}"
    found = (
        f"{_promise(ratio.value)} overall: mean score {100 * challenger.mean_score:.3g} %, click rate "
        f"{100 * challenger.click_rate:.3g} %, ratio {ratio.value:.3f}"
    )
    limit = low if ratio.value < 1 else high
    if ratio.low is None or ratio.high is None or ratio.low <= 0:
        words = f"{found}; {challenger.num_clicks:,} clicks are too few to say how sure that is"
        return GateCheck("calibration overall", ratio.value, limit, False, words)
    found += f", surely between {ratio.low:.3f} and {ratio.high:.3f}"
    if (ratio.high / ratio.low) ** 0.5 > min(high, 1 / low):
        words = f"{found}; that is too wide for a band of {band}: {challenger.num_clicks:,} clicks are too few"
        return GateCheck("calibration overall", ratio.value, limit, False, words)
    passed = ratio.low <= high and ratio.high >= low
    words = f"{found} ({band} allowed)" if passed else f"{found}: wholly outside the {band} that is allowed"
    return GateCheck("calibration overall", ratio.value, limit, passed, words)


def check_slices(
    slices: Sequence[SliceFigures], challenger: Figures, confidence: float, params: JudgeParams
) -> GateCheck:
    """A slice fails when its interval lies outside the band, however many slices are tested (Holm); small ones are not asked.

    What is too small to be asked alone is asked with all rows together, in `check_overall`.
    """
    name = "calibration by slice"
    spread = _spread(slices, challenger.calibration_ratio, confidence)
    needed = math.ceil(clicks_needed(params.ratio_low, params.ratio_high, confidence) * spread**2)
    # by expected clicks too, or a slice would escape the gate by getting no clicks at all
    tested = [part for part in slices if max(part.num_clicks, part.mean_score * part.num_rows) >= needed]
    band = f"{params.ratio_low:g} to {params.ratio_high:g}"
    if not tested:
        words = f"no slice has the {needed:,} clicks that a band of {band} needs; none of {len(slices)} was tested"
        return GateCheck(name, None, None, True, words)
    adjusted = holm_adjusted([chance_inside(part, params.ratio_low, params.ratio_high, spread) for part in tested])
    ratios = [_ratio(part) for part in tested]
    failed = [place for place, chance in enumerate(adjusted) if chance < 1 - confidence]
    worst = max(failed or range(len(tested)), key=lambda place: abs(math.log(ratios[place])))
    limit = params.ratio_low if ratios[worst] < 1 else params.ratio_high
    if failed:
        places = sorted(failed, key=lambda place: -abs(math.log(ratios[place])))
        told = "; ".join(f"{slice_name(tested[place])}: ratio {ratios[place]:.3f}" for place in places[:5])
        more = f"; and {len(places) - 5} more" if len(places) > 5 else ""
        words = f"{len(failed)} of {len(tested)} slices surely lie outside {band}: {told}{more}"
    else:
        words = (
            f"none of {len(tested)} slices with {needed:,} clicks or more surely lies outside {band}; "
            f"the widest is {slice_name(tested[worst])} with {ratios[worst]:.3f}"
        )
    return GateCheck(name, ratios[worst], limit, not failed, words)


def chance_inside(part: SliceFigures, ratio_low: float, ratio_high: float, spread: float) -> float:
    """Largest two-sided p-value of a slice's number of clicks over all true ratios inside the band (normal law).

    That is the p-value at the nearer edge: with a true ratio r, scores that expect E clicks get E / r of them, with
    `spread` times the standard deviation that independent rows would have. Below 1 - confidence exactly where the
    interval at that confidence lies outside the band.
    """
    ratio = _ratio(part)
    if ratio_low <= ratio <= ratio_high or part.score_variance <= 0:
        return 1.0
    edge = ratio_low if ratio < ratio_low else ratio_high
    surplus = part.num_clicks - part.mean_score * part.num_rows / edge
    return math.erfc(abs(surplus) / (spread * math.sqrt(2 * part.score_variance / edge)))


def _spread(slices: Sequence[SliceFigures], overall: Interval, confidence: float) -> float:
    """How many times wider the overall interval is than independent rows would make it (design effect's root); 1 or more.

    The evaluation resamples clusters (a user's rows depend on one another), but measures no interval for each slice: the
    slices take over the factor of all rows, whose expected clicks and variance are the sums over one field's slices.
    """
    parts = [part for part in slices if part.field == slices[0].field]
    expected = sum(part.mean_score * part.num_rows for part in parts)
    variance = sum(part.score_variance for part in parts)
    if overall.low is None or overall.high is None or overall.low <= 0 or variance <= 0:
        return 1.0
    alone = _quantile(confidence) * math.sqrt(variance) / expected
    return max(1.0, math.log(overall.high / overall.low) / 2 / alone)


def slice_name(part: SliceFigures) -> str:
    """What people call a slice: "device = phone", "device = (other)", "device = (missing)"."""
    value = "(other)" if part.is_rest else "(missing)" if part.value is None else part.value
    return f"{part.field} = {value}"


def _ratio(part: SliceFigures) -> float:
    """Mean score over click rate; a slice without clicks counts as if it had half a click."""
    return part.mean_score * part.num_rows / max(part.num_clicks, 0.5)


def _quantile(confidence: float) -> float:
    return _NORMAL.inv_cdf((1 + confidence) / 2)


def _promise(ratio: float) -> str:
    if abs(ratio - 1) < 0.005:
        return "scores promise as many clicks as come"
    return f"scores promise {100 * abs(ratio - 1):.3g} % {'more' if ratio > 1 else 'fewer'} clicks than come"
