"""The lock of a flow run says whether a process is at work on it, whatever became of that process."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks.run_lock import DAYS_KEPT, RunLock, drop_old_locks

HOLD = """
import sys, time
from pathlib import Path
from tasks.run_lock import RunLock
with RunLock(Path(sys.argv[1]), "run").hold():
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
print("ended", flush=True)
"""


def holder(folder: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(folder), str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_nobody_has_been_here(tmp_path: Path) -> None:
    assert RunLock(tmp_path, "run").is_held() is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_it_is_held_while_the_process_lives_and_free_once_it_was_killed(tmp_path: Path, number: int) -> None:
    lock = RunLock(tmp_path, "run")
    process = holder(tmp_path, 60)
    assert lock.is_held() is True
    time.sleep(random.uniform(0, 0.3))
    process.send_signal(number)
    process.wait()
    assert lock.is_held() is False
    assert holder(tmp_path, 0).wait() == 0
    assert lock.is_held() is None


def test_looking_does_not_keep_a_process_from_its_work(tmp_path: Path) -> None:
    process = holder(tmp_path, 0.5)
    lock = RunLock(tmp_path, "run")
    while process.poll() is None:
        lock.is_held()
    assert process.wait() == 0


def test_a_second_process_waits_for_the_first(tmp_path: Path) -> None:
    first = holder(tmp_path, 0.5)
    began = time.monotonic()
    second = holder(tmp_path, 0)
    assert first.wait() == 0
    assert time.monotonic() - began > 0.3
    assert second.wait() == 0


def test_a_noted_stop_is_forgotten_by_the_next_process(tmp_path: Path) -> None:
    lock = RunLock(tmp_path / "runs", "run")
    lock.note_stop()
    assert lock.was_stopped()
    with lock.hold():
        assert not lock.was_stopped()


def test_what_killed_runs_left_goes_after_some_days_and_what_is_held_stays(tmp_path: Path) -> None:
    process = holder(tmp_path, 60)
    (tmp_path / "dead.lock").touch()
    (tmp_path / "new.lock").touch()
    (tmp_path / "dead.stopped").touch()
    old = time.time() - (DAYS_KEPT + 1) * 86_400
    for name in ("run.lock", "dead.lock", "dead.stopped"):
        os.utime(tmp_path / name, (old, old))
    drop_old_locks(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"run.lock", "new.lock"}
    process.kill()
    process.wait()


def test_a_run_that_ends_while_old_locks_are_looked_for_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: [folder / pattern.replace("*", "ended")])
    drop_old_locks(tmp_path)
    assert list(tmp_path.iterdir()) == []
