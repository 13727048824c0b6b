"""Progress of training, in the log and for whoever else asks: how far, how fast, how long still."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from unroll.training.run_state import Progress

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 5.0
SECONDS_BETWEEN_CALLS = 1.0

OnProgress = Callable[[float, str], None]
"""Called with the share of the run that is done, 0 to 1, and with what the log says. Must neither raise nor block for
long."""


class ProgressLog:
    """Logs a line at the first step, then every few seconds; tells ``on_progress`` once a second."""

    def __init__(
        self, total_batches: int, unit: str, max_minutes: float | None, on_progress: OnProgress | None = None
    ) -> None:
        """``unit`` is what a token is called, such as words."""
        self._total = total_batches
        self._unit = unit
        self._max_seconds = None if max_minutes is None else 60 * max_minutes
        self._start: tuple[float, int, int] | None = None
        self._on_progress = on_progress
        self._line_at = 0.0
        self._called_at = 0.0

    def update(self, batches_done: int, progress: Progress, loss: float) -> None:
        """Call after every batch; cheap."""
        now = time.perf_counter()
        if self._start is None:
            self._start = (now, batches_done, progress.tokens)
        log_due = now - self._line_at >= SECONDS_BETWEEN_LINES
        call_due = self._on_progress is not None and now - self._called_at >= SECONDS_BETWEEN_CALLS
        if not (log_due or call_due):
            return
        share, line = self._describe(now, batches_done, progress, loss)
        if log_due:
            self._line_at = now
            logger.info(line)
        if self._on_progress is not None:
            self._called_at = now
            self._on_progress(share, line)

    def _describe(self, now: float, batches_done: int, progress: Progress, loss: float) -> tuple[float, str]:
        assert self._start is not None
        started, first_batch, first_tokens = self._start
        elapsed = now - started
        line = f"epoch {progress.epoch + 1}, batch {batches_done:,} of {self._total:,}"
        if loss == loss:
            line += f", loss {loss:.3f}"
        if elapsed > 0 and batches_done > first_batch:
            rate = (batches_done - first_batch) / elapsed
            left = max(self._total - batches_done, 0) / rate
            if self._max_seconds is not None:
                left = min(left, max(self._max_seconds - progress.seconds, 0))
            tokens_per_second = (progress.tokens - first_tokens) / elapsed
            line += f", {tokens_per_second:,.0f} {self._unit}/s, {format_duration(left)} left"
        share = batches_done / self._total
        if self._max_seconds is not None:
            share = max(share, progress.seconds / self._max_seconds)
        return min(share, 1.0), line


def announce_evaluation(progress: Progress, epochs: int, metrics: Mapping[str, float], improved: bool) -> None:
    """Log the validation split's metrics. epochs: of the whole run, at most."""
    logger.info(
        "step %d, epoch %d of %d: validation %s%s",
        progress.step,
        progress.epoch + 1,
        epochs,
        ", ".join(f"{name} {metric:.4f}" for name, metric in metrics.items()),
        " (best)" if improved else "",
    )


def format_duration(seconds: float) -> str:
    """``75.2`` becomes ``1 min 15 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
