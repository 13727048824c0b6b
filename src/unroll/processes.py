"""Processes and the cores they run on."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from multiprocessing import connection
from pathlib import Path

CLOCK_TOLERANCE = 60.0
"""Seconds by which two readings of one process's start may differ if they were taken from the clock."""
TICKS = "ticks "
"""How a start begins that was counted from the machine's own, which setting the clock does not change."""
PROC = Path("/proc")


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_of(process_id: int) -> str | None:
    """When a living process started; None if there is none. With its number and the machine's boot it names it.

    On Linux the kernel's ticks since the boot, elsewhere seconds of the clock at that time. Raises OSError if the
    system does not say.
    """
    if sys.platform == "linux":
        try:
            stat = (PROC / str(process_id) / "stat").read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        state, *fields = stat.rpartition(")")[2].split()  # before it is a name, in which anything may stand
        return None if state in "ZXx" else f"{TICKS}{fields[18]}"
    start = _clock_start(process_id)
    return None if start is None else f"{start:.2f}"


def is_start_of(start: str, process_id: int) -> bool:
    """Whether the process with that number is the one of which `start_of` said ``start``, and lives.

    A start in seconds, as earlier versions took everywhere, is believed within `CLOCK_TOLERANCE`. Raises ValueError if
    ``start`` is none, OSError if the system does not say.
    """
    if start.startswith(TICKS):
        return start_of(process_id) == start
    now = None if start_of(process_id) is None else _clock_start(process_id)
    return now is not None and abs(now - float(start)) < CLOCK_TOLERANCE


def _clock_start(process_id: int) -> float | None:
    import psutil  # type: ignore[import-untyped]

    try:
        process = psutil.Process(process_id)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.NoSuchProcess:
        return None
    except psutil.Error as error:
        raise OSError(str(error)) from error


def end_with_parent() -> None:
    """Make this process end at once when the one that started it has died, even by SIGKILL."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True, name="end-with-parent").start()


def _exit_after(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
