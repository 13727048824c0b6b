"""Lines on stderr: what is measured, and about how long the rest will take."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from time import perf_counter


class Clock:
    """Guesses the time left from what the rows were expected to take and how the first ones kept to it."""

    def __init__(self, expected: Mapping[str, float], noun: str = "row") -> None:
        """expected: seconds of each row on a quiet machine. Tells at once what is to come."""
        self._expected = dict(expected)
        self._started = self._row_started = perf_counter()
        self._expected_done = 0.0
        self._current = ""
        self._number = 0
        count = f"{len(expected)} {noun}{'s' if len(expected) > 1 else ''}"
        self.say(f"{count}: {', '.join(expected)}; about {in_words(sum(self._expected.values()))} on a quiet machine")

    def begin(self, name: str) -> None:
        """A row begins."""
        self._current, self._number = name, self._number + 1
        self._row_started = perf_counter()

    def end(self, name: str) -> None:
        """A row is done."""
        self._expected_done += self._expected[name]
        seconds = perf_counter() - self._row_started
        self.say(f"done in {in_words(seconds)}; about {in_words(self._left(1.0, whole=True))} left")

    def round_done(self, number: int, rounds: int, values: str) -> None:
        """A round of the current row is done."""
        self.say(f"round {number} of {rounds}: {values}; about {in_words(self._left(number / rounds))} left")

    def say(self, text: str) -> None:
        """One line, with the time since the start and the current row."""
        elapsed = perf_counter() - self._started
        where = f"[{self._number}/{len(self._expected)} {self._current}] " if self._current else ""
        print(f"{int(elapsed // 60):3d}:{int(elapsed % 60):02d}  {where}{text}", file=sys.stderr, flush=True)

    def _left(self, share: float, whole: bool = False) -> float:
        """Seconds left when ``share`` of the current row is done (``whole``: it is counted as done already)."""
        elapsed = perf_counter() - self._started
        current = 0.0 if whole else self._expected[self._current]
        done = self._expected_done + share * current
        pace = elapsed / done if done else 1.0
        return max(sum(self._expected.values()) - done, 0.0) * pace


def in_words(seconds: float) -> str:
    """Seconds below two minutes, else minutes."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
