"""Made stories whose exact code length is known: a floor that a character language model can be held against.

The text is drawn from a probabilistic automaton (its states and strings: sample_grammar.py). In each state a few
strings may come next, each with its probability and the state after it. The strings of a state are prefix-free, so a
text has one way through the automaton, and the probability of a character given all before it is a quotient of two
sums over the strings that agree with what is written so far (a walk down the trie of the state). Shannon, "Prediction
and Entropy of Printed English" (1951), brackets for real text what is exact here.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unroll.data.sample_grammar import RULES, START, State
from unroll.errors import DataError

STRINGS_PER_CHUNK = 8192


@dataclass(frozen=True)
class Prose:
    """A made text and what each of its characters costs."""

    text: str
    bits: NDArray[np.float32]
    """(len(text),) code length of each character, in bits, given everything before it."""


def make_prose(num_characters: int, seed: int) -> Prose:
    """Make a story of exactly `num_characters`, cut anywhere, with the code length of each character.

    A longer story of the same seed begins with the shorter one. Raises DataError for a negative length.
    """
    chunks = list(iter_prose(num_characters, seed))
    bits = [np.zeros(0, np.float32), *(chunk.bits for chunk in chunks)]
    return Prose("".join(chunk.text for chunk in chunks), np.concatenate(bits))


def iter_prose(num_characters: int, seed: int) -> Iterator[Prose]:
    """The story of `make_prose` in chunks of some 50,000 characters, in memory that does not grow with its length."""
    if num_characters < 0:
        raise DataError(f"Got num_characters={num_characters}; expected 0 or more: ask for a text of some length.")
    return _iter_chunks(num_characters, seed)


def next_character_probabilities(prefix: str) -> dict[str, float]:
    """Exact distribution of the character after `prefix`, which is read from the start of a story.

    Raises DataError where no story begins with `prefix`.
    """
    automaton = _automaton()
    state, pending = 0, ""
    for position, character in enumerate(prefix):
        pending += character
        texts = automaton.texts[state]
        if pending in texts:
            state, pending = automaton.next_states[state][texts.index(pending)], ""
        elif not any(text.startswith(pending) for text in texts):
            raise DataError(
                f"No story goes on with {character!r} after {prefix[:position][-20:]!r} (character {position}); "
                "expected text that make_prose could have made."
            )
    probs: dict[str, float] = {}
    for text, prob in zip(automaton.texts[state], automaton.probs[state], strict=True):
        if text.startswith(pending):
            character = text[len(pending)]
            probs[character] = probs.get(character, 0.0) + prob
    total = sum(probs.values())
    return {character: prob / total for character, prob in probs.items()}


class _Automaton(NamedTuple):
    """The grammar with its states numbered; START is state 0. Outer index: the state; inner: the option."""

    texts: list[list[str]]
    probs: list[list[float]]
    bounds: list[list[float]]
    """Upper ends of the options' shares of [0, 1), the last left out."""
    next_states: list[list[int]]
    first_option: list[int]
    """Where the options of a state begin among those of all states."""
    option_start: NDArray[np.int64]
    """Where the bits of an option begin in `bits`; one entry more, the end."""
    bits: NDArray[np.float32]
    """Code lengths of the characters of all options, one after another."""


@lru_cache(maxsize=1)
def _automaton() -> _Automaton:
    states = _reachable_states()
    number = {state: index for index, state in enumerate(states)}
    options = [RULES[state.place](state) for state in states]
    texts = [[text for text, _, _ in of_state] for of_state in options]
    totals = [sum(weight for _, weight, _ in of_state) for of_state in options]
    probs = [[weight / total for _, weight, _ in of_state] for of_state, total in zip(options, totals, strict=True)]
    lengths = [len(text) for of_state in texts for text in of_state]
    return _Automaton(
        texts=texts,
        probs=probs,
        bounds=[list(accumulate(of_state))[:-1] for of_state in probs],
        next_states=[[number[after] for _, _, after in of_state] for of_state in options],
        first_option=[0, *accumulate(len(of_state) for of_state in texts)],
        option_start=np.array([0, *accumulate(lengths)], np.int64),
        bits=np.array([bits for pair in zip(texts, probs, strict=True) for bits in _code_lengths(*pair)], np.float32),
    )


def _reachable_states() -> list[State]:
    states = {START: None}
    waiting = [START]
    while waiting:
        state = waiting.pop()
        for _, _, after in RULES[state.place](state):
            if after not in states:
                states[after] = None
                waiting.append(after)
    return list(states)


def _code_lengths(texts: list[str], probs: list[float]) -> list[float]:
    """Bits of each character of each text: what share of the mass that agreed before it still agrees after it."""
    mass: dict[str, float] = {}
    for text, prob in zip(texts, probs, strict=True):
        for end in range(len(text) + 1):
            mass[text[:end]] = mass.get(text[:end], 0.0) + prob
    return [math.log2(mass[text[:end]] / mass[text[: end + 1]]) for text in texts for end in range(len(text))]


def _iter_chunks(num_characters: int, seed: int) -> Iterator[Prose]:
    automaton = _automaton()
    random = np.random.Generator(np.random.PCG64(seed)).random
    state, left = 0, num_characters
    while left:
        texts, option_ids = [], []
        for share in random(STRINGS_PER_CHUNK).tolist():
            option = bisect_right(automaton.bounds[state], share)
            texts.append(automaton.texts[state][option])
            option_ids.append(automaton.first_option[state] + option)
            state = automaton.next_states[state][option]
        text = "".join(texts)[:left]
        yield Prose(text, _bits_of_options(automaton, np.array(option_ids))[:left])
        left -= len(text)


def _bits_of_options(automaton: _Automaton, option_ids: NDArray[np.int64]) -> NDArray[np.float32]:
    starts = automaton.option_start[option_ids]
    lengths = automaton.option_start[option_ids + 1] - starts
    # starts[i], starts[i] + 1, ... for every option i in turn, without a loop
    shifts = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    bits: NDArray[np.float32] = automaton.bits[np.arange(len(shifts)) + shifts]
    return bits
