"""Behaviour tests of a character language model, on its own test text and, for made stories, on their grammar.

The cases of a book are places in the test part, so that they are of its language and its world: where a sentence
begins, where a mark closes, where a name comes, where a line breaks. Each compares two ways to go on, or two pasts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unroll.data.sample_grammar import BEINGS, NAME_ENDINGS, SYLLABLES, THINGS, VERBS
from unroll.evaluation.behaviour import BehaviourResult, Kind, count_failures

Score = Callable[[Sequence[tuple[str, str]]], NDArray[np.float64]]
"""Pairs of a past and what comes after it, to nats of what comes after: (N,)."""

NUM_CASES = 100
"""Of a test, at most: together they cost about as much as scoring a book's test part."""
PAST = 100
"""Characters that the model reads before a case."""
AFTER_BREAK = 50
"""Characters after a line break whose cost is compared."""
SLACK = 0.05
"""Nats a character by which the past that should help may do worse: two probabilities near 1 are as good."""
CLOSING = {'"': '"', "“": "”", "(": ")", "[": "]", "«": "»"}
"""Opening marks and what closes each."""
SHOWN = 40


@dataclass(frozen=True)
class _Case:
    """The first (past, future) must be the cheaper of two, by no more than the slack in its favour."""

    good: tuple[str, str]
    bad: tuple[str, str]

    @property
    def words(self) -> str:
        (past, good), (other_past, bad) = self.good, self.bad
        shown = f"{past[-SHOWN:]!r} -> {good[:SHOWN]!r}"
        return f"{shown} rather than {bad[:SHOWN]!r}" if good != bad else f"{shown} rather than after {other_past!r}"


@dataclass(frozen=True)
class _Test:
    name: str
    kind: Kind
    promise: str
    cases: list[_Case]
    slack: float = 0.0


def test_text(score: Score, text: str, made: bool, seed: int, confidence: float) -> list[BehaviourResult]:
    """Run the tests that the text has cases for; those of the grammar too where it is `made`.

    text: the test part. A test takes at most `NUM_CASES` of its cases, drawn with the seed.
    """
    generator = np.random.default_rng(seed)
    tests = [
        _Test("capital", "minimum_functionality", "after a full stop a capital is likelier than the small letter",
              list(_capitals(text))),
        _Test("name", "minimum_functionality", "a name is likelier with its capital than without", list(_names(text))),
        _Test("closing_mark", "direction", "a closing mark is no less likely where one was opened",
              list(_marks(text)), SLACK),
        _Test("line_break", "direction", "the lines before a break do not make what follows dearer",
              list(_breaks(text)), SLACK),
    ]  # fmt: skip
    if made:
        tests += [
            _Test("agreement", "minimum_functionality", "a verb agrees with its subject past another noun",
                  _agreements(generator)),
            _Test("pronoun", "minimum_functionality", "a pronoun fits the person named last", _pronouns(generator)),
        ]  # fmt: skip
    results = []
    for test in tests:
        if test.cases:
            chosen = np.sort(generator.permutation(len(test.cases))[:NUM_CASES])
            results.append(_run(test, [test.cases[int(index)] for index in chosen], score, confidence))
    return results


test_text.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test


def _run(test: _Test, cases: list[_Case], score: Score, confidence: float) -> BehaviourResult:
    good, bad = score([case.good for case in cases]), score([case.bad for case in cases])
    slack = test.slack * np.array([len(case.good[1]) for case in cases])
    failed = (good > bad + slack).tolist()
    return count_failures(test.name, test.kind, test.promise, failed, [case.words for case in cases], confidence)


def _past(text: str, end: int) -> str:
    return text[max(0, end - PAST) : end]


def _capitals(text: str) -> Iterator[_Case]:
    for found in re.finditer(r"\w{2}[.!?] (?=[^\W\d_])", text):
        letter = text[found.end()]
        if found.end() >= PAST and letter.isupper() and letter.lower() != letter:
            past = _past(text, found.end())
            yield _Case((past, letter), (past, letter.lower()))


def _names(text: str) -> Iterator[_Case]:
    """Words that stand within a sentence with a capital, and nowhere in the text without."""
    small = set(re.findall(r"\b[a-z]\w+", text))
    for found in re.finditer(r"(?<=[a-z,;] )[A-Z][a-z]{2,}\b", text):
        if found.start() >= PAST and found[0].lower() not in small:
            past = _past(text, found.start())
            yield _Case((past, found[0]), (past, found[0].lower()))


def _marks(text: str) -> Iterator[_Case]:
    for opening, closing in CLOSING.items():
        inside = f"[^{re.escape(opening)}{re.escape(closing)}]"
        # a mark that may open and close opens after a space
        mark = re.escape(opening) if opening != closing else rf"(?<=\s){re.escape(opening)}"
        for found in re.finditer(f"{mark}({inside}{{5,{PAST}}})(?={re.escape(closing)})", text):
            if found.start() >= PAST:
                before = _past(text, found.start())
                yield _Case((before + opening + found[1], closing), (before + found[1], closing))


def _breaks(text: str) -> Iterator[_Case]:
    for found in re.finditer(r"(?<=\S)\n(?=\S)", text):
        after = text[found.end() : found.end() + AFTER_BREAK]
        if found.start() >= PAST and len(after) == AFTER_BREAK:
            yield _Case((_past(text, found.end()), after), ("\n", after))


def _agreements(generator: np.random.Generator) -> list[_Case]:
    """`The gulls with the net mend `: the noun that decides is not the one next to the verb."""
    cases = []
    for number in range(NUM_CASES):
        being, thing = str(generator.choice(BEINGS)), str(generator.choice(THINGS))
        third_person, plain, _ = VERBS[int(generator.integers(len(VERBS)))]
        many = number % 2 == 0
        past = f"{_sentence(generator)}The {being}{'s' if many else ''} with the {thing}{'' if many else 's'} "
        right, wrong = (plain, third_person) if many else (third_person, plain)
        cases.append(_Case((past, f"{right} "), (past, f"{wrong} ")))
    return cases


def _pronouns(generator: np.random.Generator) -> list[_Case]:
    """`Tabana sleeps near the mill. She `: names in -na are women's, in -ro men's."""
    cases = []
    for number in range(NUM_CASES):
        ending = list(NAME_ENDINGS)[number % 2]
        past = f"{_sentence(generator)}{_name(generator, ending)} sleeps near the mill. "
        right, wrong = ("She ", "He ") if NAME_ENDINGS[ending] == "she" else ("He ", "She ")
        cases.append(_Case((past, right), (past, wrong)))
    return cases


def _sentence(generator: np.random.Generator) -> str:
    return f"{_name(generator, str(generator.choice(list(NAME_ENDINGS))))} waits by the port.\n"


def _name(generator: np.random.Generator, ending: str) -> str:
    first, second = generator.choice(SYLLABLES, 2)
    return f"{first.capitalize()}{second}{ending}"
