"""What is known of the champion's clicks: its test evaluation, overall, by slice and by score.

Read from the bundle's files as `components.evaluating` writes them, without importing it, which would bring torch.
Shape letters: C bins of scores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy import special

from components.artifact import read_json, read_table
from components.errors import IntegrityError
from components.log import LogSchema
from components.metrics import ReliabilityBin
from components.profiling import ReferenceProfile
from components.profiling.binning import MISSING, OTHER
from components.strict import Strict, parse

ALL = "all"
_DIGITS = 6  # of a bound in the words of a slice


@dataclass(frozen=True)
class Interval(Strict):
    """A figure with its approximate interval; the bounds are None where there is none."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class GroupReference:
    """One slice of the champion's test rows.

    field, value  None and None for all rows; value is None for rows without one, and for all values without a slice
    is_rest       the rows of all values that have no slice of their own
    bounds        of a range of numbers: above the first, up to the second
    score_sum     sum of its scores
    figures       None where a class was absent
    """

    field: str | None
    value: str | None
    num_rows: int
    num_clicks: int
    score_sum: float
    auc: float | None
    log_loss: float | None
    normalised_entropy: float | None
    is_rest: bool = False
    bounds: tuple[float, float] | None = None

    @property
    def is_missing(self) -> bool:
        """The rows without a value of the field."""
        return self.field is not None and self.value is None and not self.is_rest

    @property
    def name(self) -> str:
        """As alerts and figures name it: "all", or field=value."""
        if self.field is None:
            return ALL
        return f"{self.field}={OTHER if self.is_rest else MISSING if self.value is None else self.value}"

    @property
    def calibration_ratio(self) -> float | None:
        """Mean score / click rate."""
        return self.score_sum / self.num_clicks if self.num_clicks else None


@dataclass(frozen=True)
class QualityReference:
    """The champion's test rows: all of them first, then the slices that can be told apart in a served row.

    bins       by score, for clicks given score; empty where the evaluation is not at hand
    inflation  variance of the number of clicks over that of independent clicks: 1 or more, where rows come in clusters
    """

    groups: tuple[GroupReference, ...]
    bins: tuple[ReliabilityBin, ...]
    inflation: float

    @property
    def overall(self) -> GroupReference:
        """All test rows."""
        return self.groups[0]

    @property
    def calibration_error(self) -> float | None:
        """ECE of all test rows; None without bins."""
        rows = sum(one.num_rows for one in self.bins)
        apart = sum(one.num_rows * abs(one.mean_score - one.click_rate) for one in self.bins)
        return apart / rows if rows else None

    @property
    def num_slices(self) -> int:
        """Slices beside "all"."""
        return len(self.groups) - 1


def read_reference(folder: Path, schema: LogSchema) -> QualityReference:
    """Read a bundle's figures of all test rows, of every slice, and its reliability diagram.

    Raises IntegrityError for files that do not hold what an evaluation of this schema holds.
    """
    path = folder / "evaluation.json"
    content = read_json(path)
    figures = content.get("challenger") if isinstance(content, dict) else None
    if not isinstance(figures, dict):
        raise IntegrityError(f"{path}: no evaluation of a challenger; run fetch again")
    confidence = content.get("confidence")
    overall = parse(_Overall, _part(figures, _Overall) | {"confidence": confidence}, str(path), IntegrityError)
    kinds = {field.name: field.kind for field in schema.fields}
    groups = [
        GroupReference(
            None,
            None,
            overall.num_rows,
            overall.num_clicks,
            overall.mean_score * overall.num_rows,
            overall.auc.value,
            overall.log_loss.value,
            overall.normalised_entropy.value,
        )
    ]
    tables = {
        "slices": [_part(row, _Slice) for row in read_table(folder / "slices.parquet").to_dicts()],
        "bins": read_table(folder / "reliability.parquet").to_dicts(),
    }
    read = parse(_Tables, tables, f"{folder}: slices.parquet and reliability.parquet", IntegrityError)
    groups += [
        GroupReference(
            one.field,
            one.value,
            one.num_rows,
            one.num_clicks,
            one.mean_score * one.num_rows,
            one.auc,
            one.log_loss,
            one.normalised_entropy,
            one.is_rest,
            None if one.value is None or kinds[one.field] != "numeric" else _bounds_of(one.value, path),
        )
        for one in read.slices
        if one.field in kinds
    ]
    return QualityReference(tuple(groups), read.bins, _inflation(overall))


def reference_of_profile(profile: ReferenceProfile) -> QualityReference:
    """The overall figures that a profile keeps, for a champion whose evaluation is not at hand."""
    clicks = int(profile.tally.counts["clicks"].sum())
    sums, known = float(profile.tally.score_sums.sum()), profile.metrics
    group = GroupReference(
        None, None, profile.num_rows, clicks, sums, known["auc"], known["log_loss"], known["normalised_entropy"]
    )
    return QualityReference((group,), (), 1.0)


@dataclass(frozen=True)
class _Overall(Strict):
    confidence: float
    num_rows: int
    num_clicks: int
    mean_score: float
    auc: Interval
    log_loss: Interval
    normalised_entropy: Interval
    calibration_ratio: Interval


@dataclass(frozen=True)
class _Slice(Strict):
    field: str
    value: str | None
    is_rest: bool
    num_rows: int
    num_clicks: int
    mean_score: float
    auc: float | None
    log_loss: float
    normalised_entropy: float | None


@dataclass(frozen=True)
class _Tables(Strict):
    slices: tuple[_Slice, ...]
    bins: tuple[ReliabilityBin, ...]


def _bounds_of(words: str, place: Path) -> tuple[float, float]:
    """The bounds that a range of numbers is named by: "up to 2.5", "2.5 to 4", "above 4".

    The words hold six digits, so a bound is the largest number that is written so: values at the bound itself, which may be
    many rows, then fall on the side where the evaluation has them.
    """
    if words.startswith("up to "):
        low, high = None, words.removeprefix("up to ")
    elif words.startswith("above "):
        low, high = words.removeprefix("above "), None
    else:
        low, _, high = words.partition(" to ")
    try:
        return -math.inf if low is None else _largest_of(low), math.inf if high is None else _largest_of(high)
    except ValueError as error:
        raise IntegrityError(f"{place}: '{words}' is no range of numbers; run fetch again") from error


def _largest_of(words: str) -> float:
    """The largest number that six digits write as these: half a unit of the sixth digit more."""
    number = float(words)
    return number if number == 0 else number + 0.5 * 10.0 ** (math.floor(math.log10(abs(number))) - _DIGITS + 1)


def _part(content: dict[str, Any], kind: type[Strict]) -> dict[str, Any]:
    """What `kind` reads of a larger record."""
    return {name: content[name] for name in kind.__annotations__ if name in content}


def _inflation(figures: _Overall) -> float:
    """How much wider the bootstrap found the calibration ratio than independent clicks would leave it."""
    ratio = figures.calibration_ratio
    if ratio.low is None or ratio.high is None or ratio.low <= 0 or figures.num_clicks == 0:
        return 1.0
    deviation = math.log(ratio.high / ratio.low) / (2 * float(special.ndtri((1 + figures.confidence) / 2)))
    return max(1.0, deviation**2 * figures.num_clicks)
