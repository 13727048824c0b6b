"""Saying no while there is still room to say it."""

from __future__ import annotations


class Overloaded(Exception):  # noqa: N818 - a state of the server, not a fault of the request
    """There is as much waiting as may wait; the message says of what."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason
        """A short name for the metrics: requests, texts, explanations or streams."""
