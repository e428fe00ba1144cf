"""Findings in words: from the measures that passed their limits to what a person reads.

One fault is reported once: a check that says the same more exactly stands for the others of its slice.
"""

from __future__ import annotations

from components.profiling import ReferenceProfile, Tally
from components.watching.catalog import CHECKS
from components.watching.drift import Finding, Measure, Status
from components.watching.measuring import Limits, movers

_URGENCY = {"page": 0, "ticket": 1, "info": 2}
_STABILITY = ("field_drift", "score_drift")


def find(
    measures: tuple[Measure, ...],
    profile: ReferenceProfile,
    tally: Tally,
    limits: Limits,
    num_movers: int,
    since: dict[tuple[str, str], str | None],
    rows: str,
) -> tuple[Finding, ...]:
    """Turn the measures that are findings into words, the most urgent first, then the largest."""
    exceeding = {(measure.check, measure.slice): measure for measure in measures if measure.is_finding}
    said_by_others = {(check, slice_name) for found, slice_name in exceeding for check in CHECKS[found].stands_for}
    kept = [measure for key, measure in exceeding.items() if key not in said_by_others]
    kept.sort(
        key=lambda measure: (_URGENCY[CHECKS[measure.check].severity], -measure.effect, measure.check, measure.slice)
    )
    return tuple(
        Finding(
            check=measure.check,
            slice=measure.slice,
            severity=CHECKS[measure.check].severity,
            measured=measure.measured,
            limit=measure.limit,
            num_rows=measure.num_rows,
            what=_describe(measure, _movers_of(measure, profile, tally, limits, num_movers)),
            since=since.get((measure.check, measure.slice)),
            rows=rows,
            meaning=CHECKS[measure.check].meaning,
            action=CHECKS[measure.check].action,
        )
        for measure in kept
    )


def status_of(findings: tuple[Finding, ...]) -> Status:
    """Contract before drift: a broken promise must not be learned."""
    if any(CHECKS[finding.check].is_contract for finding in findings):
        return "contract"
    return "drift" if findings else "quiet"


def _movers_of(measure: Measure, profile: ReferenceProfile, tally: Tally, limits: Limits, num_movers: int) -> str:
    if measure.check not in ("field_drift", "field_range"):
        return ""
    field = next(field for field in profile.binning.fields if field.name == measure.slice)
    return f"; most moved: {movers(profile, tally, field, limits, num_movers)}"


def _describe(measure: Measure, moved: str) -> str:
    where = "scores" if measure.slice == "all" else f"field '{measure.slice}'"
    rows = f"{measure.num_rows:,} rows"
    measured, expected, limit = measure.measured, measure.expected, measure.limit
    if measure.check in _STABILITY:
        return f"{where}: PSI {measured:.3f} over {rows}, limit {limit:.3f}; Jensen-Shannon distance {measure.distance:.3f}{moved}"
    if measure.check == "columns":
        return f"column '{measure.slice}' is absent from {rows}, or of another type"
    if measure.check == "score_invalid":
        return f"{measured:,.0f} of {rows} carry a score that is no probability; none may"
    if measure.check == "score_skew":
        return f"served and offline score of the same row lie up to {measured:.2g} apart in {rows}, limit {limit:.2g}"
    if measure.check == "calibration":
        return f"{measured:.3f} clicks per expected click over {rows}, expected 1 (limit {limit:.3f})"
    if measure.check == "auc":
        return f"AUC {measured:.4f} over {rows}, reference {expected:.4f} (limit {limit:.4f})"
    share_of = {
        "field_empty": f"{where}: without a value",
        "field_promise": f"{where}: without a value",
        "field_missing": f"{where}: without a value",
        "field_unseen": f"{where}: a value that is unknown to the champion",
        "field_range": f"{where}: a number outside the promised range",
        "stale_bundle": "scored by another bundle than the champion",
        "duplicates": "repeat an impression that is in the log already",
    }[measure.check]
    usual = "" if expected is None else f", expected {expected:.2%}"
    return f"{share_of} in {measured:.2%} of {rows}{usual} (limit {limit:.2%}){moved}"
