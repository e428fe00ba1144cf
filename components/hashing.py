"""Hashes that stay the same in every process, on every machine and with every version of every library.

Stands between `log` and `splitting` in the data's way. Strings go through FNV-1a (64 bits, over the UTF-8 bytes; Fowler,
Noll and Vo, draft-eastlake-fnv) and then through the finaliser of splitmix64 (Steele, Lea and Flood 2014), because
FNV's low bits alone spread poorly. What is trained on hashed ids and what is served must agree for years.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

_OFFSET = 0xCBF29CE484222325
_PRIME = 0x100000001B3
_STEP = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB
_MASK = (1 << 64) - 1

Hashes = np.ndarray[Any, np.dtype[np.uint64]]


def hash_string(text: str) -> int:
    """One string's hash, 0 <= hash < 2**64."""
    state = _OFFSET
    for byte in text.encode():
        state = ((state ^ byte) * _PRIME) & _MASK
    return mix_integer(state)


def mix_integer(number: int) -> int:
    """The splitmix64 step of one integer, 0 <= number < 2**64."""
    state = (number + _STEP) & _MASK
    state = ((state ^ (state >> 30)) * _FIRST) & _MASK
    state = ((state ^ (state >> 27)) * _SECOND) & _MASK
    return state ^ (state >> 31)


def hash_strings(texts: pl.Series) -> Hashes:
    """The hash of each of R strings, equal to `hash_string`; a null hashes as the empty string. (R,) uint64."""
    arrow = texts.fill_null("").cast(pl.String).rechunk().to_arrow().cast("large_string")
    offsets = np.frombuffer(arrow.buffers()[1], dtype=np.int64)[arrow.offset : arrow.offset + len(arrow) + 1]
    content = arrow.buffers()[2]
    letters = np.frombuffer(content, dtype=np.uint8) if content is not None else np.zeros(0, np.uint8)
    lengths = np.diff(offsets)
    # the longest first, so that at each position those still unfinished are the leading ones
    order = np.argsort(-lengths, kind="stable")
    starts, sorted_lengths = offsets[:-1][order], lengths[order]
    state = np.full(len(lengths), _OFFSET, np.uint64)
    prime = np.uint64(_PRIME)
    longest = int(sorted_lengths[0]) if len(lengths) else 0
    for position in range(longest):
        num_unfinished = int(np.searchsorted(-sorted_lengths, -position, side="left"))
        unfinished = slice(0, num_unfinished)
        state[unfinished] = (state[unfinished] ^ letters[starts[unfinished] + position]) * prime
    hashes = np.empty_like(state)
    hashes[order] = mix_integers(state)
    return hashes


def mix_integers(numbers: Hashes) -> Hashes:
    """The splitmix64 step of each of R integers, equal to `mix_integer`. (R,) uint64."""
    state = numbers + np.uint64(_STEP)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(_FIRST)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(_SECOND)
    mixed: Hashes = state ^ (state >> np.uint64(31))
    return mixed
