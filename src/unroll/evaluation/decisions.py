"""What was decided on the versions of a model, in order, and which champion follows from it. Pure functions of entries.

A ledger is a list of entries that somebody numbers 1, 2, 3 … as they are appended; nothing in it is ever changed. An
entry that moves the title names the entry it was based on: the last effective move that its author had seen. It is
effective where that still is the last one, and *overtaken* otherwise. So of any number of authors who decide at once,
the first in the ledger wins, every reader finds the same winner, and nobody holds a lock that could outlive him.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

Outcome = Literal["promoted", "held", "rejected"]
"""Of a judged version."""
Verdict = Literal["promoted", "held", "rejected", "rolled back", "adopted"]
"""An `Outcome`, or what a person did. *rolled back*: an earlier champion is champion again. *adopted*: it
was champion before the ledger began."""
VERDICTS: tuple[str, ...] = get_args(Verdict)
MOVES: tuple[Verdict, ...] = ("promoted", "rolled back", "adopted")


@dataclass(frozen=True)
class Decision:
    """What the gate decided, and why."""

    outcome: Outcome
    reason: str
    evidence: dict[str, Any] | None = None


@dataclass(frozen=True)
class Entry:
    """One decision."""

    id: str
    """Unique; two entries of one id are one entry that was sent twice."""
    verdict: Verdict
    version: str
    """What was decided on; of a roll-back, the version that is champion again."""
    champion: str | None
    """The champion that the author saw; None where there was none."""
    based_on: int
    """Number of the last effective move that the author saw; 0 where there was none."""
    judge: Literal["gate", "person"]
    asked_by: str
    """User name of whoever ran the command."""
    reason: str
    run_id: str = ""
    """The MLflow run of the version."""
    data_digest: str = ""
    """SHA-256 of the corpus that the version was judged on; empty where a person decided."""
    request: str = ""
    """Key of the register stage that asked: a killed stage finds its own entry by it."""
    evidence: dict[str, Any] | None = None
    number: int = 0
    """Place in the ledger, from 1; 0 before it is appended."""
    time: float = 0.0
    """Seconds since 1970 when it was appended, by the registry's clock."""

    @property
    def moves(self) -> bool:
        """Whether it makes its version champion, where it is effective."""
        return self.verdict in MOVES


@dataclass(frozen=True)
class Standing:
    """What a ledger says now."""

    move: int = 0
    """Number of the last effective move; 0 where there is none."""
    champions: tuple[str, ...] = ()
    """The champion, last, and before it those that a roll-back goes back to, newest last."""
    overtaken: frozenset[int] = frozenset()
    """Numbers of the moves that came too late, or twice."""
    missing: tuple[int, ...] = ()
    """Numbers that were given and are not there: somebody deleted entries. Those from before the last effective
    promotion by a person are not counted: he knew what he did."""

    @property
    def champion(self) -> str | None:
        """The champion's version, None where there is none."""
        return self.champions[-1] if self.champions else None


def stand(entries: Sequence[Entry]) -> Standing:
    """Read a ledger, in the order of its numbers.

    A promotion puts its version on top of the earlier champions; a roll-back takes away those above the version that it
    goes back to. Two roll-backs in a row therefore go back two champions rather than forth again.
    """
    move, champions = 0, list[str]()
    overtaken, seen = set[int](), set[str]()
    forgiven = 0
    for entry in entries:
        if entry.moves:
            if entry.based_on != move or entry.id in seen:
                overtaken.add(entry.number)
            else:
                move = entry.number
                champions = _move(champions, entry)
                if entry.judge == "person" and entry.verdict == "promoted":
                    forgiven = entry.number
        seen.add(entry.id)
    last = entries[-1].number if entries else 0
    missing = sorted(set(range(forgiven + 1, last + 1)) - {entry.number for entry in entries})
    return Standing(move, tuple(champions), frozenset(overtaken), tuple(missing))


def _move(champions: list[str], entry: Entry) -> list[str]:
    if entry.verdict == "rolled back" and entry.version in champions:
        last = len(champions) - 1 - champions[::-1].index(entry.version)
        return champions[: last + 1]
    return champions if champions[-1:] == [entry.version] else [*champions, entry.version]
