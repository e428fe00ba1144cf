"""Work that threads do ahead of whoever takes it: in order, not too far ahead, and its errors in their turn."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from components.ahead import done_ahead


def test_results_come_in_the_order_of_the_items_however_long_each_takes() -> None:
    may_end = threading.Event()

    def square(number: int) -> int:
        if number == 0:
            assert may_end.wait(30), "the second is not worked on beside the first"
        may_end.set()
        return number * number

    assert list(done_ahead(square, range(6), 2)) == [0, 1, 4, 9, 16, 25]


def test_no_more_than_so_many_wait_while_the_caller_has_one() -> None:
    asked: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(10):
            asked.append(number)
            yield number

    results = done_ahead(lambda number: number, numbers(), 2)
    assert next(results) == 0
    assert asked == [0, 1, 2]
    assert next(results) == 1
    assert asked == [0, 1, 2, 3]


def test_an_error_is_raised_in_its_turn() -> None:
    results = done_ahead(lambda number: 6 // (2 - number), range(4), 3)
    assert [next(results), next(results)] == [3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)
