"""Threads for work that NumPy, Arrow or the disk do without Python's lock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from unroll.processes import usable_cores

Item = TypeVar("Item")
Result = TypeVar("Result")

ITEMS_AHEAD_PER_THREAD = 2


def map_in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], num_threads: int | None = None
) -> Iterator[Result]:
    """The function's result for each item, in the items' order; only a few items are in memory at once.

    num_threads: None takes as many as there are usable cores. Once the iterator is closed or has raised, no thread
    is left.
    """
    num_threads = num_threads or usable_cores()
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(num_threads)
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > num_threads * ITEMS_AHEAD_PER_THREAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
