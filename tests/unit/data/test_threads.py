from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from unroll.data.threads import ITEMS_AHEAD_PER_THREAD, map_in_threads

ITEMS = range(30)


@pytest.mark.parametrize("num_threads", [1, 2, None])
def test_results_come_in_the_items_order(num_threads: int | None) -> None:
    assert list(map_in_threads(str, ITEMS, num_threads)) == [str(item) for item in ITEMS]


def test_items_are_read_only_a_few_ahead_of_the_results() -> None:
    read = 0

    def items() -> Iterator[int]:
        nonlocal read
        for item in ITEMS:
            read += 1
            yield item

    results = map_in_threads(str, items(), 2)
    next(results)
    assert read <= 2 * ITEMS_AHEAD_PER_THREAD + 1
    results.close()  # type: ignore[attr-defined]


def test_an_error_is_raised_in_its_turn_and_leaves_no_thread() -> None:
    before = threading.active_count()
    results = map_in_threads(lambda item: 1 / (item - 2), ITEMS, 2)
    assert [next(results), next(results)] == [-0.5, -1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert threading.active_count() == before
