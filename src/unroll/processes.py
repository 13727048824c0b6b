"""Processes and the cores they run on."""

from __future__ import annotations

import multiprocessing
import os
import threading
from multiprocessing import connection


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_with_parent() -> None:
    """Make this process end at once when the one that started it has died, even by SIGKILL."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_exit_after, args=(parent.sentinel,), daemon=True, name="end-with-parent").start()


def _exit_after(sentinel: int) -> None:
    connection.wait([sentinel])
    os._exit(1)
