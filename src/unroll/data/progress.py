"""How far a long pass over a corpus has come, told in the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 2.0

OnProgress = Callable[[str, int, int], None]
"""Called with what is being done ("encoding train"), the items done and the items there are."""


class Progress:
    """Counts items; logs "encoding train: 12,000/22,377 reviews, 9,800/s, 1 s left", the first line at once."""

    def __init__(self, activity: str, total: int, unit: str, on_progress: OnProgress | None = None) -> None:
        self.activity = activity
        self.total = total
        self.unit = unit
        self.done = 0
        self._on_progress = on_progress
        self._started = time.monotonic()
        self._last_line = self._started
        self._tell()

    def advance(self, num_items: int) -> None:
        """Count items as done; a line is logged when the last one is old, or all is done."""
        self.done += num_items
        if self.done >= self.total or time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._tell()

    def _tell(self) -> None:
        self._last_line = time.monotonic()
        line = f"{self.activity}: {self.done:,}/{self.total:,} {self.unit}"
        seconds = self._last_line - self._started
        if self.done and seconds > 0:
            rate = self.done / seconds
            line += f", {rate:,.0f}/s"
            line += f", {_duration((self.total - self.done) / rate)} left" if self.done < self.total else ""
        log.info(line)
        if self._on_progress:
            self._on_progress(self.activity, self.done, self.total)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
