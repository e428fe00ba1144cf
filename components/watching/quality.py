"""Clicks and scores of rows whose click is final, as sums that add up over parts, and the figures made of them.

Shape letters: R rows of a part, G groups (all rows first, then slices), K cells of the grid of scores, C bins of the reference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import polars as pl
from scipy import special

from components.log import TIME, LogSchema
from components.metrics import SCORE_CLIP
from components.profiling.binning import Counts, Floats
from components.watching.distances import auc_deviation
from components.watching.drift import Quality
from components.watching.reference import GroupReference, Interval, QualityReference

# AUC is taken from cells of logits 0.02 wide: pairs within one cell count one half, which moves it by less than 1e-4.
_GRID = np.arange(-14.0, 14.0, 0.02)
NUM_CELLS = len(_GRID) + 1
_NUM_NULL_DRAWS = 400

Ints = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, eq=False)
class QualityTally:
    """Sums over rows; two of them add up to that of both parts.

    by_click   (G, 2, 4): rows, scores, losses and squared losses of rows without (0) and with a click (1)
    variances  (G,) sums of score * (1 - score)
    grid       (G, 2, K) rows by click and cell of the score
    by_bin     (G, C, 4): rows, clicks, scores and variances by the reference's bin of scores
    """

    by_click: Floats
    variances: Floats
    grid: Ints
    by_bin: Floats

    def __add__(self, other: QualityTally) -> QualityTally:
        return QualityTally(
            self.by_click + other.by_click,
            self.variances + other.variances,
            self.grid + other.grid,
            self.by_bin + other.by_bin,
        )

    @classmethod
    def empty(cls, reference: QualityReference) -> Self:
        """Of no rows."""
        num_groups = len(reference.groups)
        return cls(
            np.zeros((num_groups, 2, 4)),
            np.zeros(num_groups),
            np.zeros((num_groups, 2, NUM_CELLS), dtype=np.int64),
            np.zeros((num_groups, len(reference.bins), 4)),
        )

    def num_rows(self, group: int) -> int:
        """Rows of a group."""
        return round(float(self.by_click[group, :, 0].sum()))

    def num_clicks(self, group: int) -> int:
        """Clicks of a group."""
        return round(float(self.by_click[group, 1, 0]))

    def score_sum(self, group: int) -> float:
        """Sum of a group's scores."""
        return float(self.by_click[group, :, 1].sum())

    def dispersion(self, group: int) -> float:
        """Variance of the number of clicks over its mean, if every score is true: 1 - score, weighed by the scores."""
        score_sum = self.score_sum(group)
        return float(self.variances[group]) / score_sum if score_sum > 0 else 1.0

    def auc(self, group: int) -> float | None:
        """Area under the ROC curve; None where a class is absent."""
        others, clicks = self.grid[group].astype(np.float64)
        if not others.sum() or not clicks.sum():
            return None
        below = np.concatenate([[0.0], np.cumsum(others)[:-1]])
        return float((clicks * (below + others / 2)).sum() / clicks.sum() / others.sum())


def cells_of(scores: Floats) -> Counts:
    """The cell of the grid of each score (R,)."""
    logits = special.logit(np.clip(scores, SCORE_CLIP, 1 - SCORE_CLIP))
    return np.asarray(np.searchsorted(_GRID, logits), dtype=np.int64)


def count_quality(
    rows: pl.DataFrame, clicks: Counts, scores: Floats, reference: QualityReference, schema: LogSchema
) -> QualityTally:
    """Count rows (_time and the column fields) whose clicks (R,) are final and whose scores (R,) are probabilities."""
    tally = QualityTally.empty(reference)
    if len(clicks) == 0:
        return tally
    clipped = np.clip(scores, SCORE_CLIP, 1 - SCORE_CLIP)
    is_click = clicks != 0
    losses = -np.log(np.where(is_click, clipped, 1 - clipped))
    variances = scores * (1 - scores)
    cells = cells_of(scores)
    numbered = {group.name: number for number, group in enumerate(reference.groups)}
    codes = [np.zeros(len(clicks), dtype=np.int64)]
    codes += [_groups_of(rows, name, reference, schema, numbered) for name in _slice_fields(reference)]
    num_groups, num_bins = len(reference.groups), len(reference.bins)
    bins = bins_of(scores, reference)
    for groups in codes:
        is_in = groups >= 0
        chosen = groups[is_in]
        places = chosen * 2 + is_click[is_in]
        for column, weights in enumerate((None, scores, losses, losses**2)):
            weighed = None if weights is None else weights[is_in]
            tally.by_click[:, :, column] += np.bincount(places, weighed, 2 * num_groups).reshape(num_groups, 2)
        tally.variances[:] += np.bincount(chosen, variances[is_in], num_groups)
        counted = np.bincount(places * NUM_CELLS + cells[is_in], minlength=2 * num_groups * NUM_CELLS)
        tally.grid[:] += counted.reshape(num_groups, 2, NUM_CELLS)
        if num_bins:
            places = chosen * num_bins + bins[is_in]
            for column, weights in enumerate((None, is_click, scores, variances)):
                sums = np.bincount(places, None if weights is None else weights[is_in], num_groups * num_bins)
                tally.by_bin[:, :, column] += sums.reshape(num_groups, num_bins)
    return tally


def bins_of(scores: Floats, reference: QualityReference) -> Counts:
    """The reference's bin of each score (R,): up to its highest score, the last bin without end."""
    edges = np.array([one.highest_score for one in reference.bins[:-1]])
    return np.searchsorted(edges, scores, side="left").astype(np.int64)


def figures_of(tally: QualityTally, reference: QualityReference, confidence: float, seed: int) -> tuple[Quality, ...]:
    """The figures of every group that has rows, all rows first."""
    quantile = float(special.ndtri((1 + confidence) / 2))
    shown = [number for number in range(len(reference.groups)) if tally.num_rows(number)]
    return tuple(_figures(tally, number, reference, quantile, confidence, seed) for number in shown)


def _figures(
    tally: QualityTally, group: int, reference: QualityReference, quantile: float, confidence: float, seed: int
) -> Quality:
    known: GroupReference = reference.groups[group]
    num_rows, num_clicks = tally.num_rows(group), tally.num_clicks(group)
    error, null = _calibration_error(tally, group, confidence, seed)
    has_both = 0 < num_clicks < num_rows
    auc = tally.auc(group)
    log_loss, entropy = _losses(tally, group, quantile)
    wide = quantile * math.sqrt(tally.dispersion(group) * reference.inflation / num_clicks) if num_clicks else 0.0
    ratio = tally.score_sum(group) / num_clicks if num_clicks else None
    deviation = auc_deviation(auc, num_clicks, num_rows - num_clicks) if auc is not None else 0.0
    return Quality(
        slice=known.name,
        num_rows=num_rows,
        num_clicks=num_clicks,
        auc=None if auc is None else _interval(auc, quantile * deviation),
        log_loss=log_loss,
        normalised_entropy=entropy if has_both else None,
        calibration_ratio=None if ratio is None else Interval(ratio, ratio * math.exp(-wide), ratio * math.exp(wide)),
        calibration_error=error,
        calibration_error_null=null,
        reference_auc=known.auc,
        reference_log_loss=known.log_loss,
        reference_normalised_entropy=known.normalised_entropy,
        reference_calibration_ratio=known.calibration_ratio,
        reference_calibration_error=reference.calibration_error if group == 0 else None,
    )


def _losses(tally: QualityTally, group: int, quantile: float) -> tuple[Interval, Interval | None]:
    """Log loss, and normalised entropy: a ratio of means, so its variance is that of loss - ratio * base loss by row."""
    rows, _, losses, squares = tally.by_click[group].T
    num_rows, loss = float(rows.sum()), float(losses.sum())
    mean = loss / num_rows
    variance = max(float(squares.sum()) / num_rows - mean**2, 0.0)
    log_loss = _interval(mean, quantile * math.sqrt(variance / num_rows))
    rate = float(rows[1]) / num_rows
    if not 0 < rate < 1:
        return log_loss, None
    base = -np.log(np.array([1 - rate, rate]))
    entropy = float((rows * base).sum()) / num_rows
    ratio = mean / entropy
    residual_squares = squares - 2 * ratio * base * losses + rows * (ratio * base) ** 2
    deviation = math.sqrt(max(float(residual_squares.sum()), 0.0)) / num_rows / entropy
    return log_loss, _interval(ratio, quantile * deviation)


def _calibration_error(
    tally: QualityTally, group: int, confidence: float, seed: int
) -> tuple[float | None, float | None]:
    """ECE over the reference's bins, and its quantile if clicks were drawn from the scores (normal law by bin)."""
    rows, clicks, scores, variances = tally.by_bin[group].T
    if not rows.sum():
        return None, None
    draws = np.random.default_rng(seed).normal(size=(_NUM_NULL_DRAWS, len(rows))) * np.sqrt(variances)
    null = float(np.quantile(np.abs(draws).sum(axis=1), confidence))
    return float(np.abs(scores - clicks).sum() / rows.sum()), null / float(rows.sum())


def _interval(value: float, half: float) -> Interval:
    return Interval(value, value - half, value + half)


def _slice_fields(reference: QualityReference) -> Sequence[str]:
    return list(dict.fromkeys(group.field for group in reference.groups if group.field is not None))


def _groups_of(
    rows: pl.DataFrame, name: str, reference: QualityReference, schema: LogSchema, numbered: dict[str, int]
) -> Counts:
    """The group of each row (R,) by one field; -1 where it belongs to none."""
    field = next(field for field in schema.fields if field.name == name)
    groups = [group for group in reference.groups if group.field == name]
    values = rows[name] if not field.is_from_time else _time_in_words(rows[TIME], field.kind)
    if field.kind == "numeric":
        values = values.fill_nan(None)
    is_missing = values.is_null().to_numpy()
    rest = next((numbered[group.name] for group in groups if group.is_rest), -1)
    known = [group for group in groups if group.value is not None]
    numbers = np.array([*(numbered[group.name] for group in known), rest], dtype=np.int64)
    if field.kind == "numeric":
        bounds = [(-np.inf, np.inf) if group.bounds is None else group.bounds for group in known]
        given = values.fill_null(np.nan).to_numpy()
        codes = np.full(len(given), len(known))
        for number, (above, up_to) in enumerate(bounds):
            codes[(given > above) & (given <= up_to)] = number
    else:
        words = pl.Enum([group.value for group in known if group.value is not None])
        codes = values.cast(words, strict=False).to_physical().cast(pl.Int64).fill_null(len(known)).to_numpy()
    missing = next((numbered[group.name] for group in groups if group.is_missing), rest)
    return np.where(is_missing, missing, numbers[codes])


def _time_in_words(times: pl.Series, kind: str) -> pl.Series:
    """An hour "00" to "23" or a weekday "1" to "7", as the evaluation names its slices."""
    moments = times.cast(pl.Datetime("us"))
    return moments.dt.hour().cast(pl.String).str.zfill(2) if kind == "hour" else moments.dt.weekday().cast(pl.String)
