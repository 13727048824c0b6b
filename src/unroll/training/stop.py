"""Being asked to stop: a signal sets a flag, and the loop ends between two steps, where its state is whole."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class StopRequest:
    """Catches SIGTERM and SIGINT within a ``with`` block, in the main thread; elsewhere it never asks.

    A second signal is handed on to the handler that was there before, for users in a hurry; so is one that came too
    late for the block to heed.
    """

    def __init__(self) -> None:
        """Nothing is requested yet."""
        self.signal_number = 0
        self._previous: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal_number != 0

    @property
    def name(self) -> str:
        """The signal's name, such as SIGTERM."""
        return signal.Signals(self.signal_number).name

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                # None stands for a handler that was not set from Python and cannot be put back
                self._previous[number] = signal.signal(number, self._handle) or signal.SIG_DFL
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        if self.requested and kind is None:
            signal.raise_signal(self.signal_number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            signal.signal(number, self._previous[number])
            signal.raise_signal(number)
        self.signal_number = number
