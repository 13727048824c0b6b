"""Contestants in turn, A B A B …: every bout with its wall clock, its CPU seconds, and what else the machine was doing.

On a shared machine a rate says little and a ratio of two bouts side by side says much: both meet the same neighbours.
So all contestants of a row run in one process, in bouts of seconds, and are compared within a round; only rows have
processes of their own. A fresh process for each bout would spend longer on imports than on most bouts, push the two
sides of a pair apart, and measure the first, cold steps.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter


@dataclass(frozen=True)
class Lap:
    """What passed between two looks at the clocks."""

    seconds: float
    """Wall clock."""
    cpu_seconds: float
    """CPU time of this process and of the children it has waited for."""
    elsewhere_seconds: float | None
    """CPU time that all other processes of the machine took; None where the system does not tell."""

    def __add__(self, other: Lap) -> Lap:
        """Both laps as one."""
        elsewhere = None
        if self.elsewhere_seconds is not None and other.elsewhere_seconds is not None:
            elsewhere = self.elsewhere_seconds + other.elsewhere_seconds
        return Lap(self.seconds + other.seconds, self.cpu_seconds + other.cpu_seconds, elsewhere)


NO_TIME = Lap(0.0, 0.0, 0.0)


class Stopwatch:
    """Started when made."""

    def __init__(self) -> None:
        self._machine = _machine_seconds()
        self._cpu = _own_seconds()
        self._started = perf_counter()

    def lap(self) -> Lap:
        """What passed since the start."""
        seconds = perf_counter() - self._started
        cpu = _own_seconds() - self._cpu
        machine = _machine_seconds()
        if machine is None or self._machine is None:
            return Lap(seconds, cpu, None)
        return Lap(seconds, cpu, max(machine - self._machine - cpu, 0.0))


@dataclass(frozen=True)
class Bout:
    """Work done, in the row's unit (reviews, characters, bytes …), and the time it took."""

    amount: float
    lap: Lap


@dataclass(frozen=True)
class Contestant:
    """One way to do a row's work."""

    name: str
    what: str
    """What it does, for the table's legend."""
    bout: Callable[[int], Bout]
    """Does the work of a round, by number from 0; WARM_UP asks for a little of it, which is not counted."""


WARM_UP = -1


def timed(work: Callable[[], float]) -> Bout:
    """Do the work, which returns its amount."""
    watch = Stopwatch()
    amount = work()
    return Bout(amount, watch.lap())


def take_turns(contestants: Sequence[Contestant], rounds: int) -> Iterator[tuple[int, Contestant, Bout]]:
    """Let each contestant warm up, then all of them in turn, ``rounds`` times: the round, from 0, and its bouts."""
    for contestant in contestants:
        contestant.bout(WARM_UP)
    for number in range(rounds):
        for contestant in contestants:
            yield number, contestant, contestant.bout(number)


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _machine_seconds() -> float | None:
    """CPU seconds that were not idle since the machine started; None where there is no /proc/stat."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
        ticks = [int(field) for field in fields]
        per_second = os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return None
    # user nice system idle iowait irq softirq steal; guests are counted in user and nice already
    return (sum(ticks[:3]) + sum(ticks[5:8])) / per_second
