"""The progress artifact without a server: the newest line arrives, training never waits, a dead server does no harm."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

import pytest

from tasks import progress
from tasks.progress import ProgressArtifact


class Server:
    """Takes updates, slowly or not at all."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.updates: list[tuple[float, str]] = []
        self.is_down = False
        self.gate = threading.Event()
        self.gate.set()
        patch.setattr(progress, "create_progress_artifact", self.create)
        patch.setattr(progress, "get_client", self.client)
        patch.setattr(progress, "LEAST_PAUSE", 0.01)

    def create(self, share: float, key: str, description: str) -> Any:
        if self.is_down:
            raise ConnectionError("no server")
        return uuid4()

    @contextmanager
    def client(self, sync_client: bool) -> Iterator[Server]:
        yield self

    def update_artifact(self, artifact_id: Any, update: Any) -> None:
        self.gate.wait(10)
        if self.is_down:
            raise ConnectionError("no server")
        self.updates.append((update.data, update.description))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    return Server(monkeypatch)


def test_the_newest_line_arrives_and_the_last_says_done(server: Server) -> None:
    with ProgressArtifact("training", "Training") as shown:
        shown.update(0.25, "batch 1 of 4, 9 s left")
        deadline = time.monotonic() + 5
        while not server.updates and time.monotonic() < deadline:
            time.sleep(0.005)
    assert server.updates == [(25.0, "Training: batch 1 of 4, 9 s left"), (100.0, "Training: done")]


def test_a_slow_server_makes_nobody_wait_and_gets_only_the_newest(server: Server) -> None:
    server.gate.clear()
    with ProgressArtifact("training", "Training") as shown:
        started = time.perf_counter()
        for number in range(1_000):
            shown.update(number / 1_000, f"batch {number}")
        assert time.perf_counter() - started < 1.0
        server.gate.set()
    assert len(server.updates) < 50
    assert server.updates[-1] == (100.0, "Training: done")


def test_a_run_that_failed_does_not_look_done(server: Server) -> None:
    shown = ProgressArtifact("training", "Training")
    with suppress(ValueError), shown:
        shown.update(0.5, "batch 2 of 4")
        raise ValueError
    assert server.updates[-1] == (50.0, "Training: batch 2 of 4; ended by ValueError")


@pytest.mark.parametrize("from_the_start", [True, False])
def test_a_server_that_does_not_answer_is_told_once_and_does_no_harm(
    server: Server, caplog: pytest.LogCaptureFixture, from_the_start: bool
) -> None:
    server.is_down = from_the_start
    with ProgressArtifact("training", "Training") as shown:
        server.is_down = True
        for number in range(20):
            shown.update(number / 20, f"batch {number}")
            time.sleep(0.005)
    assert server.updates == []
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


def test_updates_become_rare_on_a_long_run(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SHARE_BETWEEN_UPDATES", 1.0)  # at most one in each doubling of the time so far
    with ProgressArtifact("training", "Training") as shown:
        for number in range(100):
            shown.update(number / 100, f"batch {number}")
            time.sleep(0.005)
    assert len(server.updates) < 15
