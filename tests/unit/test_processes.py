from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from unroll.processes import is_start_of, start_of, usable_cores


def test_there_is_a_core_to_use() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


ORPHANING = """
import multiprocessing, time
from concurrent.futures import ProcessPoolExecutor
from unroll.processes import end_with_parent
if __name__ == "__main__":
    pool = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"), initializer=end_with_parent)
    list(pool.map(len, [["a"]] * 8))
    print(*pool._processes, flush=True)
    time.sleep(60)
"""


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_workers_end_when_their_parent_is_killed_outright(tmp_path: Path) -> None:
    script = tmp_path / "orphaning.py"
    script.write_text(ORPHANING)
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert pids
    assert all(is_running(pid) for pid in pids)
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    deadline = time.monotonic() + 10
    while any(is_running(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_running(pid) for pid in pids)


def test_a_process_is_known_by_its_start_whatever_is_done_to_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    mine, parents = start_of(os.getpid()), start_of(os.getppid())
    assert mine is not None
    assert parents is not None
    before = psutil.Process().create_time()
    # the clock, and with it what the system says of the time of its boot, goes back by a quarter of an hour
    shifted = psutil.boot_time() - 900
    monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: shifted)
    assert abs(before - psutil.Process().create_time()) > 800, "the clock was not set back"
    assert is_start_of(mine, os.getpid())
    assert not is_start_of(parents, os.getpid())


def test_a_start_by_the_clock_is_believed_if_it_is_about_right() -> None:
    import psutil

    start = psutil.Process().create_time()
    for seconds, is_same in ((0, True), (-3, True), (3, True), (300, False), (-300, False)):
        assert is_start_of(f"{start + seconds:.2f}", os.getpid()) is is_same


def test_a_process_that_has_ended_has_no_start_even_before_it_is_reaped() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    start = start_of(child.pid)
    assert start is not None
    assert is_start_of(start, child.pid)
    child.kill()
    deadline = time.monotonic() + 20
    while is_running(child.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert start_of(child.pid) is None, "a zombie"
    assert not is_start_of(start, child.pid)
    assert not is_start_of(f"{time.time():.2f}", child.pid)
    child.communicate()
    assert start_of(child.pid) is None, "gone"


def test_a_name_full_of_brackets_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "7").mkdir()
    fields = " ".join(str(number) for number in range(4, 53))
    (tmp_path / "7" / "stat").write_text(f"7 (a) R 1 (b) S {fields}\n")
    monkeypatch.setattr("unroll.processes.PROC", tmp_path)
    monkeypatch.setattr("sys.platform", "linux")
    assert start_of(7) == "ticks 22"
