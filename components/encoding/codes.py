"""How one field's values become ids: 0 a missing value, 1 one that train did not have (often enough), from 2 on what is known.

Each kind of code knows two ways to the same id, one for many rows (a polars expression or numpy) and one for a single value (plain
Python, which is faster for the few rows of a request); a test holds them equal.
"""

from __future__ import annotations

import bisect
import functools
from dataclasses import dataclass

import numpy as np
import polars as pl

from components.encoding.keys import BLOCK_ROWS, Ids, KeyTable, keys_of
from components.hashing import hash_string, hash_strings
from components.log import MICROSECONDS_AN_HOUR, TIME

MISSING = 0
UNSEEN = 1
NUM_SPECIAL = 2

_MICROSECONDS_A_DAY = 24 * MICROSECONDS_AN_HOUR
_NUM_WHOLE = 65_536
_WEEKDAY_OF_1970 = 3  # Thursday, Monday being 0


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The values of a categorical field, the most frequent first; behind them the ids that other values share by hash."""

    column: str
    values: pl.Series
    num_hash_buckets: int

    @property
    def size(self) -> int:
        """Ids of this field."""
        return NUM_SPECIAL + len(self.values) + self.num_hash_buckets

    def ids_of(self, values: pl.Series) -> Ids:
        """Ids of many rows: by the keys of short texts where all have one, else by the engine; a choice of speed alone."""
        keys = None if self._by_key is None else keys_of(values)
        if self._by_key is None or keys is None:
            ids = values.alias(self.column).to_frame().select(self.expression).to_series().to_numpy()
        else:
            ids = self._by_key.numbers_of(keys)
            if values.null_count():
                ids[values.is_null().to_numpy()] = MISSING
        return self._with_hashes(ids, values) if self.num_hash_buckets else ids

    @functools.cached_property
    def expression(self) -> pl.Expr:
        """Ids of many rows, still 1 where a hash is to come; built once, since the engine reads all values each time."""
        column = pl.col(self.column)
        known = column.cast(pl.Enum(self.values), strict=False).to_physical().cast(pl.Int32) + NUM_SPECIAL
        return pl.when(column.is_null()).then(MISSING).otherwise(known.fill_null(UNSEEN)).cast(pl.Int32)

    def hashed_ids(self, values: pl.Series) -> Ids:
        """Ids of values that are not in the vocabulary."""
        first = NUM_SPECIAL + len(self.values)
        return (first + (hash_strings(values) % np.uint64(self.num_hash_buckets)).astype(np.int64)).astype(np.int32)

    def id_of(self, value: str | None) -> int:
        """The id of one value."""
        if value is None:
            return MISSING
        known = self._ids.get(value)
        if known is not None:
            return known
        if self.num_hash_buckets:
            return NUM_SPECIAL + len(self.values) + hash_string(value) % self.num_hash_buckets
        return UNSEEN

    def words(self) -> list[str]:
        """What each id from 2 on stands for."""
        return [*self.values.to_list(), *(f"hash {number}" for number in range(self.num_hash_buckets))]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        return (self.column, self.num_hash_buckets) == (other.column, other.num_hash_buckets) and self.values.equals(
            other.values
        )

    __hash__ = None  # type: ignore[assignment]  # it holds a series

    def _with_hashes(self, ids: Ids, values: pl.Series) -> Ids:
        is_open = ids == UNSEEN
        if not is_open.any():
            return ids
        unknown = values.filter(pl.Series(is_open))
        distinct = unknown.unique()
        shared = pl.Series(self.hashed_ids(distinct), dtype=pl.Int32)
        ids = ids.copy()
        ids[is_open] = unknown.replace_strict(distinct, shared).to_numpy()
        return ids

    @functools.cached_property
    def _by_key(self) -> KeyTable | None:
        keys = keys_of(self.values)
        return None if keys is None else KeyTable.of(keys, NUM_SPECIAL, UNSEEN)

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {value: number for number, value in enumerate(self.values.to_list(), NUM_SPECIAL)}


@dataclass(frozen=True)
class Buckets:
    """Ranges of a numeric field: bucket k has the values from edge k (inclusive) to edge k + 1, the first all below edge 1."""

    column: str
    edges: tuple[float, ...]

    @property
    def size(self) -> int:
        """Ids of this field."""
        return NUM_SPECIAL + len(self.edges) + 1

    def ids_of(self, values: pl.Series) -> Ids:
        """Ids of many rows. Most counts are small whole numbers: those are looked up in a table, the others searched."""
        numbers = values.to_numpy()  # a null becomes nan
        ids = np.empty(len(numbers), np.int32)
        for first in range(0, len(numbers), BLOCK_ROWS):
            block = numbers[first : first + BLOCK_ROWS]
            with np.errstate(invalid="ignore"):  # nan and what is too large become a whole number, but not the same one
                whole = block.astype(np.int32)
            is_other = (whole != block) | (whole.view(np.uint32) >= _NUM_WHOLE)
            is_missing = np.isnan(block)
            own = ids[first : first + BLOCK_ROWS]
            self._of_whole.take(whole, mode="clip", out=own)
            others = np.flatnonzero(is_other & ~is_missing)
            own[others] = np.searchsorted(self.edges, block[others], side="right") + NUM_SPECIAL
            own[is_missing] = MISSING
        return ids

    def id_of(self, value: float | None) -> int:
        """The id of one value."""
        if value is None or value != value:
            return MISSING
        return NUM_SPECIAL + bisect.bisect_right(self.edges, value)

    @functools.cached_property
    def _of_whole(self) -> Ids:
        """Ids of 0, 1, 2, ..."""
        ids: Ids = np.searchsorted(self.edges, np.arange(_NUM_WHOLE), side="right").astype(np.int32) + NUM_SPECIAL
        return ids

    def words(self) -> list[str]:
        """What each id from 2 on stands for."""
        if not self.edges:
            return ["any value"]
        between = [f"{low:g} to {high:g}" for low, high in zip(self.edges[:-1], self.edges[1:], strict=True)]
        return [f"below {self.edges[0]:g}", *between, f"from {self.edges[-1]:g}"]


@dataclass(frozen=True)
class Calendar:
    """Hour of the day (0 to 23 UTC) or day of the week (1 = Monday) of the row's time."""

    kind: str

    @property
    def column(self) -> str:
        """Where the value is read from."""
        return TIME

    @property
    def size(self) -> int:
        """Ids of this field."""
        return NUM_SPECIAL + (24 if self.kind == "hour" else 7)

    @property
    def expression(self) -> pl.Expr:
        """Ids of many rows."""
        time = pl.col(TIME)
        if self.kind == "hour":
            number = (time // MICROSECONDS_AN_HOUR) % 24
        else:
            number = (time // _MICROSECONDS_A_DAY + _WEEKDAY_OF_1970) % 7
        return (number + NUM_SPECIAL).fill_null(MISSING).cast(pl.Int32)

    def id_of(self, value: int | None) -> int:
        """The id of one time."""
        if value is None:
            return MISSING
        if self.kind == "hour":
            return NUM_SPECIAL + value // MICROSECONDS_AN_HOUR % 24
        return NUM_SPECIAL + (value // _MICROSECONDS_A_DAY + _WEEKDAY_OF_1970) % 7

    def words(self) -> list[str]:
        """What each id from 2 on stands for."""
        if self.kind == "hour":
            return [f"{hour}:00" for hour in range(24)]
        return ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


Code = Vocabulary | Buckets | Calendar
