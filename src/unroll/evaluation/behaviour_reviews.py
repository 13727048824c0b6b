"""Behaviour tests of a classifier of film reviews into the classes negative and positive.

The made reviews have a small vocabulary and a grammar of their own, so their cases are drawn from it; every other
corpus gets plain English sentences about films.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from unroll.data.sample_reviews import CLASS_NAMES, FILLERS, VERDICTS, WORDS, Review, iter_reviews
from unroll.evaluation.behaviour import BehaviourResult, Kind, count_failures

Predict = Callable[[Sequence[str]], NDArray[np.float64]]
"""Texts to class probabilities, (N, 2)."""

NUM_CASES = 200
"""Of a test, at most: a share of failures is then known to some 5 points."""
MOST_DRAWN = 10 * NUM_CASES
OTHER_SEED = 1_000_003
"""Added to the run's seed, so that the cases are not the reviews that the corpus was made of."""
SLACK = 0.1
"""By how much a probability may move the wrong way where a change only adds weight (CheckList's tolerance)."""

# changes that turn a made verdict over
DENIALS = (
    ("I can honestly say", "I can not honestly say"),
    ("in public are right", "in public are mistaken"),
    ("It is plainly true", "It is plainly untrue"),
    ("is never wrong about films", "is never right about films"),
    ("I always agree with", "I never agree with"),
)
EXCHANGED_WORDS = ("person", "relative", "day", "land", "job", "instrument")

ASPECTS = ("acting", "story", "script", "dialogue", "music", "ending", "camera work", "direction")
PRAISE = ("superb", "wonderful", "excellent", "brilliant", "great", "beautiful", "gripping", "fantastic")
BLAME = ("awful", "terrible", "boring", "dreadful", "horrible", "dull", "pathetic", "poor")
PLAIN_TEMPLATES = (
    "The {aspect} was {verdict}.",
    "I thought the {aspect} was {verdict} and the {other} was {verdict2}.",
    "What a {verdict} film. The {aspect} is {verdict2}.",
    "This is a {verdict} movie, and the {aspect} is simply {verdict2}.",
)
TURNS = (
    "I expected it to be {opposite}, but it was {verdict}.",
    "The {aspect} was {opposite}. Even so, the film as a whole is {verdict}.",
    "My friends called it {opposite}. They are wrong: it is {verdict}.",
)
INTENSIFIERS = ("very", "really", "absolutely", "truly", "extremely")
LAST_WORDS = ("I hated every minute of it.", "I loved every minute of it.")
"""By class."""
PEOPLE = ("Smith", "Baker", "Johnson", "Miller", "Parker", "Turner", "Cooper", "Collins")
CITIES = ("Chicago", "London", "Boston", "Paris", "Dublin", "Seattle", "Toronto", "Berlin")
NAMED = (
    "I saw this in {city} with {person}, who shares my view. The {aspect} was {verdict}.",
    "{person} plays a cop from {city}. It's a {verdict} film and the {aspect} isn't the only reason.",
)


@dataclass(frozen=True)
class _Case:
    """One case: the text before and after a change (or a text alone), and the class that it speaks for."""

    before: str
    after: str = ""
    label: int = 0

    @property
    def words(self) -> str:
        return f"{self.before} -> {self.after}" if self.after else f"{self.before} [{CLASS_NAMES[self.label]}]"


Fails = Callable[[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]], NDArray[np.bool_]]
"""From the probabilities before and after, (N, 2), and the labels (N,), to which cases fail, (N,)."""


@dataclass(frozen=True)
class _Test:
    name: str
    kind: Kind
    promise: str
    cases: Iterator[_Case]
    fails: Fails


def test_reviews(predict: Predict, made: bool, seed: int, confidence: float) -> list[BehaviourResult]:
    """Run the tests of the made reviews, or those of English film reviews.

    predict: probabilities in the order of `CLASS_NAMES`, negative first. A test has up to `NUM_CASES` cases.
    """
    results = []
    for test in _made_tests(seed + OTHER_SEED) if made else _english_tests(seed):
        # each case once: repeating it would only pretend to know more
        cases = list(islice(dict.fromkeys(islice(test.cases, MOST_DRAWN)), NUM_CASES))
        before = predict([case.before for case in cases])
        after = predict([case.after or case.before for case in cases])
        failed = test.fails(before, after, np.array([case.label for case in cases]))
        words = [case.words for case in cases]
        results.append(count_failures(test.name, test.kind, test.promise, failed.tolist(), words, confidence))
    return results


test_reviews.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test


def _answers_wrongly(
    before: NDArray[np.float64], after: NDArray[np.float64], labels: NDArray[np.int64]
) -> NDArray[np.bool_]:
    return np.asarray(before.argmax(axis=1) != labels)


def _changes_answer(
    before: NDArray[np.float64], after: NDArray[np.float64], labels: NDArray[np.int64]
) -> NDArray[np.bool_]:
    return np.asarray(before.argmax(axis=1) != after.argmax(axis=1))


def _keeps_answer(
    before: NDArray[np.float64], after: NDArray[np.float64], labels: NDArray[np.int64]
) -> NDArray[np.bool_]:
    return np.asarray(before.argmax(axis=1) == after.argmax(axis=1))


def _gains(before: NDArray[np.float64], after: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    rows = np.arange(len(labels))
    return np.asarray(after[rows, labels] >= before[rows, labels])


def _loses(before: NDArray[np.float64], after: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    rows = np.arange(len(labels))
    return np.asarray(after[rows, labels] < before[rows, labels] - SLACK)


def _made_tests(seed: int) -> list[_Test]:
    return [
        _Test("plain_verdict", "minimum_functionality", "a plain verdict is read", _made_plain(seed), _answers_wrongly),
        _Test("order", "direction", "two verdicts exchanged turn the label over", _made_orders(seed), _keeps_answer),
        _Test("denial", "direction", 'a "not" or its like turns the label over', _made_denials(seed), _keeps_answer),
        _Test("filler", "invariance", "a sentence without a verdict changes nothing", _made_fillers(seed),
              _changes_answer),
        _Test("names", "invariance", "other people, days and lands change nothing", _made_names(seed),
              _changes_answer),
        _Test("typography", "invariance", "spaces and line breaks change nothing",
              _typography(review.text for review in _reviews(seed)), _changes_answer),
    ]  # fmt: skip


def _english_tests(seed: int) -> list[_Test]:
    return [
        _Test("plain_verdict", "minimum_functionality", "a plain verdict is read",
              _english_cases(seed, PLAIN_TEMPLATES), _answers_wrongly),
        _Test("turn", "minimum_functionality", "of two verdicts the writer's own counts", _english_cases(seed, TURNS),
              _answers_wrongly),
        _Test("not", "direction", 'a "not" makes the denied class less likely', _english_denials(seed), _gains),
        _Test("intensifier", "direction", "an intensifier does not weaken a verdict", _intensified(seed), _loses),
        _Test("last_word", "direction", "a last word of praise or blame does not speak against itself",
              _last_words(seed), _loses),
        _Test("names", "invariance", "other people and cities change nothing", _english_names(seed), _changes_answer),
        _Test("typography", "invariance", "spaces, line breaks and curly apostrophes change nothing",
              _typography(case.before for case in _english_cases(seed, NAMED)), _changes_answer),
    ]  # fmt: skip


def _reviews(seed: int) -> Iterator[Review]:
    for chunk in iter_reviews(100 * NUM_CASES, seed):
        yield from chunk


def _made_plain(seed: int) -> Iterator[_Case]:
    return (_Case(review.text, label=review.label) for review in _reviews(seed) if review.kind == "plain")


def _made_orders(seed: int) -> Iterator[_Case]:
    verdicts = set(VERDICTS[0] + VERDICTS[1])
    for review in _reviews(seed):
        found = [word for word in re.findall(r"\w+", review.text) if word in verdicts]
        if review.kind != "plain" and len(found) == 2:
            exchanged = dict(zip(found, reversed(found), strict=True))
            yield _Case(review.text, _replaced(review.text, exchanged), review.label)


def _made_denials(seed: int) -> Iterator[_Case]:
    for review in _reviews(seed):
        for plain, denied in DENIALS:
            if plain in review.text:
                yield _Case(review.text, review.text.replace(plain, denied), review.label)


def _made_fillers(seed: int) -> Iterator[_Case]:
    generator = np.random.default_rng(seed)
    for review in _reviews(seed):
        slots = {name + number: str(generator.choice(words)) for name, words in WORDS.items() for number in ("", "2")}
        yield _Case(review.text, f"{review.text} {str(generator.choice(FILLERS)).format_map(slots)}", review.label)


def _made_names(seed: int) -> Iterator[_Case]:
    # no verdict is among them; each becomes the next word of its kind
    following: dict[str, str] = {}
    for kind in EXCHANGED_WORDS:
        following |= dict(zip(WORDS[kind], WORDS[kind][1:] + WORDS[kind][:1], strict=True))
    for review in _reviews(seed):
        changed = _replaced(review.text, following)
        if changed != review.text:
            yield _Case(review.text, changed, review.label)


def _typography(texts: Iterator[str]) -> Iterator[_Case]:
    changes: tuple[Callable[[str], str], ...] = (
        lambda text: text.replace(" ", "  "),
        lambda text: text.replace(". ", ".\n"),
        lambda text: f"  {text}\n\n",
        lambda text: text.replace("'", "\N{RIGHT SINGLE QUOTATION MARK}"),
    )
    for number, text in enumerate(texts):
        changed = changes[number % len(changes)](text)
        if changed != text:
            yield _Case(text, changed)


def _english_cases(seed: int, templates: Sequence[str]) -> Iterator[_Case]:
    generator = np.random.default_rng(seed)
    number = 0
    while True:
        label = number % 2
        own, opposite = (PRAISE, BLAME) if label else (BLAME, PRAISE)
        verdict, verdict2 = generator.choice(own, 2, replace=False)
        aspect, other = generator.choice(ASPECTS, 2, replace=False)
        slots = {"verdict": verdict, "verdict2": verdict2, "opposite": generator.choice(opposite), "aspect": aspect}
        slots |= {"other": other, "person": generator.choice(PEOPLE), "city": generator.choice(CITIES)}
        template = templates[int(generator.integers(len(templates)))]
        text = template.format_map(slots).replace(" a awful", " an awful").replace(" a excellent", " an excellent")
        yield _Case(text, label=label)
        number += 1


def _english_denials(seed: int) -> Iterator[_Case]:
    for case in _english_cases(seed, PLAIN_TEMPLATES[:1]):
        yield _Case(case.before, case.before.replace(" was ", " was not "), case.label)


def _intensified(seed: int) -> Iterator[_Case]:
    generator = np.random.default_rng(seed)
    for case in _english_cases(seed, PLAIN_TEMPLATES[:1]):
        word = str(generator.choice(INTENSIFIERS))
        yield _Case(case.before, case.before.replace(" was ", f" was {word} "), case.label)


def _last_words(seed: int) -> Iterator[_Case]:
    for case in _english_cases(seed, NAMED):
        yield _Case(case.before, f"{case.before} {LAST_WORDS[case.label]}", case.label)


def _english_names(seed: int) -> Iterator[_Case]:
    following = {
        name: after for names in (PEOPLE, CITIES) for name, after in zip(names, names[1:] + names[:1], strict=True)
    }
    for case in _english_cases(seed, NAMED):
        yield _Case(case.before, _replaced(case.before, following), case.label)


def _replaced(text: str, words: dict[str, str]) -> str:
    return re.sub(r"\w+", lambda found: words.get(found[0], found[0]), text)
