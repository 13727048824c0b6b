"""A live process is never taken for dead, whatever is done to the clock."""

from __future__ import annotations

import os

import psutil
import pytest

from tasks.owner import PID_TAG, STARTED_TAG, is_dead, owner_tags


@pytest.mark.parametrize("seconds", [-7200.0, -2.5, 2.5, 7200.0])
def test_a_step_of_the_clock_kills_nobody(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    tags, boot, start = owner_tags(), psutil.boot_time(), psutil.Process().create_time()
    monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: boot + seconds)
    assert psutil.Process().create_time() != start
    assert not is_dead(tags, one_machine=True)


def test_a_number_that_another_process_has_now_is_told_apart() -> None:
    assert is_dead(owner_tags() | {PID_TAG: str(os.getppid())}, one_machine=True)


def test_a_run_of_an_earlier_version_is_told_by_the_clock() -> None:
    start = psutil.Process().create_time()
    assert not is_dead(owner_tags() | {STARTED_TAG: f"{start + 3:.2f}"}, one_machine=True)
    assert is_dead(owner_tags() | {STARTED_TAG: f"{start - 4000:.2f}"}, one_machine=True)


@pytest.mark.parametrize("tags", [{}, {STARTED_TAG: "no time"}, {PID_TAG: "no number"}])
def test_tags_that_say_nothing_kill_nobody(tags: dict[str, str]) -> None:
    assert not is_dead((owner_tags() | tags) if tags else {}, one_machine=True)
