"""Processes that work on chunks of texts and never outlive the process that started them."""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from types import TracebackType
from typing import TypeVar

log = logging.getLogger(__name__)

Result = TypeVar("Result")
Chunk = list[str]

CHUNKS_AHEAD_PER_PROCESS = 2


class TextWorkers:
    """A pool of processes, started on first use; with one process, the calling process does the work itself.

    The processes are spawned, not forked: a fork would copy locks held by PyTorch's or tokenizers' threads.
    """

    def __init__(self, num_processes: int = 1) -> None:
        # A daemonic process may have no children of its own.
        self.num_processes = 1 if multiprocessing.current_process().daemon else num_processes
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> TextWorkers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def map(self, function: Callable[[Chunk], Result], chunks: Iterable[Chunk]) -> Iterator[Result]:
        """The function's result for each chunk, in the chunks' order; only a few chunks are in memory at once.

        function: importable by name, for it travels to the processes. Should they be killed (by a machine out of
        memory, say), the calling process does what is left.
        """
        waiting: deque[tuple[Chunk, Future[Result] | None]] = deque()
        for chunk in chunks:
            waiting.append((chunk, self._submit(function, chunk)))
            if len(waiting) > self.num_processes * CHUNKS_AHEAD_PER_PROCESS or self.num_processes == 1:
                yield self._finish(function, *waiting.popleft())
        while waiting:
            yield self._finish(function, *waiting.popleft())

    def _submit(self, function: Callable[[Chunk], Result], chunk: Chunk) -> Future[Result] | None:
        if self.num_processes == 1:
            return None
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.num_processes, mp_context=context, initializer=end_with_parent)
        try:
            return self._pool.submit(function, chunk)
        except BrokenProcessPool:
            return None

    def _finish(self, function: Callable[[Chunk], Result], chunk: Chunk, future: Future[Result] | None) -> Result:
        if future is None:
            return function(chunk)
        try:
            return future.result()
        except BrokenProcessPool:
            if self.num_processes > 1:
                log.warning("The %d tokenising processes ended early; this process goes on alone.", self.num_processes)
                self.num_processes = 1
            return function(chunk)


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent() -> None:
    """Make this process end at once when the one that started it has died, even by SIGKILL."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True, name="end-with-parent").start()


def _exit_after(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
