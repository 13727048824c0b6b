"""Requests share forward passes, and none of them is lost, mixed up or kept waiting by a long one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from unroll.serving.batching import BATCH_TEXTS, PredictionQueue
from unroll.serving.overload import Overloaded


class Predictor:
    """Answers a text of digits with its number; can be held up."""

    def __init__(self, offset: float = 0) -> None:
        self.offset = offset
        self.batches: list[list[str]] = []
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.is_busy = threading.Event()

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        self.is_busy.set()
        self.may_go_on.wait(10)
        self.batches.append(list(texts))
        if "fail" in texts:
            raise RuntimeError("no memory")
        return np.array([[float(text) + self.offset, 0.0] for text in texts])

    async def hold(self, queue: PredictionQueue) -> asyncio.Future[Any]:
        """Keep the worker busy with one text until `may_go_on` is set."""
        self.may_go_on.clear()
        self.is_busy.clear()
        answer = queue.submit(self, ["0"])  # type: ignore[arg-type]
        await asyncio.to_thread(self.is_busy.wait, 10)
        return answer


@pytest.fixture
def queue() -> Iterator[PredictionQueue]:
    queue = PredictionQueue(200, lambda size: None)
    queue.start()
    yield queue
    queue.close()


def numbers(start: int, stop: int) -> list[str]:
    return [str(number) for number in range(start, stop)]


def run(scenario: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_everybody_gets_their_own_answer(queue: PredictionQueue) -> None:
    predictor: Any = Predictor()

    async def scenario() -> None:
        parts = [numbers(start, start + start % 5) for start in range(40)]
        answers = await asyncio.gather(*(queue.submit(predictor, part) for part in parts if part))
        for part, probs in zip([part for part in parts if part], answers, strict=True):
            assert probs[:, 0].tolist() == [float(text) for text in part]

    run(scenario)


def test_what_came_while_the_worker_was_busy_shares_a_pass(queue: PredictionQueue) -> None:
    predictor: Any = Predictor()

    async def scenario() -> None:
        held = await predictor.hold(queue)
        answers = [queue.submit(predictor, [text]) for text in numbers(1, 11)]
        assert queue.num_waiting == 10
        predictor.may_go_on.set()
        await asyncio.gather(held, *answers)
        assert predictor.batches == [["0"], numbers(1, 11)]
        assert queue.num_waiting == 0

    run(scenario)


def test_a_short_request_does_not_wait_for_all_of_a_long_one(queue: PredictionQueue) -> None:
    predictor: Any = Predictor()

    async def scenario() -> None:
        held = await predictor.hold(queue)
        long = queue.submit(predictor, numbers(0, 3 * BATCH_TEXTS))
        short = queue.submit(predictor, ["7"])
        predictor.may_go_on.set()
        assert (await short)[0, 0] == 7
        await held
        assert (await long)[:, 0].tolist() == [float(number) for number in range(3 * BATCH_TEXTS)]
        assert "7" in predictor.batches[2][:1]

    run(scenario)


def test_requests_before_and_after_a_swap_are_not_mixed(queue: PredictionQueue) -> None:
    old: Any = Predictor()
    new: Any = Predictor(offset=1000)

    async def scenario() -> None:
        held = await old.hold(queue)
        answers = [queue.submit(new if number % 2 else old, [str(number)]) for number in range(20)]
        old.may_go_on.set()
        await held
        found = [float((await answer)[0, 0]) for answer in answers]
        assert found == [number + 1000 * (number % 2) for number in range(20)]

    run(scenario)


def test_what_nobody_waits_for_is_dropped(queue: PredictionQueue) -> None:
    predictor: Any = Predictor()

    async def scenario() -> None:
        held = await predictor.hold(queue)
        dropped = queue.submit(predictor, ["1"])
        kept = queue.submit(predictor, ["2"])
        dropped.cancel()
        predictor.may_go_on.set()
        await asyncio.gather(held, kept)
        assert predictor.batches == [["0"], ["2"]]
        assert queue.num_waiting == 0

    run(scenario)


def test_a_failure_is_told_to_those_whom_it_concerns(queue: PredictionQueue) -> None:
    predictor: Any = Predictor()

    async def scenario() -> None:
        with pytest.raises(RuntimeError, match="no memory"):
            await queue.submit(predictor, ["fail", *numbers(0, 2 * BATCH_TEXTS)])
        assert (await queue.submit(predictor, ["3"]))[0, 0] == 3
        assert queue.num_waiting == 0

    run(scenario)


def test_more_than_may_wait_is_refused(queue: PredictionQueue) -> None:
    predictor: Any = Predictor()

    async def scenario() -> None:
        held = await predictor.hold(queue)
        first = queue.submit(predictor, numbers(0, 150))
        with pytest.raises(Overloaded, match="150 texts are waiting, at most 200 may"):
            queue.submit(predictor, numbers(0, 51))
        predictor.may_go_on.set()
        await asyncio.gather(held, first)

    run(scenario)


def test_closing_answers_what_is_waiting() -> None:
    predictor: Any = Predictor()

    async def scenario() -> None:
        queue = PredictionQueue(200, lambda size: None)
        answer = queue.submit(predictor, numbers(0, 100))
        queue.start()
        await asyncio.to_thread(queue.close)
        assert len(await answer) == 100

    run(scenario)
