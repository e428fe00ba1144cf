"""Who learns from which rows: clean_log -> splits, so that no later row helps to predict an earlier one.

Four splits by time (or in the order of rows, where a log has no time), with a gap for late clicks before each cut and
before the window's end; or the published files as they are; or by pairs of user and item.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import polars as pl

from components.artifact import map_array, read_json, write_array, write_json
from components.errors import ConfigError, DataError, IntegrityError
from components.hashing import hash_strings, mix_integer, mix_integers
from components.log import CLICK, MICROSECONDS_AN_HOUR, PART, TIME, CleanLog, microseconds
from components.strict import Strict, parse

SPLIT_NAMES = ("train", "tune", "calibrate", "test")
GAP = -1
_PUBLISHED_PARTS = ("train", "valid", "test")

Assignment = np.ndarray[Any, np.dtype[np.int8]]
Integers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class SplitParams(Strict):
    """How the rows are divided.

    rule                "time" (row order where the log has none), "published" (the files' own parts; valid is halved by
                        seed) or "pairs" (no pair of user and item in two splits)
    tune_share, calibrate_share, test_share
                        of the rows (rule "time": of those old enough for their clicks to have come) or of the pairs;
                        the rest is train; published files have their own
    label_delay_hours   rows so close before a cut, or before the window's end, that their clicks may still come, are left
                        out; 0 for logs without time
    seed                of the halving and of the pairs
    """

    rule: Literal["time", "published", "pairs"]
    tune_share: float
    calibrate_share: float
    test_share: float
    label_delay_hours: float
    seed: int


@dataclass(frozen=True)
class SplitSpan(Strict):
    """One split in figures; times in microseconds since 1970 UTC, null for a log without time."""

    name: str
    num_rows: int
    num_clicks: int
    first_time: int | None
    last_time: int | None


@dataclass(frozen=True, eq=False)
class Splits:
    """Each row of the clean log in one split or in the gap.

    assignment  (R,) int8, aligned with the clean log's rows: an index into SPLIT_NAMES, or -1 for the gap
    note        how the rows were divided, in words, to stand beside figures
    """

    rule: Literal["time", "published", "pairs"]
    spans: tuple[SplitSpan, ...]
    num_gap_rows: int
    note: str
    assignment: Assignment

    def span(self, name: str) -> SplitSpan:
        """One split's figures."""
        return self.spans[SPLIT_NAMES.index(name)]

    def rows_of(self, name: str) -> Integers:
        """The numbers of one split's rows, ascending. (R_split,) int64."""
        return np.flatnonzero(self.assignment == SPLIT_NAMES.index(name)).astype(np.int64)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Splits):
            return NotImplemented
        return self._account() == other._account() and np.array_equal(self.assignment, other.assignment)

    __hash__ = None  # type: ignore[assignment]  # it holds an array

    def save(self, folder: Path) -> None:
        """Write the account as splits.json and each row's split as assignment.npy."""
        write_json(folder / "splits.json", self._account())
        write_array(folder / "assignment.npy", self.assignment)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the account and map the assignment; raises IntegrityError where they do not belong together."""
        content = read_json(folder / "splits.json")
        account = parse(_Account, content, str(folder / "splits.json"), IntegrityError)
        assignment = map_array(folder / "assignment.npy")
        num_rows = sum(span.num_rows for span in account.spans) + account.num_gap_rows
        names = tuple(span.name for span in account.spans)
        if assignment.shape != (num_rows,) or assignment.dtype != np.int8 or names != SPLIT_NAMES:
            raise IntegrityError(
                f"{folder / 'assignment.npy'}: holds {assignment.shape} of {assignment.dtype} where splits.json counts "
                f"{num_rows:,} rows; run the split stage again"
            )
        return cls(account.rule, account.spans, account.num_gap_rows, account.note, assignment)

    def _account(self) -> _Account:
        return _Account(self.rule, self.spans, self.num_gap_rows, self.note)


@dataclass(frozen=True)
class _Account(Strict):
    rule: Literal["time", "published", "pairs"]
    spans: tuple[SplitSpan, ...]
    num_gap_rows: int
    note: str


def split_log(clean_log: CleanLog, params: SplitParams) -> Splits:
    """Divide the rows by the rule; raises DataError where a split lacks clicks or rows without, saying what to change."""
    _refuse_unusable_params(clean_log, params)
    table = clean_log.scan().select(TIME, CLICK).collect()
    times, clicks = table[TIME].to_numpy(), table[CLICK].to_numpy()
    if params.rule == "published":
        assignment, note = _by_part(clean_log, params)
    elif params.rule == "pairs":
        assignment, note = _by_pair(clean_log, params)
    else:
        assignment, note = _by_time(clean_log, times, params)
    has_time = clean_log.schema.time is not None
    spans = tuple(_span(name, assignment == number, times, clicks, has_time) for number, name in enumerate(SPLIT_NAMES))
    for span in spans:
        _refuse_one_sided(span, params)
    return Splits(params.rule, spans, int(np.count_nonzero(assignment == GAP)), note, assignment)


def _refuse_unusable_params(clean_log: CleanLog, params: SplitParams) -> None:
    shares = (params.tune_share, params.calibrate_share, params.test_share)
    if params.rule != "published" and (min(shares) <= 0 or sum(shares) >= 1):
        raise ConfigError(
            f"[split] tune_share, calibrate_share and test_share must be above 0 and leave rows for train: {shares}"
        )
    if params.label_delay_hours < 0:
        raise ConfigError(f"[split] label_delay_hours is {params.label_delay_hours}; it cannot be below 0")
    if params.label_delay_hours > 0 and (clean_log.schema.time is None or params.rule != "time"):
        raise ConfigError(
            f"[split] label_delay_hours is {params.label_delay_hours}, but only a split by time of a log with times can wait for clicks; set it to 0"
        )


def _by_time(clean_log: CleanLog, times: Integers, params: SplitParams) -> tuple[Assignment, str]:
    """Cuts at shares of the rows; a tie with a cut's moment is broken by the order of rows."""
    has_time = clean_log.schema.time is not None
    delay = round(params.label_delay_hours * MICROSECONDS_AN_HOUR)
    window = clean_log.request.window
    assignment = np.full(len(times), GAP, np.int8)
    num_ripe = len(times)
    if has_time and delay:
        known_until = window.as_of or window.end
        end = microseconds(known_until) if known_until is not None else int(times[-1])
        num_ripe = int(np.searchsorted(times, end - delay, side="right"))
    train_share = 1.0 - params.tune_share - params.calibrate_share - params.test_share
    shares = np.cumsum([train_share, params.tune_share, params.calibrate_share])
    cuts = [0, *(int(share * num_ripe) for share in shares), num_ripe]
    for number, (first, last) in enumerate(itertools.pairwise(cuts)):
        is_followed = last < num_ripe and has_time and delay > 0
        if is_followed:  # rows whose clicks may come after the next split's first moment
            last = int(np.searchsorted(times[:last], int(times[last]) - delay, side="right"))
        assignment[first : max(first, last)] = number
    order = (
        f"by time, {params.label_delay_hours:g} hours left out before each cut" if has_time else "in the order of rows"
    )
    return assignment, order


def _by_part(clean_log: CleanLog, params: SplitParams) -> tuple[Assignment, str]:
    """The published files; valid is halved, exactly, in an order that the seed gives."""
    if PART not in clean_log.scan().collect_schema():
        raise ConfigError("[split] rule is 'published', but this log is not published in parts; use 'time' or 'pairs'")
    parts = clean_log.scan().select(pl.col(PART).fill_null("")).collect().to_series()
    found = set(parts.unique())
    if found != set(_PUBLISHED_PARTS):
        raise ConfigError(
            f"[split] rule 'published' needs the parts {list(_PUBLISHED_PARTS)}, found {sorted(found)}; use 'time' or 'pairs'"
        )
    assignment = np.full(len(parts), GAP, np.int8)
    assignment[(parts == "train").to_numpy()] = SPLIT_NAMES.index("train")
    assignment[(parts == "test").to_numpy()] = SPLIT_NAMES.index("test")
    valid = np.flatnonzero((parts == "valid").to_numpy())
    keys = mix_integers(np.arange(len(valid), dtype=np.uint64) ^ np.uint64(mix_integer(params.seed)))
    order = np.argsort(keys, kind="stable")
    assignment[valid[order[: len(valid) // 2]]] = SPLIT_NAMES.index("tune")
    assignment[valid[order[len(valid) // 2 :]]] = SPLIT_NAMES.index("calibrate")
    return assignment, f"published files kept; the valid file halved by seed {params.seed} into tune and calibrate"


def _by_pair(clean_log: CleanLog, params: SplitParams) -> tuple[Assignment, str]:
    """Every row of one (user, item) pair in the split that the pair's hash names."""
    schema = clean_log.schema
    if schema.user is None or schema.item is None:
        raise ConfigError("[split] rule is 'pairs', but the schema names no user and item; name both, or use 'time'")
    table = clean_log.scan().select(schema.user, schema.item).collect()
    user, item = (hash_strings(table[name].cast(pl.String)) for name in (schema.user, schema.item))
    keys = mix_integers(mix_integers(user ^ np.uint64(mix_integer(params.seed))) ^ item)
    place = (keys >> np.uint64(11)).astype(np.float64) / float(1 << 53)
    edges = 1.0 - np.cumsum([params.test_share, params.calibrate_share, params.tune_share])[::-1]
    assignment = np.searchsorted(edges, place, side="right").astype(np.int8)
    return (
        assignment,
        f"by pairs of '{schema.user}' and '{schema.item}' (seed {params.seed}): no pair in two splits, rows of all times in each",
    )


def _span(
    name: str, is_in: np.ndarray[Any, np.dtype[np.bool_]], times: Integers, clicks: Assignment, has_time: bool
) -> SplitSpan:
    inside = times[is_in]
    ends = (int(inside.min()), int(inside.max())) if has_time and len(inside) else (None, None)
    return SplitSpan(name, len(inside), int(clicks[is_in].sum(dtype=np.int64)), *ends)


def _refuse_one_sided(span: SplitSpan, params: SplitParams) -> None:
    if 0 < span.num_clicks < span.num_rows:
        return
    if params.rule == "published":
        advice = "the published files cannot be used as they are; use rule 'time' or 'pairs'"
    else:
        key = "the other shares (train is what they leave)" if span.name == "train" else f"{span.name}_share"
        change = "lower" if span.name == "train" else "raise"
        advice = f"{change} {key} in [split]"
        if params.label_delay_hours > 0:
            advice += f", lower label_delay_hours (now {params.label_delay_hours:g})"
        advice += ", or take a longer window"
    raise DataError(
        f"splits: '{span.name}' has {span.num_rows:,} rows with {span.num_clicks:,} clicks; both clicks and rows without are needed: {advice}"
    )
