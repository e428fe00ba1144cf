"""The reference profile: made once when a bundle is packed, stored in it, and read whenever served rows are watched.

Shape letters: R rows of a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl

from components import metrics
from components.artifact import read_json, read_table, write_json, write_table
from components.encoding import Encoder
from components.errors import DataError, IntegrityError
from components.log import CLICK, TIME
from components.profiling.binning import Binning, Counts, Floats, fit_binning
from components.profiling.tally import Tally, count_rows
from components.strict import Strict, parse

SCORE = "_score"


@dataclass(frozen=True)
class ProfileParams(Strict):
    """How fine a profile is.

    top_values       number of a categorical field's most frequent values that are counted each; the others together
    numeric_buckets  number of equal-mass buckets of a numeric field
    score_buckets    number of equal-mass buckets of the score
    sample_rows      number of folded reference rows kept for the report that people look at
    seed             of that sample
    """

    top_values: int
    numeric_buckets: int
    score_buckets: int
    sample_rows: int
    seed: int


@dataclass(frozen=True, eq=False)
class ReferenceProfile:
    """Reference rows in numbers: how they are binned, their counts, the scorer's metrics on them, and a folded sample.

    first_time, last_time  microseconds since 1970 UTC; null where the log has no time
    metrics                auc, log_loss, normalised_entropy and calibration_ratio of the reference rows; null where a class is absent
    sample                 column fields (categorical ones folded to the top values), _score and _click
    """

    binning: Binning
    tally: Tally
    first_time: int | None
    last_time: int | None
    metrics: dict[str, float | None]
    sample: pl.DataFrame

    @property
    def num_rows(self) -> int:
        """Rows the profile was made from."""
        return self.tally.num_rows

    @property
    def click_rate(self) -> float:
        """Clicks per reference row."""
        return float(self.tally.counts["clicks"].sum() / self.num_rows)

    @property
    def mean_score(self) -> float:
        """Mean score of the reference rows."""
        return float(self.tally.score_sums.sum() / self.num_rows)

    @property
    def score_variance(self) -> float:
        """Variance of the sample's scores."""
        return float(np.var(self.sample[SCORE].to_numpy()))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ReferenceProfile):
            return NotImplemented
        return self._facts() == other._facts() and self.tally == other.tally and self.sample.equals(other.sample)

    __hash__ = None  # type: ignore[assignment]

    def save(self, folder: Path) -> None:
        """Write profile.json, counts.parquet (counts above zero) and sample.parquet."""
        write_json(folder / "profile.json", self._facts())
        write_table(folder / "counts.parquet", self.tally.table())
        write_table(folder / "sample.parquet", self.sample)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read back a profile; raises IntegrityError where its files are damaged or do not belong together."""
        place = folder / "profile.json"
        facts = parse(_Facts, read_json(place), str(place), IntegrityError)
        counts = read_table(folder / "counts.parquet")
        tally = Tally.from_table(counts, facts.score_sums, facts.binning, folder / "counts.parquet")
        if tally.num_rows == 0:
            raise IntegrityError(f"{folder / 'counts.parquet'}: a profile of no rows; pack again")
        sample = read_table(folder / "sample.parquet")
        expected = [*(field.name for field in facts.binning.fields), SCORE, CLICK]
        if sample.columns != expected:
            raise IntegrityError(
                f"{folder / 'sample.parquet'}: columns {sample.columns}, expected {expected}; pack again"
            )
        return cls(facts.binning, tally, facts.first_time, facts.last_time, facts.metrics, sample)

    def _facts(self) -> _Facts:
        score_sums = tuple(float(number) for number in self.tally.score_sums)
        return _Facts(self.binning, self.first_time, self.last_time, self.metrics, score_sums)


@dataclass(frozen=True)
class _Facts(Strict):
    binning: Binning
    first_time: int | None
    last_time: int | None
    metrics: dict[str, float | None]
    score_sums: tuple[float, ...]


def build_profile(
    rows: pl.DataFrame, scores: Floats, clicks: Counts, encoder: Encoder, params: ProfileParams
) -> ReferenceProfile:
    """Make the profile of held-out rows (_time and the column fields), their scores (R,) and clicks (R,).

    Rows that the encoder was fitted on would hide how many unseen values are usual. Raises DataError for no rows.
    """
    if rows.height == 0:
        raise DataError("a reference profile needs rows, but there are none; widen the split it is made from")
    binning = fit_binning(rows, scores, encoder.schema, params.top_values, params.numeric_buckets, params.score_buckets)
    times = rows[TIME].to_numpy()
    return ReferenceProfile(
        binning=binning,
        tally=count_rows(rows, scores, clicks, encoder, binning),
        first_time=int(times.min()) if binning.has_time else None,
        last_time=int(times.max()) if binning.has_time else None,
        metrics=_metrics_of(clicks, scores),
        sample=_sample_of(rows, scores, clicks, binning, params),
    )


def _metrics_of(clicks: Counts, scores: Floats) -> dict[str, float | None]:
    has_both = 0 < clicks.sum() < len(clicks)
    return {
        "auc": metrics.auc(clicks, scores) if has_both else None,
        "log_loss": metrics.log_loss(clicks, scores) if has_both else None,
        "normalised_entropy": metrics.normalised_entropy(clicks, scores) if has_both else None,
        "calibration_ratio": metrics.calibration_ratio(clicks, scores) if has_both else None,
    }


def _sample_of(
    rows: pl.DataFrame, scores: Floats, clicks: Counts, binning: Binning, params: ProfileParams
) -> pl.DataFrame:
    generator = np.random.default_rng(params.seed)
    chosen = np.sort(generator.choice(rows.height, min(rows.height, params.sample_rows), replace=False))
    return binning.fold(rows[chosen]).with_columns(
        pl.Series(SCORE, scores[chosen], dtype=pl.Float64), pl.Series(CLICK, clicks[chosen], dtype=pl.Int8)
    )
