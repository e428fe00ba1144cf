"""Short texts as integers: no two texts share one, order and counts are those of the texts, and a table finds what a dictionary finds."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.encoding import MISSING, UNSEEN
from components.encoding.codes import Vocabulary
from components.encoding.counting import Counting
from components.encoding.keys import KeyTable, keys_of, texts_of

short_texts = st.lists(st.text(alphabet="ab0\x7fé", max_size=8).filter(lambda text: len(text.encode()) <= 8))


@settings(deadline=None)
@given(short_texts)
def test_keys_stand_in_the_order_of_their_texts_and_give_them_back(texts: list[str]) -> None:
    ordered = sorted(texts, key=str.encode)
    keys = keys_of(pl.Series(ordered, dtype=pl.String))
    assert keys is not None
    assert (np.diff(keys.astype(object)) >= 0).all()
    is_repeated = [one == other for one, other in itertools.pairwise(ordered)]
    assert [one == other for one, other in itertools.pairwise(keys)] == is_repeated
    assert texts_of(keys).to_list() == ordered


@pytest.mark.parametrize("text", ["ninebytes", "a\0", "\0", "seven77\0", "thirteenbytes"])
def test_a_text_that_is_too_long_or_ends_in_a_zero_byte_has_no_key(text: str) -> None:
    assert keys_of(pl.Series(["short", text, None])) is None


def test_a_column_in_parts_that_begin_in_the_middle_has_the_keys_of_its_rows() -> None:
    texts = pl.Series(["left out", "a", None, "b\0c", "", "12345678"])
    column = pl.concat([texts[1:], texts[3:]], rechunk=False)
    keys = keys_of(column)
    assert keys is not None
    assert texts_of(keys[[0, *range(2, 8)]]).to_list() == ["a", "b\0c", "", "12345678", "b\0c", "", "12345678"]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 5_000))
def test_a_table_finds_what_a_dictionary_finds(seed: int, num_keys: int) -> None:
    rng = np.random.default_rng(seed)
    known = np.unique(rng.integers(0, 20_000, num_keys).astype(np.uint64) << np.uint64(rng.integers(0, 49)))
    rng.shuffle(known)
    asked = np.concatenate([known, rng.integers(0, 2**64, 500, dtype=np.uint64), np.zeros(1, np.uint64)])
    expected = {int(key): number for number, key in enumerate(known, 2)}
    found = KeyTable.of(known, 2, 1).numbers_of(asked)
    assert found.tolist() == [expected.get(int(key), 1) for key in asked]


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 9) | st.integers(2**63, 2**63 + 9)), min_size=1, max_size=6))
def test_counting_piece_by_piece_counts_as_a_loop_does(pieces: list[list[int]]) -> None:
    counting = Counting()
    for piece in pieces:
        counting.add(np.array(piece, np.uint64))
    numbers, counts = counting.total()
    assert list(zip(numbers.tolist(), counts.tolist(), strict=True)) == sorted(
        Counter(itertools.chain(*pieces)).items()
    )


@pytest.mark.parametrize("further", ["f", "a text that has no key"])
@pytest.mark.parametrize("num_hash_buckets", [0, 5])
def test_a_vocabulary_gives_the_same_ids_with_and_without_keys(further: str, num_hash_buckets: int) -> None:
    values = pl.Series("field", ["b", "a", "d\0e", "", further])
    code = Vocabulary("field", values, num_hash_buckets)
    rows = pl.Series(["a", None, "z", further, "", "d\0e", "a\0", "b"])
    for column in (rows, rows.head(6)):  # the last but one has no key
        assert code.ids_of(column).tolist() == [code.id_of(value) for value in column.to_list()]
    assert code.id_of(None) == MISSING
    assert num_hash_buckets or code.id_of("z") == UNSEEN
