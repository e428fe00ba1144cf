"""Findings in words: from the measures that passed their limits to what a person reads.

One fault is reported once: a check that says the same more exactly stands for the others of its slice.
"""

from __future__ import annotations

from dataclasses import dataclass

from components.log import SERVED_BUNDLE, TIME
from components.watching.catalog import CHECKS
from components.watching.clicks import changes_by_score
from components.watching.counting import Seen, Yardstick
from components.watching.drift import Finding, Measure, Status
from components.watching.fields import movers, vanished
from components.watching.limits import Levels, Limits
from components.watching.measuring import new_values

_URGENCY = {"page": 0, "ticket": 1, "info": 2}
_STABILITY = ("field_drift", "score_drift")
_SHARES = {
    "field_empty": "without a value",
    "field_promise": "without a value",
    "field_missing": "without a value",
    "field_unseen": "a value that is unknown to the champion",
    "field_range": "a number outside the promised range",
    "score_lowest": "a score among the reference's lowest",
    "score_highest": "a score among the reference's highest",
    "stale_bundle": "scored by a bundle that was not champion at the time",
    "duplicates": "repeat an impression that is in the log already",
    "unreadable": "no whole line in the served log",
    "outside": "a time outside the window",
    "rows_late": "came after the window was first looked at",
    "clicks_missing": "no word on a click that should be final",
}


@dataclass(frozen=True, eq=False)
class Evidence:
    """What values are named from."""

    yardstick: Yardstick
    seen: Seen
    limits: Limits
    levels: Levels
    num_named: int


def find(
    measures: tuple[Measure, ...], evidence: Evidence | None, since: dict[tuple[str, str], str | None], rows: str
) -> tuple[Finding, ...]:
    """Turn the measures that are findings into words: the most urgent first, then the surest, then the largest.

    evidence  None where no rows were read
    """
    exceeding = {(measure.check, measure.slice): measure for measure in measures if measure.is_finding}
    said_by_others = {(check, slice_name) for found, slice_name in exceeding for check in CHECKS[found].stands_for}
    kept = [measure for key, measure in exceeding.items() if key not in said_by_others]
    kept.sort(key=lambda measure: (_URGENCY[CHECKS[measure.check].severity], *_order(measure)))
    return tuple(
        Finding(
            check=measure.check,
            slice=measure.slice,
            severity=CHECKS[measure.check].severity,
            kind=CHECKS[measure.check].kind,
            measured=measure.measured,
            limit=measure.limit,
            num_rows=measure.num_rows,
            what=describe(measure) + ("" if evidence is None else _named(measure, evidence)),
            since=since.get((measure.check, measure.slice)),
            rows=rows,
            meaning=CHECKS[measure.check].meaning,
            action=CHECKS[measure.check].action,
        )
        for measure in kept
    )


def notable(measures: tuple[Measure, ...], discovery_rate: float) -> tuple[str, ...]:
    """What false-discovery control lets in although it is no finding (too small, or not sure enough for the pager), in order."""
    let_in = [
        one for one in measures if not one.is_finding and one.q_value is not None and one.q_value <= discovery_rate
    ]
    let_in = [one for one in let_in if one.effect > 0]
    return tuple(f"{describe(one)} [{one.check}, q {one.q_value:.2g}]" for one in sorted(let_in, key=_order))


def status_of(findings: tuple[Finding, ...]) -> Status:
    """Contract before drift: a broken promise must not be learned."""
    if any(finding.kind == "contract" for finding in findings):
        return "contract"
    return "drift" if findings else "quiet"


def describe(measure: Measure) -> str:
    """The figures of one measure."""
    where = "scores" if measure.slice == "all" else f"field '{measure.slice}'"
    of_slice = "" if measure.slice == "all" else f" where {measure.slice}"
    rows = f"{measure.num_rows:,} rows"
    measured, expected, limit = measure.measured, measure.expected, measure.limit
    match measure.check:
        case "field_drift" | "score_drift":
            return f"{where}: PSI {measured:.3f} over {rows}, limit {limit:.3f}; Jensen-Shannon distance {measure.distance:.3f}"
        case "columns":
            return f"column '{measure.slice}' is absent from {rows}, or of another type"
        case "score_invalid":
            return f"{measured:,.0f} of {rows} carry a score that is no probability; none may"
        case "score_mean":
            return f"mean score {measured:.4f} over {rows}, {expected:.4f} in the reference at these hours (limit {limit:.4f})"
        case "score_click_rate":
            return f"mean score {measured:.4f} over {rows}, click rate {expected:.4f} to be expected at these hours (limit {limit:.4f})"
        case "score_skew":
            return (
                f"served and offline score of the same row lie up to {measured:.2g} apart in {rows}, limit {limit:.2g}"
            )
        case "calibration":
            return f"{measured:.3f} clicks per expected click over {rows}{of_slice}, expected 1 (limit {limit:.3f})"
        case "auc":
            return f"AUC {measured:.4f} over {rows}{of_slice}, reference {expected:.4f} (limit {limit:.4f})"
        case "concept":
            return f"clicks given score are {measured:.1%} off from bin to bin over {rows}, limit {limit:.1%}"
        case "field_unit":
            return f"{where}: every quantile is about {measured:.4g} times the reference's over {rows}"
        case "field_vanished":
            return f"{where}: values that the reference has in {measured:.2%} of rows stand in none of {rows}"
        case "rows":
            usual = "" if expected is None or measured == 0 else f", {expected:,.0f} in the same hours of past weeks"
            return f"{measured:,.0f} rows were served{usual}"
    subject = f"{where}: " if measure.check.startswith("field_") else ""
    usual = "" if expected is None else f", expected {expected:.2%}"
    return f"{subject}{_SHARES[measure.check]} in {measured:.2%} of {rows}{usual} (limit {limit:.2%})"


def _order(measure: Measure) -> tuple[float, float, str, str]:
    """The surest first (what no chance is involved in is sure), then the largest."""
    return (measure.q_value or 0.0, -measure.effect, measure.check, measure.slice)


def _named(measure: Measure, evidence: Evidence) -> str:
    """The values, or scores, that a finding is about."""
    yardstick, seen, num_named = evidence.yardstick, evidence.seen, evidence.num_named
    if measure.check == "stale_bundle":
        return f"; in a sample by {yardstick.terms.stale_in(seen.sample[SERVED_BUNDLE], seen.sample[TIME], num_named)}"
    if measure.check == "concept":
        return f"; most changed: {changes_by_score(yardstick.reference, seen.quality, num_named)}"
    field = next((field for field in yardstick.profile.binning.fields if field.name == measure.slice), None)
    if field is None:
        return ""
    if measure.check in ("field_drift", "field_range", "field_unit"):
        moved = movers(yardstick.profile, seen.tally, field, evidence.limits, num_named)
        gone = vanished(yardstick.profile, seen.tally, field, evidence.limits, evidence.levels)[1]
        return f"; most moved: {moved}" + (f"; vanished: {_list(gone, num_named)}" if gone else "")
    if measure.check == "field_vanished":
        gone = vanished(yardstick.profile, seen.tally, field, evidence.limits, evidence.levels)[1]
        return f": {_list(gone, num_named)}"
    if measure.check == "field_unseen":
        known = frozenset(yardstick.scorer.encoder.vocabulary(field.name))
        return f"; new, by share of a sample: {new_values(seen.sample, field, known, num_named)}"
    return ""


def _list(values: tuple[str, ...], num_named: int) -> str:
    more = f" and {len(values) - num_named} more" if len(values) > num_named else ""
    return ", ".join(repr(value) for value in values[:num_named]) + more
