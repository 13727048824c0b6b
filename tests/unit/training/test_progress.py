"""What the progress of training says, in the log and to whoever asks."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from unroll.config import AnyConfig
from unroll.training import progress
from unroll.training.progress import ProgressLog
from unroll.training.run_state import Progress
from unroll.training.trainer import Trainer


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    return now


def test_the_log_has_a_line_every_five_seconds_and_the_caller_hears_every_second(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[tuple[float, str]] = []
    report = ProgressLog(100, "words", None, lambda share, line: heard.append((share, line)))
    with caplog.at_level(logging.INFO, "unroll"):
        for batch in range(100):
            report.update(batch + 1, Progress(batch=batch + 1, tokens=50 * (batch + 1)), loss=1.5)
            clock[0] += 0.1
    assert len(caplog.messages) == 2
    assert 9 <= len(heard) <= 11
    share, line = heard[-1]
    assert share == pytest.approx(0.95, abs=0.05)
    assert re.fullmatch(r"epoch 1, batch 9\d of 100, loss 1\.500, 500 words/s, [01] s left", line)


def test_the_share_is_by_the_clock_where_that_ends_the_run(clock: list[float]) -> None:
    heard: list[float] = []
    report = ProgressLog(1_000, "words", 1.0, lambda share, line: heard.append(share))
    report.update(1, Progress(seconds=45.0), loss=float("nan"))
    assert heard == [0.75]
    clock[0] += 2
    report.update(2, Progress(seconds=90.0), loss=1.0)
    assert heard[-1] == 1.0


def test_a_trainer_tells_its_caller(
    make_trainer: Callable[..., Trainer], small_config: Callable[..., AnyConfig], tmp_path: Path
) -> None:
    trainer, heard = make_trainer(small_config("sentiment"), tmp_path), list[tuple[float, str]]()
    trainer.on_progress = lambda share, line: heard.append((share, line))
    trainer.fit()
    assert heard
    assert 0 < heard[0][0] <= 1
    assert "batch 1 of" in heard[0][1]
