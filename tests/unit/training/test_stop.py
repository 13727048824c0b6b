"""A signal asks the loop to end; a second one, or one that came too late, is handed on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from unroll.training.stop import StopRequest


class LoopEndedError(Exception):
    """How a loop that was asked to stop leaves its block."""


@pytest.fixture
def handed_on() -> Iterator[list[int]]:
    """The signals that reach the handler that was there before."""
    seen: list[int] = []
    previous = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    yield seen
    signal.signal(signal.SIGTERM, previous)


def test_a_signal_only_sets_the_flag(handed_on: list[int]) -> None:
    with suppress(LoopEndedError), StopRequest() as stop:
        assert not stop.requested
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested
        assert stop.name == "SIGTERM"
        assert handed_on == []
        raise LoopEndedError
    assert handed_on == []


def test_a_second_signal_is_handed_on(handed_on: list[int]) -> None:
    with suppress(LoopEndedError), StopRequest():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert handed_on == [signal.SIGTERM]
        raise LoopEndedError


def test_a_signal_that_the_block_did_not_heed_is_handed_on(handed_on: list[int]) -> None:
    with StopRequest():
        signal.raise_signal(signal.SIGTERM)
    assert handed_on == [signal.SIGTERM]


def test_the_handlers_are_put_back(handed_on: list[int]) -> None:
    with StopRequest():
        pass
    signal.raise_signal(signal.SIGTERM)
    assert handed_on == [signal.SIGTERM]


def test_another_thread_leaves_the_handlers_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    inside = []

    def body() -> None:
        with StopRequest():
            inside.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert inside == [before]
