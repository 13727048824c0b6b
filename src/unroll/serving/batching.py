"""Classifying the texts of many requests in few forward passes, on one thread beside the event loop.

Nothing is waited for: a free worker takes what is there, and what comes while it is busy makes the next batch. So one
client alone pays for no collecting, and a crowd shares its passes. A request of many texts gives a slice to each
batch, so that short requests need not wait behind it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from unroll.prediction import SentimentPredictor
from unroll.serving.overload import Overloaded

Probs = NDArray[np.float64]

BATCH_TEXTS = 32
"""Most texts of one forward pass. On a CPU a larger one saves nothing more and lets everybody wait longer."""


class _Job:
    """The texts of one request, and the answers so far."""

    def __init__(self, predictor: SentimentPredictor, texts: Sequence[str]) -> None:
        self.predictor = predictor
        self.texts = texts
        self.loop = asyncio.get_running_loop()
        self.answer: asyncio.Future[Probs] = self.loop.create_future()
        self.taken = 0
        self.probs: list[Probs] = []


class PredictionQueue:
    """Takes requests on the event loop and answers them from a thread of its own."""

    def __init__(self, max_texts: int, observe: Callable[[int], None]) -> None:
        """max_texts: most texts that wait; observe: is told the size of each batch."""
        self._max_texts = max_texts
        self._observe = observe
        self._jobs: deque[_Job] = deque()
        self._num_waiting = 0
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="prediction", daemon=True)

    def start(self) -> None:
        """Start the thread; what was submitted before waits for it."""
        self._thread.start()

    def submit(self, predictor: SentimentPredictor, texts: Sequence[str]) -> asyncio.Future[Probs]:
        """A future of the class probabilities (N, K). Cancel it, and what is not yet under way is dropped.

        Raises Overloaded where the texts find no room.
        """
        job = _Job(predictor, texts)
        with self._changed:
            if self._num_waiting + len(texts) > self._max_texts:
                raise Overloaded(f"{self._num_waiting:,} texts are waiting, at most {self._max_texts:,} may.", "texts")
            self._num_waiting += len(texts)
            self._jobs.append(job)
            self._changed.notify()
        return job.answer

    @property
    def num_waiting(self) -> int:
        """Texts that no batch has taken yet."""
        return self._num_waiting

    def close(self) -> None:
        """Answer what is waiting, then end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._jobs or self._is_closed)
                batch = self._take()
                if not batch and self._is_closed:
                    return
            if batch:  # else every client has gone
                self._answer(batch)

    def _take(self) -> list[tuple[_Job, Sequence[str]]]:
        """Slices of the first jobs, all for one predictor: those before and after a swap are not mixed."""
        batch: list[tuple[_Job, Sequence[str]]] = []
        unfinished: list[_Job] = []
        room = BATCH_TEXTS
        while self._jobs and room:
            job = self._jobs[0]
            if batch and job.predictor is not batch[0][0].predictor:
                break
            self._jobs.popleft()
            if job.answer.done():  # cancelled, or failed with an earlier slice
                self._num_waiting -= len(job.texts) - job.taken
                continue
            part = job.texts[job.taken : job.taken + room]
            job.taken += len(part)
            room -= len(part)
            self._num_waiting -= len(part)
            batch.append((job, part))
            if job.taken < len(job.texts):
                unfinished.append(job)
        self._jobs.extend(unfinished)
        return batch

    def _answer(self, batch: list[tuple[_Job, Sequence[str]]]) -> None:
        texts = [text for _, part in batch for text in part]
        self._observe(len(texts))
        try:
            probs = batch[0][0].predictor.predict(texts)
        except Exception as error:
            for job, _ in batch:
                _tell(job, lambda job=job, error=error: job.answer.set_exception(error))  # type: ignore[misc]
            return
        start = 0
        for job, part in batch:
            job.probs.append(probs[start : start + len(part)])
            start += len(part)
            if sum(map(len, job.probs)) == len(job.texts):
                _tell(job, lambda job=job: job.answer.set_result(np.concatenate(job.probs)))  # type: ignore[misc]


def _tell(job: _Job, settle: Callable[[], None]) -> None:
    def unless_done() -> None:
        if not job.answer.done():
            settle()

    job.loop.call_soon_threadsafe(unless_done)
