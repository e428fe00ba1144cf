"""What is too much, and how sure one has to be: the agreed limits, and the pager's budget shared out among all checks.

Stands before everything in this package that measures.
"""

from __future__ import annotations

from dataclasses import dataclass

from components.strict import Strict
from components.watching.catalog import CHECKS

_DAYS_PER_QUARTER = 91
_DAYS_PER_WEEK = 7


@dataclass(frozen=True)
class Limits(Strict):
    """What is too much.

    false_pages_per_quarter, false_tickets_per_week  what chance alone may cost the pager, over all checks and windows
    windows_per_day       how many windows are watched a day
    label_delay_hours     a row's click is final so long after it was served; earlier it is not counted
    minimum_bin_rows      rows (or clicks) that a bin must be expected to have in either log, else it is merged with others
    minimum_hour_rows     reference rows an hour of the day needs to be compared with itself
    minimum_psi           smallest PSI beyond chance that matters
    minimum_share_change  smallest change of a share of rows that matters (0.02: two rows in a hundred)
    minimum_unit_factor   smallest factor between all quantiles of a numeric field that is taken for another unit
    minimum_ratio_change, minimum_slice_ratio_change  smallest relative change of clicks per expected click that matters,
                          of all rows and of a slice
    minimum_score_change  smallest relative change of the mean score, and distance from the click rate to be expected, that matters
    minimum_concept_change  smallest relative change of clicks given score that matters, a change of all scores alike apart
    minimum_auc_drop, minimum_slice_auc_drop  smallest loss of AUC that matters, of all rows and of a slice
    minimum_slice_clicks  expected clicks, here and in the reference, below which nothing is said of a slice
    minimum_volume_change smallest relative change of the number of rows, against the same hours of past weeks, that matters
    usual_volume_deviation  relative standard deviation that such a number has in any case
    max_duplicate_share   share of rows that may repeat an impression
    max_stale_share       share of rows that may be scored by a bundle that was not champion at their time
    rollout_grace_hours   a champion that was replaced may go on scoring for so long
    max_unreadable_share  share of a window's lines that may be torn, and so are no rows that can be watched
    max_outside_share     share of rows whose time may lie outside the window
    max_late_share        share of a window's rows that may come after the window was first looked at
    max_clickless_share   share of final rows of which nobody said whether they were clicked
    skew_tolerance        largest distance between a served score and the champion's own
    """

    false_pages_per_quarter: float
    false_tickets_per_week: float
    windows_per_day: float
    label_delay_hours: float
    minimum_bin_rows: int
    minimum_hour_rows: int
    minimum_psi: float
    minimum_share_change: float
    minimum_unit_factor: float
    minimum_ratio_change: float
    minimum_slice_ratio_change: float
    minimum_score_change: float
    minimum_concept_change: float
    minimum_auc_drop: float
    minimum_slice_auc_drop: float
    minimum_slice_clicks: int
    minimum_volume_change: float
    usual_volume_deviation: float
    max_duplicate_share: float
    max_stale_share: float
    rollout_grace_hours: float
    max_unreadable_share: float
    max_outside_share: float
    max_late_share: float
    max_clickless_share: float
    skew_tolerance: float

    def levels(self, num_fields: int, num_slices: int) -> Levels:
        """Share the budget out evenly (Bonferroni): over windows, and over every check that chance can trip."""
        num_pages = 2 * num_fields  # field_empty, field_promise
        per_field = 4 * num_fields  # field_missing, field_unseen, field_vanished, field_drift
        of_scores = 5  # score_drift, score_mean, score_click_rate, score_lowest, score_highest
        num_tickets = per_field + of_scores + 2 * (1 + num_slices) + 2  # calibration and auc; concept, rows
        return Levels(
            self.false_pages_per_quarter / (self.windows_per_day * _DAYS_PER_QUARTER) / num_pages,
            self.false_tickets_per_week / (self.windows_per_day * _DAYS_PER_WEEK) / num_tickets,
        )


@dataclass(frozen=True)
class Levels:
    """The chance at which one check of one window may be wrong, so that all of them keep to the pager's budget."""

    page: float
    ticket: float

    def of(self, check: str) -> float:
        """That of one check, by how urgent it is."""
        return self.page if CHECKS[check].severity == "page" else self.ticket
