"""How far a long archive is, in the log."""

from __future__ import annotations

import logging
import time

logger = logging.getLogger("unroll.stack")

SECONDS_BETWEEN_WORDS = 5.0


class ArchiveProgress:
    """Says it every few seconds."""

    def __init__(self, verb: str, count: int | None = None) -> None:
        """verb: what is done with each file. count: of all files, if it is known."""
        self._verb, self._of = verb, f" of {count:,}" if count else ""
        self._files = self._bytes = 0
        self._began = self._said = time.monotonic()

    def __call__(self, name: str, size: int) -> None:
        """Take note of one file more."""
        self._files, self._bytes = self._files + 1, self._bytes + size
        now = time.monotonic()
        if now - self._said > SECONDS_BETWEEN_WORDS:
            self._said = now
            rate = self._bytes / 2**20 / (now - self._began)
            logger.info("%s %s%s files, %.0f MiB/s", self._verb, f"{self._files:,}", self._of, rate)
