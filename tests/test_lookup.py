"""Looking up short values: what a dictionary says of each."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from components.encoding.codes import Vocabulary
from components.encoding.lookup import MOST_BYTES, ShortValues

texts = st.text("ab\0é", max_size=5) | st.sampled_from(["a" * 12, "a" * 11 + "b", "a" * 13, "\0" * 12, "b" * 40])
known = st.lists(texts.filter(lambda text: 0 < len(text.encode()) <= MOST_BYTES), min_size=1, max_size=40, unique=True)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
@given(values=known, asked=st.lists(st.none() | texts, max_size=60), skipped=st.integers(0, 3))
def test_short_values_have_the_ids_that_a_dictionary_gives(
    values: list[str], asked: list[str | None], skipped: int
) -> None:
    table = ShortValues.of(pl.Series(values), 2, 1)
    assert table is not None
    number_of = {value: number for number, value in enumerate(values, 2)}
    wanted = [0 if value is None else number_of.get(value, 1) for value in asked]
    rows = pl.Series(asked, dtype=pl.String)
    assert table.ids_of(rows, 0).tolist() == wanted
    assert table.ids_of(rows[skipped:], 0).tolist() == wanted[skipped:]
    pieces = pl.concat([rows, rows], rechunk=False)
    assert table.ids_of(pieces, 0).tolist() == wanted * 2


def test_many_values_and_more_rows_than_a_block_are_found() -> None:
    rng = np.random.default_rng(4)
    numbers = rng.choice(1 << 32, 50_000, replace=False)
    words = [f"{number:08x}" for number in numbers]
    values, rows = words[:30_000], rng.permutation(np.array(words * 2))
    table = ShortValues.of(pl.Series(values), 2, 1)
    assert table is not None
    number_of = {value: number for number, value in enumerate(values, 2)}
    assert table.ids_of(pl.Series(rows.tolist()), 0).tolist() == [number_of.get(value, 1) for value in rows.tolist()]


@pytest.mark.parametrize("values", [[], [""], ["a", ""], ["a" * 13], ["é" * 7]])
def test_values_that_do_not_stand_whole_in_a_view_are_left_to_the_engine(values: list[str]) -> None:
    series = pl.Series("city", values, dtype=pl.String)
    assert ShortValues.of(series, 2, 1) is None
    ids = Vocabulary("city", series, 0).known_ids(pl.Series(["no such", None, *values], dtype=pl.String))
    assert ids.tolist() == [1, 0, *range(2, len(values) + 2)]
