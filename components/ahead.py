"""A stream of work that threads do a little ahead of whoever takes the results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def done_ahead(work: Callable[[T], R], items: Iterable[T], num_ahead: int) -> Iterator[R]:
    """`work` of each item, in their order, on so many threads; no more than `num_ahead` wait while the caller has one.

    What `work` raises is raised in its turn. Items are asked for on the caller's thread, as late.
    """
    with ThreadPoolExecutor(max_workers=num_ahead) as threads:
        coming: deque[Future[R]] = deque()
        for item in items:
            coming.append(threads.submit(work, item))
            if len(coming) > num_ahead:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
