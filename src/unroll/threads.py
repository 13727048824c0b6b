"""Threads of our own, each with one thread of PyTorch's or of NumPy's, where work falls into independent parts.

Small recurrent products gain little from being split among threads: each waits for the other at every step, and on a
busy machine for whoever took its core. Parts that never meet wait for nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import torch
from threadpoolctl import ThreadpoolController

Item = TypeVar("Item")
Result = TypeVar("Result")


def num_threads() -> int:
    """How many threads may work: PyTorch's number, which follows the cores and OMP_NUM_THREADS."""
    return torch.get_num_threads()


def map_on_threads(work: Callable[[Item], Result], items: Sequence[Item], at_most: int | None = None) -> list[Result]:
    """``work`` of each item, in the items' order, in inference mode; PyTorch uses one thread in each of ours.

    Items are begun in order. With one thread (at_most), or one item, nothing is started: the caller does the work, with
    all of PyTorch's threads. What ``work`` raises is raised here, and items that were not begun are left out.
    """
    threads = min(at_most or num_threads(), len(items))
    if threads <= 1:
        return [_in_inference_mode(work, item) for item in items]
    before = torch.get_num_threads()
    try:
        # OpenMP keeps the number for each thread apart, so that the caller's own stays as it is
        with ThreadPoolExecutor(threads, "unroll", initializer=lambda: torch.set_num_threads(1)) as pool:
            results = [pool.submit(_in_inference_mode, work, item) for item in items]
            try:
                return [result.result() for result in results]
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        torch.set_num_threads(before)  # the number that threads started later take over


def _in_inference_mode(work: Callable[[Item], Result], item: Item) -> Result:
    with torch.inference_mode():  # a thread's own, as autocast is
        return work(item)


class _BlasLimit:
    """How many callers want NumPy's BLAS on one thread: the first sets it, the last gives back what was."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._before: list[int] = []

    def hold(self) -> None:
        with self._lock:
            if self._holders == 0:
                self._before = [library.num_threads for library in _blas_libraries()]
                for library in _blas_libraries():
                    library.set_num_threads(1)
            self._holders += 1

    def release(self) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                for library, number in zip(_blas_libraries(), self._before, strict=True):
                    library.set_num_threads(number)


_blas_limit = _BlasLimit()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Within, a product of NumPy's runs on the thread that asks for it. For the whole process; may be nested."""
    _blas_limit.hold()
    try:
        yield
    finally:
        _blas_limit.release()


@cache
def _blas_libraries() -> tuple[Any, ...]:
    """Those loaded at the first call, by when NumPy has loaded its own; looking for them takes milliseconds."""
    return tuple(ThreadpoolController().select(user_api="blas").lib_controllers)
