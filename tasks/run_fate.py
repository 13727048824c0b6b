"""What is to become of a flow run, decided from what is seen of it and from nothing that was heard of it before.

A run whose process is gone becomes Crashed; a crashed run is started again, at most MOST_STARTS times in all, and then
becomes Failed. How often it died is read from its own states: `tasks.reconcile` leaves a message in each that it sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

MOST_STARTS = 3
"""A run whose process dies is started again, so often in all."""
SILENCE = timedelta(seconds=75)
"""Two and a half heartbeats: they come every 30 s, see prefect.yaml."""
HEARING = timedelta(seconds=45)
"""A server that has answered for so long has heard of every run that lives anywhere: more than a heartbeat."""
WAITS = (timedelta(seconds=10), timedelta(seconds=60))
"""From a death to the next start, by how often the run has died before. A worker reports a death twice, the second time
while it goes on; what is started before that is taken for dead too."""

DIED = "Started again after its process was lost."
STOPPED = "Started again after its process was asked to stop; this counts as no death."
TERMINATED = ("termination signal", "interrupt signal", "status code: -15.", "status code: 143.")
"""In the messages of crashes that SIGTERM or SIGINT made, Prefect's words."""


class Holder(StrEnum):
    """Whether a process is at work on a run."""

    ALIVE = "alive"
    GONE = "gone"
    UNKNOWN = "unknown"
    """It may be on another machine, or be just starting."""


class Fate(StrEnum):
    """A state to give a run, named as Prefect's types of states are."""

    CRASHED = "CRASHED"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"
    SCHEDULED = "SCHEDULED"


@dataclass(frozen=True)
class Past:
    """One state that a run was in."""

    type: str
    message: str


@dataclass(frozen=True)
class Sight:
    """What is seen of one run: CRASHED, or RUNNING, PENDING or CANCELLING without a sign of life for SILENCE."""

    states: Sequence[Past]
    """Oldest first; the last is the state it is in."""
    since: datetime
    """When it came into that state, in UTC."""
    holder: Holder
    was_stopped: bool
    """Whether a worker has noted that it ended the process on purpose."""

    @property
    def state(self) -> Past:
        """The one it is in."""
        return self.states[-1]

    @property
    def deaths(self) -> int:
        """How often its process had been lost when it was last started, since it last ended in any other way."""
        count = 0
        for past in self.states:
            if past.type in ("COMPLETED", "FAILED", "CANCELLED"):
                count = 0
            elif past.type == "SCHEDULED" and past.message.startswith(DIED):
                count += 1
        return count

    @property
    def has_run(self) -> bool:
        """Whether its flow has begun since it was last started."""
        for past in reversed(self.states):
            if past.type == "RUNNING":
                return True
            if past.type == "SCHEDULED":
                return False
        return False


@dataclass(frozen=True)
class Decision:
    """The state that a run is to be given, and why."""

    fate: Fate
    message: str
    is_told: bool = False
    """Whether people are told of it as of a crash."""


CANCELLED = Decision(Fate.CANCELLED, "It was being cancelled, and its process is gone.")


def decide(sight: Sight, now: datetime, answering: timedelta) -> Decision | None:
    """What to do about a run; None while it is to be left as it is.

    answering: how long the server has been answering without a break.
    """
    if sight.holder is Holder.ALIVE:
        return None
    if sight.state.type == "CRASHED":
        return _after_crash(sight, now)
    if sight.holder is Holder.UNKNOWN and answering < HEARING:
        return None
    if sight.state.type == "CANCELLING":
        return CANCELLED
    return Decision(Fate.CRASHED, f"Its process is gone: no sign of life for {SILENCE.total_seconds():.0f} s.")


def _after_crash(sight: Sight, now: datetime) -> Decision | None:
    was_stopped = sight.was_stopped or any(words in sight.state.message for words in TERMINATED)
    wait = WAITS[0] if was_stopped else WAITS[min(sight.deaths, len(WAITS) - 1)]
    if now - sight.since < wait:
        return None
    if len(sight.states) > 1 and sight.states[-2].type == "CANCELLING":
        return CANCELLED  # the signal that cancels it makes it crash first
    if was_stopped:
        return Decision(Fate.SCHEDULED, STOPPED)
    if sight.deaths + 1 < MOST_STARTS:
        count = f" Death {sight.deaths + 1} of {MOST_STARTS}."
        return Decision(Fate.SCHEDULED, DIED + count, is_told=sight.has_run)
    if sight.has_run:
        words = "Its logs end where it died; if memory ran out, the system's log says so."
    else:
        words = "It died before its flow began; the worker's log says why, such as an import that fails."
    return Decision(
        Fate.FAILED,
        f"Its process died {MOST_STARTS} times, so it is not started again. The last time: {sight.state.message} "
        f"{words} Mend that and retry the run.",
    )
