from __future__ import annotations

import logging

import pytest

from unroll.data.progress import Progress


def test_the_first_line_comes_at_once_and_the_last_when_all_is_done(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="unroll")
    told: list[tuple[str, int, int]] = []
    progress = Progress("encoding train", 2_000, "reviews", lambda *said: told.append(said))
    assert caplog.messages == ["encoding train: 0/2,000 reviews"]
    for _ in range(20):
        progress.advance(100)
    assert told == [("encoding train", 0, 2_000), ("encoding train", 2_000, 2_000)]
    assert caplog.messages[-1].startswith("encoding train: 2,000/2,000 reviews, ")


def test_lines_keep_their_distance_and_tell_rate_and_time_left(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, logger="unroll")
    seconds = iter([0.0, 0.0, 1.0, 2.5, 2.5, 3.0])
    monkeypatch.setattr("unroll.data.progress.time.monotonic", lambda: next(seconds))
    progress = Progress("encoding train", 10_000, "reviews")
    for _ in range(3):
        progress.advance(1_250)
    assert caplog.messages[1:] == ["encoding train: 2,500/10,000 reviews, 1,000/s, 8 s left"]
