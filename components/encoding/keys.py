"""Short texts as integers: what is sorted, counted and looked up by the million then takes a fifth of the time.

A text of at most eight bytes that does not end in a zero byte is one number below 2^64, its first byte on top: two texts never
share one, and the numbers stand in the order of the texts. Other texts have no key; a column with one goes by the engine's hashes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import polars as pl

from components.hashing import mix_integer

KEY_BYTES = 8
# What is made of a block stays near the core; in smaller ones threads wait for each other between steps.
BLOCK_ROWS = 65_536
_FEWEST_SLOTS = 1_024
_SLOTS_PER_KEY = 2

Keys = np.ndarray[Any, np.dtype[np.uint64]]
Ids = np.ndarray[Any, np.dtype[np.int32]]
Lengths = np.ndarray[Any, np.dtype[np.uint32]]


def keys_of(texts: pl.Series) -> Keys | None:
    """The key of each text, that of a null without meaning; None where a text has no key. (R,) uint64.

    Arrow's views hold a text's length in four bytes and then, up to twelve, its own bytes with zeros behind:
    https://arrow.apache.org/docs/format/Columnar.html#variable-size-binary-view-layout
    """
    keys = np.empty(len(texts), np.uint64)
    done = 0
    for chunk in texts.get_chunks():
        if chunk.is_empty():
            continue
        arrow = chunk.to_arrow(compat_level=pl.CompatLevel.newest())
        views, start = arrow.buffers()[1], 16 * arrow.offset
        lengths = np.ndarray(len(arrow), "<u4", views, start, (16,))
        letters = np.ndarray(len(arrow), ">u8", views, start + 4, (16,))
        for first in range(0, len(arrow), BLOCK_ROWS):
            own = keys[done : done + len(lengths[first : first + BLOCK_ROWS])]
            own[:] = letters[first : first + BLOCK_ROWS]
            done += len(own)
            if not _have_keys(own, lengths[first : first + BLOCK_ROWS]):
                return None
    return keys


def _have_keys(letters: Keys, lengths: Lengths) -> bool:
    """No text is longer than a key, and none that ends in a zero byte would pass for a shorter one."""
    if lengths.max() > KEY_BYTES:
        return False
    is_short = np.flatnonzero(letters.astype(np.uint8) == 0)
    num_bits = 8 * (KEY_BYTES - np.maximum(lengths[is_short], 1)).astype(np.uint64)
    last_bytes = (letters[is_short] >> num_bits).astype(np.uint8)
    return bool(((last_bytes != 0) | (lengths[is_short] == 0)).all())


def texts_of(keys: Keys) -> pl.Series:
    """The texts that have these keys."""
    import pyarrow as pa  # a tenth of a second, which a service that encodes a few rows does not need

    letters = keys.astype(">u8").view(np.uint8).reshape(-1, KEY_BYTES)
    is_within = np.flip(np.logical_or.accumulate(np.flip(letters != 0, axis=1), axis=1), axis=1)
    offsets = np.zeros(len(keys) + 1, np.int64)
    np.cumsum(is_within.sum(axis=1), out=offsets[1:])
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(letters[is_within])]
    texts = pl.from_arrow(pa.Array.from_buffers(pa.large_string(), len(keys), buffers))
    assert isinstance(texts, pl.Series)
    return texts


@dataclass(frozen=True)
class KeyTable:
    """Numbers of keys, looked up all at once: a key is in the slot that its product names, or else in that of a further level.

    keys    the keys by their number; those of the first numbers, which stand for no key, are 0
    levels  of each: an odd factor, how far to shift the product, and the number in each slot, `nothing` in a free one
    """

    keys: Keys
    nothing: int
    levels: tuple[tuple[np.uint64, np.uint64, Ids], ...]

    @classmethod
    def of(cls, keys: Keys, first_number: int, nothing: int) -> Self:
        """Number distinct keys from `first_number` on; the first of them are found the fastest."""
        numbers = np.arange(first_number, first_number + len(keys), dtype=np.int32)
        by_number = np.concatenate([np.zeros(first_number, np.uint64), keys])
        levels: list[tuple[np.uint64, np.uint64, Ids]] = []
        while len(numbers):
            factor = np.uint64(mix_integer(len(levels)) | 1)
            num_bits = max(_FEWEST_SLOTS, _SLOTS_PER_KEY * len(numbers)).bit_length()
            shift = np.uint64(64 - num_bits)
            slots = _slots(by_number[numbers], factor, shift)
            held = np.full(1 << num_bits, nothing, np.int32)
            # Of those that want a slot the last to be written, the first by number, has it.
            held[slots[::-1]] = numbers[::-1]
            levels.append((factor, shift, held))
            numbers = numbers[held[slots] != numbers]
        return cls(by_number, nothing, tuple(levels))

    def numbers_of(self, keys: Keys) -> Ids:
        """The number of each of R keys, `nothing` where it has none. (R,) int32."""
        numbers = np.full(len(keys), self.nothing, np.int32)
        for first in range(0, len(keys), BLOCK_ROWS):
            self._look_up(keys[first : first + BLOCK_ROWS], numbers[first : first + BLOCK_ROWS])
        return numbers

    def _look_up(self, keys: Keys, numbers: Ids) -> None:
        is_open: slice | np.ndarray[Any, np.dtype[np.int64]] = slice(None)
        for factor, shift, held in self.levels:
            wanted = keys[is_open]
            found = held.take(_slots(wanted, factor, shift))
            is_other = self.keys.take(found) != wanted
            is_other &= found != self.nothing
            numbers[is_open] = found
            still_open = np.flatnonzero(is_other)
            if not len(still_open):
                return
            is_open = still_open if isinstance(is_open, slice) else is_open[still_open]
        numbers[is_open] = self.nothing


def _slots(keys: Keys, factor: np.uint64, shift: np.uint64) -> np.ndarray[Any, np.dtype[np.int64]]:
    products = keys * factor
    products >>= shift
    return products.view(np.int64)
