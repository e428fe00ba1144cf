"""Counts of rows by hour of the day: what a profile keeps of the reference and what watching makes of served rows.

Shape letters: R rows of a table, F fields, H = 24 hours of the day (UTC; only hour 0 where the log has no time), B bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl

from components.encoding import UNSEEN, Encoder
from components.encoding.codes import Code, Vocabulary
from components.errors import IntegrityError
from components.log import TIME
from components.profiling.binning import HOURS, INVALID_SCORE_BIN, Binning, Counts, Floats

UNKNOWN_CLICK = -1
_HOUR, _NUM_ROWS = "_hour", "_num_rows"


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
    """Count rows that hold every column field and _time; `clicks` (R,) is UNKNOWN_CLICK where none is known yet.

    A word is looked up once for each hour it stands in, not once for each row.
    """
    hours = binning.hours_of(rows[TIME].to_numpy())
    score_bins = binning.score_bins_of(scores)
    counts = {
        "rows": _by_hour(hours),
        "settled": _by_hour(hours[clicks != UNKNOWN_CLICK]),
        "clicks": _by_hour(hours[clicks == 1]),
        "scores": _by_hour_and_bin(hours, score_bins, binning.num_score_bins),
    }
    words = iter(_count_words(rows, hours, [field.name for field in binning.fields if field.kind == "categorical"]))
    codes = dict(zip(encoder.schema.field_names, encoder.codes, strict=True))
    for field in binning.fields:
        values, own_hours, num_rows = rows[field.name], hours, None
        if field.kind == "categorical":
            table = next(words)
            values, own_hours = table[field.name], table[_HOUR].to_numpy()
            num_rows = table[_NUM_ROWS].to_numpy()
        is_unseen = _is_unseen(values, codes[field.name])
        is_out = field.is_out_of_range(values)
        counts[f"field:{field.name}"] = _by_hour_and_bin(own_hours, field.bins_of(values), field.num_bins, num_rows)
        for name, chosen in (("unseen", is_unseen), ("out_of_range", is_out)):
            weights = None if num_rows is None else num_rows[chosen]
            counts[f"{name}:{field.name}"] = _by_hour(own_hours[chosen], weights)
    valid_scores = np.where(score_bins == INVALID_SCORE_BIN, 0.0, scores)
    return Tally(counts, np.bincount(hours, weights=valid_scores, minlength=HOURS).astype(np.float64))


def _count_words(rows: pl.DataFrame, hours: Counts, names: list[str]) -> list[pl.DataFrame]:
    """For each field, the number of rows by hour and value."""
    table = rows.lazy().with_columns(pl.Series(_HOUR, hours))
    return pl.collect_all([table.group_by(_HOUR, name).agg(pl.len().cast(pl.Int64).alias(_NUM_ROWS)) for name in names])


def _is_unseen(values: pl.Series, code: Code) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which values have the id of those that train did not have; no number does, and no word that shares an id by hash."""
    if not isinstance(code, Vocabulary) or code.num_hash_buckets:
        return np.zeros(len(values), dtype=np.bool_)
    ids = values.alias(code.column).to_frame().select(code.expression).to_series()
    return np.asarray(ids.to_numpy() == UNSEEN)


def _bins_of(binning: Binning) -> dict[str, int]:
    """Each count's name and number of bins, in the order of `count_rows`."""
    bins = {"rows": 1, "settled": 1, "clicks": 1, "scores": binning.num_score_bins}
    for field in binning.fields:
        bins |= {f"field:{field.name}": field.num_bins, f"unseen:{field.name}": 1, f"out_of_range:{field.name}": 1}
    return bins


def _by_hour(hours: Counts, num_rows: Counts | None = None) -> Counts:
    """Count (H, 1) rows by hour; `num_rows` says how many each stands for."""
    return np.bincount(hours, num_rows, HOURS).astype(np.int64)[:, None]


def _by_hour_and_bin(hours: Counts, bins: Counts, num_bins: int, num_rows: Counts | None = None) -> Counts:
    """Count (H, B) rows by hour and bin."""
    counted = np.bincount(hours * num_bins + bins, num_rows, HOURS * num_bins)
    return counted.astype(np.int64).reshape(HOURS, num_bins)
