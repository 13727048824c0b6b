"""What killed processes of the local stack leave behind: processes of theirs, and temporary files.

Processes are found by a mark in their environment; temporary files lie in a folder of the service's own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil  # type: ignore[import-untyped]

MARK = "UNROLL_STACK_MARK"
"""Environment variable of every process of a stack and of its children: ``folder:service``."""

SECONDS_TO_END = 5.0
LONGEST_SCRATCH_PATH = 70
"""Bytes; a socket that Python's multiprocessing puts below it has 33 more, and the kernel takes 107."""


def end_leftovers(folder: Path, service: str | None = None) -> int:
    """End the processes with the mark of one service, or of every one, of the stack in ``folder``; returns how many.

    They are asked first and killed after `SECONDS_TO_END`. This process is not among them.
    """
    import psutil

    found = [process for process in psutil.process_iter() if _is_marked(process, f"{folder}:", service)]
    for process in found:
        _quietly(process.terminate)
    _, stubborn = psutil.wait_procs(found, timeout=SECONDS_TO_END)
    for process in stubborn:
        _quietly(process.kill)
    psutil.wait_procs(stubborn, timeout=SECONDS_TO_END)
    return len(found)


def fresh_scratch(folder: Path, service: str) -> Path | None:
    """An empty folder for a service's temporary files; what was in it is removed.

    Prefect's worker makes some for each run, and a killed one leaves them. None if the folder's name is too long for a
    socket below it; the system's temporary folder has to do then.
    """
    scratch = folder / "tmp" / service
    shutil.rmtree(scratch, ignore_errors=True)
    if len(os.fsencode(scratch)) > LONGEST_SCRATCH_PATH:
        return None
    scratch.mkdir(parents=True, mode=0o700, exist_ok=True)
    return scratch


def _is_marked(process: psutil.Process, prefix: str, service: str | None) -> bool:
    import psutil

    if process.pid == os.getpid():
        return False
    try:
        mark = process.environ().get(MARK, "")
        is_zombie = process.status() == psutil.STATUS_ZOMBIE
    except (psutil.Error, OSError):
        return False
    if is_zombie or not mark.startswith(prefix):
        return False
    return service is None or mark == prefix + service


def _quietly(end: Callable[[], object]) -> None:
    import psutil

    with suppress(psutil.Error):
        end()
