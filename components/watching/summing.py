"""What drift.json says beside its measures: the window's figures on one page, and what could not be measured, and why."""

from __future__ import annotations

import polars as pl

from components.profiling import FieldBins, ReferenceProfile
from components.watching.counting import OWN_COLUMNS, Seen, Yardstick
from components.watching.estimating import ESTIMATE_NOTE, estimated_figures
from components.watching.limits import Limits
from components.watching.quality import figures_of
from components.watching.reference import QualityReference
from components.watching.scores import expected_click_rate, expected_mean_score


def notes_of(seen: Seen, yardstick: Yardstick, columns: pl.Schema, absent: list[FieldBins]) -> list[str]:
    """What could not be measured of a window."""
    notes = []
    if seen.num_other:
        notes.append(
            f"{seen.num_other:,} of {seen.tally.num_rows:,} rows were scored by another bundle while that was champion: their fields "
            "were watched, their scores and clicks were left out, and they were not scored again"
        )
    num_waiting = round(float(seen.waiting[0].sum()))
    if seen.quality.num_rows(0) == 0 and seen.scored.num_rows:
        notes.append("no click is known yet: calibration, AUC and clicks given score were not measured")
    if num_waiting:
        notes.append(ESTIMATE_NOTE.format(rows=num_waiting))
    if yardstick.reference.num_slices == 0:
        notes.append("the champion's evaluation names no slices to watch: quality is watched of all rows together")
    if absent:
        notes.append("columns are absent: served and offline scores were not compared")
    own = {*OWN_COLUMNS, *(field.name for field in yardstick.profile.binning.fields)}
    surplus = sorted(set(columns.names()) - own)
    if surplus:
        notes.append(f"columns {surplus} are unknown to the champion and were not looked at")
    return notes


def summary_of(
    seen: Seen, profile: ReferenceProfile, reference: QualityReference, limits: Limits
) -> dict[str, float | None]:
    """The figures of all rows, beside the reference's; see DriftFacts."""
    quality, overall = seen.quality, reference.overall
    num_rows, num_clicks = quality.num_rows(0), quality.num_clicks(0)
    scored = seen.scored if seen.scored.num_rows else seen.tally
    num_valid = seen.scored.counts["scores"][:, 1:].sum()
    shown = figures_of(quality, reference, 0.5, 0)[0] if num_rows else None
    auc, log_loss, entropy, ratio = (
        None if shown is None or (part := getattr(shown, name)) is None else part.value
        for name in ("auc", "log_loss", "normalised_entropy", "calibration_ratio")
    )
    figures = {
        "mean_score": float(scored.score_sums.sum() / num_valid) if num_valid else None,
        "expected_mean_score": float(expected_mean_score(profile, scored, limits).shares[0]) if num_valid else None,
        "click_rate": num_clicks / num_rows if num_rows else None,
        "expected_click_rate": expected_click_rate(profile, scored, limits),
        "auc": auc,
        "log_loss": log_loss if auc is not None else None,
        "normalised_entropy": entropy,
        "calibration_ratio": ratio,
        "reference_mean_score": profile.mean_score,
        "reference_click_rate": overall.num_clicks / overall.num_rows,
        "reference_auc": overall.auc,
        "reference_log_loss": overall.log_loss,
        "reference_normalised_entropy": overall.normalised_entropy,
        "reference_calibration_ratio": overall.calibration_ratio,
    }
    return figures | estimated_figures(seen.waiting, overall.calibration_ratio)
