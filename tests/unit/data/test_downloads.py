from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from unroll.data.downloads import AbsentError, Backoff, TransientError, with_retries

QUICK = Backoff(tries=4, first_seconds=0.001, longest_seconds=0.002)


def failing(times: int, error: Exception) -> tuple[Callable[[], str], list[int]]:
    calls: list[int] = []

    def fetch() -> str:
        calls.append(1)
        if len(calls) <= times:
            raise error
        return "whole"

    return fetch, calls


def test_a_passing_fault_is_tried_again_and_each_try_is_told(caplog: pytest.LogCaptureFixture) -> None:
    fetch, calls = failing(3, TransientError("busy"))
    with caplog.at_level(logging.WARNING, "unroll"):
        assert with_retries(fetch, "the book", QUICK) == "whole"
    assert len(calls) == 4
    assert [f"try {number} of 4 failed (busy)" in line for number, line in enumerate(caplog.messages, 1)] == [True] * 3


def test_the_last_try_lets_the_fault_rise() -> None:
    fetch, calls = failing(9, TransientError("busy"))
    with pytest.raises(TransientError, match="busy"):
        with_retries(fetch, "the book", QUICK)
    assert len(calls) == 4


def test_a_lasting_fault_is_tried_once() -> None:
    fetch, calls = failing(9, AbsentError("HTTP 404"))
    with pytest.raises(AbsentError):
        with_retries(fetch, "the book", QUICK)
    assert len(calls) == 1
