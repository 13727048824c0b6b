from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from unroll.data.encoders import count_book_tokens
from unroll.data.workers import TextWorkers, usable_cores

CHUNKS = [[f"word{number} common"] for number in range(30)]


@pytest.mark.parametrize("num_processes", [1, 2])
def test_results_come_in_the_chunks_order(num_processes: int) -> None:
    with TextWorkers(num_processes) as workers:
        assert list(workers.map(count_book_tokens, CHUNKS)) == [count_book_tokens(chunk) for chunk in CHUNKS]


def test_chunks_are_read_only_a_few_ahead_of_the_results() -> None:
    read = 0

    def chunks() -> object:
        nonlocal read
        for chunk in CHUNKS:
            read += 1
            yield chunk

    with TextWorkers(2) as workers:
        next(workers.map(count_book_tokens, chunks()))  # type: ignore[arg-type]
        assert read <= 6


def test_there_is_a_core_to_use() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


DYING = """
import multiprocessing, os
from unroll.data.workers import TextWorkers
def die_in_a_worker(chunk):
    if multiprocessing.parent_process() is not None:
        os._exit(9)
    return len(chunk)
if __name__ == "__main__":
    with TextWorkers(2) as workers:
        print(list(workers.map(die_in_a_worker, [["a"] * size for size in range(8)])))
"""


def test_when_the_workers_are_killed_the_calling_process_does_the_rest(tmp_path: Path) -> None:
    script = tmp_path / "dying.py"
    script.write_text(DYING)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == str(list(range(8))), done.stderr
    assert "goes on alone" in done.stderr


ORPHANING = """
import time
from unroll.data.encoders import count_book_tokens
from unroll.data.workers import TextWorkers
if __name__ == "__main__":
    workers = TextWorkers(2)
    list(workers.map(count_book_tokens, [["a"]] * 8))
    print(*workers._pool._processes, flush=True)
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
