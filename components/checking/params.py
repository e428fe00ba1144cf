"""What people set for the check of a log."""

from __future__ import annotations

from dataclasses import dataclass

from components.strict import Strict


@dataclass(frozen=True)
class CheckParams(Strict):
    """What must hold of a log beside its schema, and what the check may use.

    seed                  of the sample that Great Expectations sees
    sample_rows           rows in that sample, at most
    sort_rows             rows held in memory at once while a log that is out of order is sorted
    max_quarantine_share  share of the rows inside the window that may break a row-level promise
    min_partition_rows    a partition with fewer rows is judged only as part of the whole log
    max_distinct_share    share of a categorical field's values in the sample that may be distinct
    min_rows              rows the clean log must have
    click_rate_band       lowest and highest click rate that is believed, inclusive
    """

    seed: int
    sample_rows: int
    sort_rows: int
    max_quarantine_share: float
    min_partition_rows: int
    max_distinct_share: float
    min_rows: int
    click_rate_band: tuple[float, float]
