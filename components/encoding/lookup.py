"""The ids of many short values at once: a hash table in arrays, filled and asked without a loop over rows.

Values of at most 12 bytes stand whole in the 16 bytes that the engine keeps for each (Arrow's string view: the length,
then the bytes, then zeros), so two of them are equal when these 16 bytes are. Where the vocabulary's values are all so
short, as hashed categories are, looking ids up this way takes a fifth of the engine's time, and it is as exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import polars as pl

from components.hashing import Hashes

MOST_BYTES = 12

BLOCK_ROWS = 16_384  # so that all that is computed of a block stays in a core's cache
_SLOTS_PER_VALUE = 2  # at least; slots are a power of 2
_FACTORS = (np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F))  # odd, bits as if by chance

Ids = np.ndarray[Any, np.dtype[np.int32]]
Views = np.ndarray[Any, np.dtype[np.complex128]]  # 16 bytes each, only ever moved and compared as two integers
Slots = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True, eq=False)
class ShortValues:
    """Slots in which distinct values stand, each in the first free one from where its hash points on.

    views  (S,) what stands in a slot; zeros where nothing does
    ids    (S,) its id; `absent` where nothing does
    absent the id of a value that is not there
    """

    views: Views
    ids: Ids
    absent: int

    @classmethod
    def of(cls, values: pl.Series, first_id: int, absent: int) -> Self | None:
        """A table of distinct values, whose ids count from `first_id`; None where one is too long (or empty) for it."""
        lengths = values.str.len_bytes().to_numpy()
        if not len(lengths) or lengths.max() > MOST_BYTES or lengths.min() == 0:
            return None
        num_slots = 1 << (_SLOTS_PER_VALUE * len(values) - 1).bit_length()
        table = cls(np.zeros(num_slots, np.complex128), np.full(num_slots, absent, np.int32), absent)
        found = _views_of(values)
        ids = np.arange(first_id, first_id + len(values), dtype=np.int32)
        waiting = np.arange(len(values))
        slots = table._first_slots(found)
        while len(waiting):
            is_free = table.ids[slots] == absent
            meeting = np.flatnonzero(is_free)[::-1]  # of those that meet in one slot the first stays, the more frequent
            table.ids[slots[meeting]] = ids[waiting[meeting]]
            is_in = is_free & (table.ids[slots] == ids[waiting])
            table.views[slots[is_in]] = found[waiting[is_in]]
            waiting, slots = waiting[~is_in], (slots[~is_in] + 1) & (num_slots - 1)
        return table

    def ids_of(self, values: pl.Series, missing: int) -> Ids:
        """The ids of R values; `missing` for a null. (R,) int32."""
        found = _views_of(values)
        ids = np.empty(len(values), np.int32)
        for first in range(0, len(values), BLOCK_ROWS):
            block = slice(first, first + BLOCK_ROWS)
            ids[block] = self._look_up(found[block])
        if values.null_count():
            ids[values.is_null().to_numpy()] = missing
        return ids

    def _look_up(self, wanted: Views) -> Ids:
        slots = self._first_slots(wanted)
        ids: Ids = self.ids.take(slots)
        differing = _differing(self.views.take(slots), wanted)
        waiting = differing[
            ids[differing] != self.absent
        ]  # another value stands there: the next slot may hold this one
        ids[differing] = self.absent
        slots = slots[waiting]
        while len(waiting):
            slots = (slots + 1) & (len(self.ids) - 1)
            there = self.ids.take(slots)
            differing = _differing(self.views.take(slots), wanted[waiting])
            is_settled = np.ones(len(waiting), np.bool_)
            is_settled[differing] = there[differing] == self.absent
            ids[waiting[is_settled]] = there[is_settled]
            waiting, slots = waiting[~is_settled], slots[~is_settled]
        return ids

    def _first_slots(self, views: Views) -> Slots:
        halves = views.view(np.uint64).reshape(-1, 2)
        hashes: Hashes = halves[:, 0] * _FACTORS[0]
        hashes += halves[:, 1] * _FACTORS[1]
        hashes >>= np.uint64(64 - (len(self.ids) - 1).bit_length())
        return hashes.view(np.int64)


def _differing(some: Views, others: Views) -> Slots:
    """Where two views are not the same, bit for bit."""
    these, those = some.view(np.uint64), others.view(np.uint64)
    return np.flatnonzero((these[::2] != those[::2]) | (these[1::2] != those[1::2]))


def _views_of(values: pl.Series) -> Views:
    """The 16 bytes of each value, as they lie in the engine's memory; of a null they mean nothing."""
    arrow = values.rechunk().to_arrow(compat_level=pl.CompatLevel.newest())
    assert str(arrow.type) == "string_view", "polars keeps text as views"
    views: Views = np.frombuffer(arrow.buffers()[1], np.complex128)[arrow.offset : arrow.offset + len(arrow)]
    return views
