"""Since when a finding shows: the parts of a window, one after the other, each watched by itself."""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl

from components.log import SERVED_BUNDLE, TIME, moment_of
from components.profiling import FieldBins
from components.watching.counting import Yardstick, count
from components.watching.fields import measure_counts
from components.watching.limits import Levels, Limits


def first_seen(
    sample: pl.DataFrame,
    yardstick: Yardstick,
    fields: tuple[FieldBins, ...],
    num_parts: int,
    limits: Limits,
    levels: Levels,
) -> dict[tuple[str, str], str | None]:
    """The start of the first part of the sample (rows in time order) that shows each finding by itself."""
    since: dict[tuple[str, str], str | None] = {}
    bounds = np.linspace(0, len(sample), num_parts + 1).astype(int)
    for start, stop in itertools.pairwise(bounds):
        rows = sample[int(start) : int(stop)]
        if rows.height == 0:
            continue
        _, is_other = yardstick.terms.of_rows(rows[SERVED_BUNDLE], rows[TIME].to_numpy())
        tally = count(rows, yardstick)
        scored = count(rows.filter(~pl.Series(is_other)), yardstick) if is_other.any() else tally
        for measure in measure_counts(yardstick.profile, tally, scored, fields, limits, levels):
            if measure.is_finding:
                since.setdefault((measure.check, measure.slice), iso(rows[TIME][0]))
    return since


def iso(microseconds: int) -> str:
    """A moment in microseconds since 1970 as ISO 8601, UTC."""
    return moment_of(microseconds).isoformat()
