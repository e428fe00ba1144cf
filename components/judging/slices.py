"""The calibration gate of every slice that is large enough to tell a fault from chance (Holm over the slices)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

from components.evaluating.evaluation import SliceFigures
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
    """Number of clicks from which chance alone keeps an honest slice inside the band with that confidence.

    The number of clicks is about Poisson, so the ratio's logarithm has standard deviation 1 / sqrt(clicks).
    """
    half_width = min(math.log(ratio_high), -math.log(ratio_low))
    return math.ceil((_NORMAL.inv_cdf((1 + confidence) / 2) / half_width) ** 2)


def check_slices(slices: Sequence[SliceFigures], confidence: float, params: JudgeParams) -> GateCheck:
    """A slice fails when its true ratio surely lies outside the band, however many slices are tested (Holm)."""
    name = "calibration by slice"
    needed = clicks_needed(params.ratio_low, params.ratio_high, confidence)
    # by expected clicks too, or a slice would escape the gate by getting no clicks at all
    tested = [part for part in slices if max(part.num_clicks, part.mean_score * part.num_rows) >= needed]
    band = f"{params.ratio_low:g} to {params.ratio_high:g}"
    if not tested:
        words = f"no slice has the {needed:,} clicks that a band of {band} needs; none of {len(slices)} was tested"
        return GateCheck(name, None, None, True, words)
    adjusted = holm_adjusted([chance_inside(part, params.ratio_low, params.ratio_high) for part in tested])
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


def chance_inside(part: SliceFigures, ratio_low: float, ratio_high: float) -> float:
    """Largest p-value of a slice's number of clicks over all true ratios inside the band (one-sided, normal law).

    That is the p-value at the nearer edge: with a true ratio r, scores that expect E clicks get E / r of them.
    """
    ratio = _ratio(part)
    if ratio_low <= ratio <= ratio_high or part.score_variance <= 0:
        return 1.0
    edge = ratio_low if ratio < ratio_low else ratio_high
    surplus = part.num_clicks - part.mean_score * part.num_rows / edge
    return math.erfc(abs(surplus) / math.sqrt(2 * part.score_variance / edge)) / 2


def slice_name(part: SliceFigures) -> str:
    """What people call a slice: "device = phone", "device = (other)", "device = (missing)"."""
    value = "(other)" if part.is_rest else "(missing)" if part.value is None else part.value
    return f"{part.field} = {value}"


def _ratio(part: SliceFigures) -> float:
    """Mean score over click rate; a slice without clicks counts as if it had half a click."""
    return part.mean_score * part.num_rows / max(part.num_clicks, 0.5)
