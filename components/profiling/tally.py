"""Counts of rows by hour of the day: what a profile keeps of the reference and what watching makes of served rows.

Shape letters: R rows of a table, F fields, H = 24 hours of the day (UTC; only hour 0 where the log has no time), B bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl

from components.encoding import UNSEEN, Encoder
from components.errors import IntegrityError
from components.log import TIME
from components.profiling.binning import HOURS, INVALID_SCORE_BIN, Binning, Counts, Floats

UNKNOWN_CLICK = -1


@dataclass(frozen=True, eq=False)
class Tally:
    """Counts by hour; tallies of parts of a log add up to the tally of the whole.

    counts      name -> (H, B): "rows", "settled" (click known), "clicks", "scores", and for each field "field:<name>",
                "unseen:<name>" (unknown to the encoder), "out_of_range:<name>"; B is 1 where there is but one count
    score_sums  (H,) sums of the valid scores
    """

    counts: dict[str, Counts]
    score_sums: Floats

    @property
    def num_rows(self) -> int:
        """All rows counted."""
        return int(self.counts["rows"].sum())

    @property
    def rows_by_hour(self) -> Counts:
        """(H,) rows."""
        return self.counts["rows"][:, 0]

    def __add__(self, other: Tally) -> Tally:
        counts = {name: count + other.counts[name] for name, count in self.counts.items()}
        return Tally(counts, self.score_sums + other.score_sums)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tally):
            return NotImplemented
        return (
            self.counts.keys() == other.counts.keys()
            and all(np.array_equal(count, other.counts[name]) for name, count in self.counts.items())
            and np.array_equal(self.score_sums, other.score_sums)
        )

    __hash__ = None  # type: ignore[assignment]

    def table(self) -> pl.DataFrame:
        """All counts above zero as rows of (what, hour, bin, count)."""
        parts = []
        for name, count in self.counts.items():
            hours, bins = np.nonzero(count)
            parts.append(
                pl.DataFrame(
                    {"what": [name] * len(hours), "hour": hours, "bin": bins, "count": count[hours, bins]},
                    schema=_TABLE_SCHEMA,
                )
            )
        return pl.concat(parts)

    @classmethod
    def from_table(cls, table: pl.DataFrame, score_sums: tuple[float, ...], binning: Binning, place: Path) -> Self:
        """Undo `table`; raises IntegrityError where the counts are not those of `binning`."""
        if table.schema != _TABLE_SCHEMA or len(score_sums) != HOURS:
            raise IntegrityError(f"{place}: not the counts of a profile but {dict(table.schema)}; pack again")
        counts = {name: np.zeros((HOURS, num_bins), dtype=np.int64) for name, num_bins in _bins_of(binning).items()}
        try:
            for (what,), part in table.group_by(["what"], maintain_order=True):
                counts[str(what)][part["hour"].to_numpy(), part["bin"].to_numpy()] = part["count"].to_numpy()
        except (KeyError, IndexError) as error:
            raise IntegrityError(f"{place}: counts that profile.json knows nothing of ({error}); pack again") from error
        for name, count in counts.items():
            if count.min() < 0 or (
                name.startswith(("field:", "scores")) and (count.sum(1) != counts["rows"][:, 0]).any()
            ):
                raise IntegrityError(f"{place}: '{name}' is not a count of the profile's rows; pack again")
        return cls(counts, np.array(score_sums, dtype=np.float64))


_TABLE_SCHEMA = pl.Schema({"what": pl.String, "hour": pl.Int64, "bin": pl.Int64, "count": pl.Int64})


def count_rows(rows: pl.DataFrame, scores: Floats, clicks: Counts, encoder: Encoder, binning: Binning) -> Tally:
    """Count rows that hold every column field and _time; `clicks` (R,) is UNKNOWN_CLICK where none is known yet."""
    hours = binning.hours_of(rows[TIME].to_numpy())
    ids = encoder.encode(rows)
    positions = {name: number for number, name in enumerate(encoder.schema.field_names)}
    score_bins = binning.score_bins_of(scores)
    counts = {
        "rows": _by_hour(hours),
        "settled": _by_hour(hours[clicks != UNKNOWN_CLICK]),
        "clicks": _by_hour(hours[clicks == 1]),
        "scores": _by_hour_and_bin(hours, score_bins, binning.num_score_bins),
    }
    for field in binning.fields:
        values = rows[field.name]
        counts[f"field:{field.name}"] = _by_hour_and_bin(hours, field.bins_of(values), field.num_bins)
        counts[f"unseen:{field.name}"] = _by_hour(hours[ids[:, positions[field.name]] == UNSEEN])
        counts[f"out_of_range:{field.name}"] = _by_hour(hours[field.is_out_of_range(values)])
    valid_scores = np.where(score_bins == INVALID_SCORE_BIN, 0.0, scores)
    return Tally(counts, np.bincount(hours, weights=valid_scores, minlength=HOURS).astype(np.float64))


def _bins_of(binning: Binning) -> dict[str, int]:
    """Each count's name and number of bins, in the order of `count_rows`."""
    bins = {"rows": 1, "settled": 1, "clicks": 1, "scores": binning.num_score_bins}
    for field in binning.fields:
        bins |= {f"field:{field.name}": field.num_bins, f"unseen:{field.name}": 1, f"out_of_range:{field.name}": 1}
    return bins


def _by_hour(hours: Counts) -> Counts:
    """Count (H, 1) rows by hour."""
    return np.bincount(hours, minlength=HOURS)[:, None]


def _by_hour_and_bin(hours: Counts, bins: Counts, num_bins: int) -> Counts:
    """Count (H, B) rows by hour and bin."""
    return np.bincount(hours * num_bins + bins, minlength=HOURS * num_bins).reshape(HOURS, num_bins)
