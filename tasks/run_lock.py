"""Who is at work on a flow run of a deployment, on the disk that its processes share.

runs/<flow run>.lock      locked by the process that is at work; the system frees it when that process dies
runs/<flow run>.stopped   a worker ended the process on purpose: starting the run again counts as no death
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unroll.files import writing

logger = logging.getLogger("unroll.admission")

DAYS_KEPT = 7
"""Locks of killed runs that nobody took up again are removed after this."""


class RunLock:
    """The lock of one flow run. Making one touches no disk."""

    def __init__(self, runs: Path, run_id: str) -> None:
        self._path = runs / f"{run_id}.lock"
        self._note = runs / f"{run_id}.stopped"

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold it within the block, after waiting for another process that is at work on the same run.

        A killed process leaves the file, unlocked; the block removes it when it ends in any other way.
        Raises StoreError if the folder cannot be written.
        """
        from filelock import FileLock, Timeout

        with writing(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self._path)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                logger.warning("another process is at work on this flow run; waiting for it")
                lock.acquire()
        try:
            self._note.unlink(missing_ok=True)
            yield
        finally:
            self._path.unlink(missing_ok=True)
            lock.release()

    def is_held(self) -> bool | None:
        """Whether a process is at work on the run; None if none ever was on this disk, or the last one ended well."""
        from filelock import FileLock, Timeout

        if not self._path.exists():
            return None
        try:
            with FileLock(self._path, timeout=0):
                return False
        except Timeout:
            return True

    def note_stop(self) -> None:
        """Note that its process is about to be ended on purpose."""
        with writing(self._note):
            self._note.parent.mkdir(parents=True, exist_ok=True)
            self._note.touch()

    def was_stopped(self) -> bool:
        """Whether its last process was ended on purpose."""
        return self._note.exists()


def drop_old_locks(runs: Path) -> None:
    """Remove what killed runs left long ago."""
    oldest = time.time() - DAYS_KEPT * 86_400
    for path in [*runs.glob("*.lock"), *runs.glob("*.stopped")]:
        with suppress(FileNotFoundError):  # its run has ended since
            if path.stat().st_mtime < oldest and not RunLock(runs, path.stem).is_held():
                path.unlink(missing_ok=True)
