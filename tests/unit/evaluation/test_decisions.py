from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from unroll.evaluation.decisions import Entry, Verdict, stand


def entry(number: int, version: str, based_on: int, verdict: Verdict = "promoted", **fields: str) -> Entry:
    plain = Entry(
        id=fields.pop("id", f"id-{number}"),
        verdict=verdict,
        version=version,
        champion=None,
        based_on=based_on,
        judge="gate",
        asked_by="somebody",
        reason="",
        number=number,
    )
    return replace(plain, **fields)  # type: ignore[arg-type]


def test_an_empty_ledger_has_no_champion() -> None:
    assert stand([]).champion is None
    assert stand([entry(1, "1", 0, "held"), entry(2, "2", 0, "rejected")]).champion is None


def test_the_first_of_those_that_saw_the_same_wins() -> None:
    standing = stand([entry(1, "1", 0), entry(2, "2", 1), entry(3, "3", 1), entry(4, "4", 1), entry(5, "5", 2)])
    assert standing.champion == "5"
    assert standing.overtaken == {3, 4}
    assert standing.champions == ("1", "2", "5")


def test_roll_backs_take_champions_away_and_a_promotion_puts_one_on_top() -> None:
    ledger = [entry(1, "1", 0), entry(2, "2", 1), entry(3, "3", 2)]
    ledger += [entry(4, "2", 3, "rolled back"), entry(5, "1", 4, "rolled back")]
    assert stand(ledger).champions == ("1",)
    assert stand([*ledger, entry(6, "3", 5)]).champions == ("1", "3")


def test_an_entry_that_was_sent_twice_counts_once() -> None:
    standing = stand([entry(1, "1", 0), entry(2, "2", 1, id="same"), entry(3, "2", 2, id="same")])
    assert standing.move == 2
    assert standing.overtaken == {3}


def test_a_missing_number_is_told_until_a_person_has_promoted() -> None:
    holed = [entry(1, "1", 0), entry(4, "2", 1)]
    assert stand(holed).missing == (2, 3)
    assert stand([*holed, entry(5, "2", 4)]).missing == (2, 3), "the gate cannot forgive"
    assert stand([*holed, entry(5, "2", 4, judge="person")]).missing == ()


@given(
    seed=st.integers(0, 2**32 - 1),
    num_authors=st.integers(1, 8),
    num_turns=st.integers(1, 40),
)
def test_however_authors_interleave_the_moves_form_one_chain(seed: int, num_authors: int, num_turns: int) -> None:
    """Each author looks, and appends later, by what he saw then."""
    chance = random.Random(seed)
    seen = [0] * num_authors
    ledger: list[Entry] = []
    told_won: list[int] = []
    for _ in range(num_turns):
        author = chance.randrange(num_authors)
        if chance.random() < 0.4:
            seen[author] = stand(ledger).move
            continue
        verdict: Verdict = chance.choice(("promoted", "rolled back", "held"))
        appended = entry(len(ledger) + 1, chance.choice("123"), seen[author], verdict)
        ledger.append(appended)
        if appended.moves and appended.number not in stand(ledger).overtaken:
            told_won.append(appended.number)
    standing = stand(ledger)
    effective = [each for each in ledger if each.moves and each.number not in standing.overtaken]
    assert [each.number for each in effective] == told_won, "what an author was told stays true"
    assert _chain(effective)
    assert standing.champion == (effective[-1].version if effective else None)
    assert standing.missing == ()


def _chain(moves: Sequence[Entry]) -> bool:
    before = [0, *(move.number for move in moves)]
    return all(move.based_on == number for number, move in zip(before, moves, strict=False))
