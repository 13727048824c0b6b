"""Who is champion, and how that changes: the gate's decisions, promotions and roll-backs by a person.

Every change goes through the ledger (`tasks.ledger`), whose append is the one atomic point. The gate looks strictly: a
champion that cannot be told for certain is an error, never "no champion".
"""

from __future__ import annotations

import logging
import time
import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.ledger import SUFFIX, Ledger, user_name
from tasks.ledger_copy import LedgerCopy
from tasks.registry import CHALLENGER, CHAMPION, ModelRegistry, Version
from unroll.errors import RegistryError, StoreError
from unroll.evaluation.decisions import Entry, Standing, Verdict, stand

if TYPE_CHECKING:
    from unroll.evaluation.decisions import Decision

logger = logging.getLogger("unroll.promotion")

LOOKS = 4
SECONDS_BETWEEN_LOOKS = 0.5
"""An alias that seems moved by hand is looked at again: another process may be about to put it right."""


@dataclass(frozen=True)
class Title:
    """What the registry says of the champion now."""

    standing: Standing
    alias: str | None
    """The version that the alias names."""
    followed: int
    """Number of the move that the alias has followed."""


class Promotions:
    """Decisions on one registered model. Every method raises RegistryError where it cannot be sure of the champion."""

    def __init__(self, registry: ModelRegistry, name: str, store_root: Path) -> None:
        """Nothing is asked of the registry yet."""
        self.name = name
        self._registry = registry
        self._copy = LedgerCopy(store_root, registry.tracking_uri)
        self._ledger: Ledger = registry.ledger(name)

    def entries(self) -> list[Entry]:
        """The ledger, oldest first, checked against the store's copy."""
        entries = self._ledger.entries()
        self._catch_up(entries)
        return entries

    def look(self) -> Title:
        """The champion, for certain; an alias that lags behind the ledger is put right.

        A champion from before the ledger began is entered into it. Raises RegistryError where somebody moved the alias
        or deleted entries by hand.
        """
        for remaining in reversed(range(LOOKS)):
            title = self._glance()
            if title.standing.move == 0 and title.followed == 0:
                return title if title.alias is None else self._adopt(title)
            if title.followed < title.standing.move:
                self._ledger.settle(CHAMPION)
                continue
            if not (trouble := self._trouble(title)):
                return title
            if not remaining:
                raise RegistryError(trouble)
            time.sleep(SECONDS_BETWEEN_LOOKS)
        return self._glance()

    def champion(self, title: Title) -> Version | None:
        """The version that is champion. Raises RegistryError where it was deleted."""
        number = title.standing.champion
        return None if number is None else self._registry.version(self.name, number)

    def find(self, request: str, version: Version) -> Entry | None:
        """The newest decision on a version that ``request`` asked for, and that was not overtaken."""
        entries = self._ledger.entries()
        overtaken = stand(entries).overtaken
        fitting = [entry for entry in entries if (entry.request, entry.version) == (request, version.number)]
        return next((entry for entry in reversed(fitting) if entry.number not in overtaken), None)

    def record(self, entry: Entry) -> Entry:
        """Enter a decision, and carry it out where it moves the title; returns it with its number.

        Raises RegistryError where another move was entered since ``entry.based_on``; nothing has changed then.
        """
        appended = self._ledger.append(entry)
        entries = self._ledger.entries()
        self._catch_up(entries)
        if appended.number in stand(entries).overtaken:
            raise RegistryError(self._overtaken(appended, entries))
        if appended.moves:
            self.settle(appended)
        return appended

    def settle(self, entry: Entry) -> None:
        """Let the alias follow a decision that is entered."""
        try:
            self._ledger.settle(CHAMPION)
        except RegistryError as error:
            raise RegistryError(
                f"It is decided that version {entry.version} of {self.name} is champion (entry {entry.number} of the "
                f"ledger), but the alias could not be moved yet: {error} The next command on this model moves it."
            ) from error

    def promote(self, version: Version, reason: str) -> Entry | None:
        """Make a version champion because a person says so; None where it is already, and nothing is entered.

        The person's word also settles which version is meant where the alias or the ledger was changed by hand. Raises
        RegistryError or CheckpointError where the version cannot be loaded or is not what was registered.
        """
        title = self._glance()
        is_settled = title.followed == title.standing.move and not title.standing.missing
        if is_settled and version.number == title.standing.champion == title.alias:
            return None
        if title.standing.move == 0 and title.followed == 0 and title.alias is not None:
            title = self._adopt(title)
        self._registry.check(version)
        entry = self.record(self._by_person("promoted", version, title, reason))
        challenger = self._registry.by_alias(self.name, CHALLENGER)
        if challenger is not None and challenger.number == version.number:
            self._registry.drop_alias(self.name, CHALLENGER)
        return entry

    def roll_back(self, to: str | None, reason: str) -> Entry:
        """Make the champion before this one, or the earlier champion ``to``, champion again.

        Two roll-backs in a row go back two champions. Versions that were deleted are passed over. Raises RegistryError
        where there is no earlier champion, or none that can be loaded.
        """
        title = self.look()
        number = self._earlier(title.standing, to)
        version = self._registry.version(self.name, number)
        self._registry.check(version)
        return self.record(self._by_person("rolled back", version, title, reason))

    def _glance(self) -> Title:
        # the mark is read before the ledger, so that it can never seem to be ahead of it
        followed, alias = self._ledger.followed(CHAMPION)
        return Title(stand(self._ledger.entries()), alias, followed)

    def _trouble(self, title: Title) -> str | None:
        standing, way_out = title.standing, f"enter it: unroll models promote {self.name}/VERSION --reason WHY"
        if standing.missing or title.followed > standing.move:
            lost = ", ".join(map(str, standing.missing)) or f"up to {title.followed}"
            return (
                f"Entries of the ledger {self.name}{SUFFIX} were deleted ({lost}), so nobody can tell for certain "
                f"which version of {self.name} is champion. Say which one is meant and {way_out}."
            )
        if title.alias == standing.champion or (title.alias is None and self._is_gone(standing.champion)):
            return None
        alias = "was taken away" if title.alias is None else f"was moved to version {title.alias}"
        return (
            f"The alias {CHAMPION} of {self.name} {alias} by hand; by the ledger version {standing.champion} is "
            f"champion (entry {standing.move}). Say which one is meant and {way_out}."
        )

    def _adopt(self, title: Title) -> Title:
        version = self._registry.version(self.name, str(title.alias))
        entry = self._by_person("adopted", version, title, "champion before the ledger began")
        try:
            self.record(entry)
        except RegistryError:
            if stand(self._ledger.entries()).move == 0:
                raise
        return self._glance()

    def _by_person(self, verdict: Verdict, version: Version, title: Title, reason: str) -> Entry:
        return Entry(
            id=uuid.uuid4().hex,
            verdict=verdict,
            version=version.number,
            champion=title.standing.champion,
            based_on=title.standing.move,
            judge="person",
            asked_by=user_name(),
            reason=reason,
            run_id=version.run_id,
        )

    def _earlier(self, standing: Standing, to: str | None) -> str:
        earlier = standing.champions[:-1]
        if standing.champion is None:
            raise RegistryError(f"{self.name} has no champion to roll back from; see unroll models list {self.name}.")
        if to is not None and to not in earlier:
            there = ", ".join(dict.fromkeys(reversed(earlier))) or "none"
            raise RegistryError(
                f"Version {to} was no champion of {self.name} before version {standing.champion} (earlier champions: "
                f"{there}). To make it champion all the same: unroll models promote {self.name}/{to} --reason WHY."
            )
        kept = {version.number for version in self._registry.versions(self.name)}
        for number in [to] if to is not None else reversed(earlier):
            if number in kept and number != standing.champion:
                return number
            logger.warning("version %s of %s, champion before, was deleted from the registry", number, self.name)
        raise RegistryError(
            f"There is no earlier champion of {self.name} to go back to: version {standing.champion} is the first one"
            + (" that is left." if earlier else ".")
            + f" Another version becomes champion with: unroll models promote {self.name}/VERSION --reason WHY."
        )

    def _is_gone(self, number: str | None) -> bool:
        return number not in {version.number for version in self._registry.versions(self.name)}

    def _overtaken(self, entry: Entry, entries: list[Entry]) -> str:
        move = stand([each for each in entries if each.number < entry.number]).move
        winner = next((each for each in entries if each.number == move), None)
        by_whom = "the ledger was changed"
        if winner is not None:
            when = datetime.fromtimestamp(winner.time).strftime("%Y-%m-%d %H:%M:%S")
            by_whom = f"version {winner.version} was {winner.verdict} by {winner.asked_by} at {when} (entry {move})"
        return (
            f"Version {entry.version} of {self.name} did not become champion: meanwhile {by_whom}, and this decision "
            f"was about version {entry.champion or 'none'} as champion. Look at unroll models history {self.name}; "
            + ("run again to compare with the new champion." if entry.judge == "gate" else "decide anew.")
        )

    def _catch_up(self, entries: list[Entry]) -> None:
        try:
            differences = self._copy.catch_up(self.name, entries)
        except StoreError as error:
            # the registry has decided; the copy catches up next time
            logger.warning("the store's copy of the ledger of %s could not be written: %s", self.name, error)
            return
        for words in differences:
            logger.warning("the ledger of %s is not what the store remembers: %s", self.name, words)


def gate_entry(title: Title, version: Version, decision: Decision, request: str, data_digest: str) -> Entry:
    """The gate's decision as an entry, based on what was known of the champion."""
    return Entry(
        id=uuid.uuid4().hex,
        verdict=decision.outcome,
        version=version.number,
        champion=title.standing.champion,
        based_on=title.standing.move,
        judge="gate",
        asked_by=user_name(),
        reason=decision.reason,
        run_id=version.run_id,
        data_digest=data_digest,
        request=request,
        evidence=decision.evidence,
    )
