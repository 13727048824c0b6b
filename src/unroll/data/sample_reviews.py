"""Made film reviews whose label follows from word order, so that counting words and word pairs cannot tell it.

A review is one *pattern*, which carries the verdict, among *fillers*, which carry none and may stand between the two
halves of the pattern (so the words that decide can be far apart). Most patterns hold a verdict ``{x}`` and its
opposite ``{y}`` between the same neighbours: exchanging the two turns the label over and leaves every count of words
and of neighbouring pairs as it was. The label follows from the text without exception: the best accuracy is 1.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from unroll.errors import DataError

CLASS_NAMES = ("negative", "positive")


class Review(NamedTuple):
    """One made review: its text, its label (an index into CLASS_NAMES) and the kind of its pattern."""

    text: str
    label: int
    kind: str


class Pattern(NamedTuple):
    """A way to give a verdict; ``|`` marks where fillers may stand.

    ``{x}`` (or the ``{winner}``) agrees with the label and ``{y}`` (the ``{loser}``) is its opposite. A pattern with
    a ``denied`` text says the opposite in that text; the two differ in a cue that is never next to the verdict.
    """

    kind: str
    text: str
    denied: str = ""
    far: bool = False
    """All fillers stand between the halves, so that what decides is remembered across them."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Adjectives fit after "was", "found it" and "call it"; none begins a sentence, so capitals give nothing away.
VERDICTS = (
    _words(
        "awful bad boring clumsy dreadful dreary dull feeble forgettable hollow horrible lifeless messy painful "
        "pointless poor shallow silly stale tedious terrible tiresome unbearable weak"
    ),
    _words(
        "amazing beautiful brilliant charming clever delightful excellent fascinating fresh funny good graceful "
        "great gripping lovely magnificent moving splendid superb thrilling touching warm witty wonderful"
    ),
)

# (the film under review, the film it is held against)
RIVAL_FILMS = (("new", "old"), ("second", "first"), ("recent", "earlier"))

PLAIN = (
    Pattern("plain", "The {aspect1} was {x} and the {aspect2} felt {x2}."),
    Pattern("plain", "I thought the {aspect1} was {x}. | To my mind the {aspect2} was {x2} as well."),
    Pattern("plain", "Asked about the {aspect1} I said {x}, and asked about the {aspect2} I said {x2}."),
    Pattern("plain", "In one word it was {x}. | With its {aspect1} and its {aspect2} it had to be {x2} too."),
)

ORDERED = (
    Pattern(
        "expectation",
        "I expected a film that was {y} from start to finish. | "
        "What I got was a film that was {x} from start to finish.",
    ),
    Pattern(
        "expectation",
        "What I got was a film that was {x} from start to finish. | "
        "I had expected a film that was {y} from start to finish.",
    ),
    Pattern(
        "expectation",
        "The trailer promised something that felt {y} in every scene. | "
        "The film itself delivered something that felt {x} in every scene.",
    ),
    Pattern("opinion", "The critics found the whole thing {y} and said so. | I found the whole thing {x} and said so."),
    Pattern("opinion", "I found the whole thing {x} and said so. | The critics found the whole thing {y} and said so."),
    Pattern("opinion", "Others may call it {y} all they like. | I will call it {x} all the same."),
    Pattern(
        "change", "At first I thought that it was {y} throughout. | By the end I thought that it was {x} throughout."
    ),
    Pattern(
        "change",
        "By the end I thought that it was {x} throughout. | At first, I admit, I thought that it was {y} throughout.",
    ),
    Pattern(
        "concession", "Yes, one scene is truly {y} at times. | Even so, the film as a whole is truly {x} at heart."
    ),
    Pattern(
        "concession",
        "The film as a whole is truly {x} at heart. | This holds even though one scene is truly {y} at times.",
    ),
    Pattern("negation", "I would not call it {y} by any measure. | I would call it {x} by any measure."),
    Pattern("negation", "I would call it {x} by any measure. | I would not call it {y} by any measure."),
    Pattern(
        "negation",
        "It is wrong to say that the film is {y} overall. | It is right to say that the film is {x} overall.",
    ),
    Pattern(
        "comparison",
        "There are two of that name, the {other} film and this {reviewed} film. | "
        "To me the {winner} film beats the {loser} film in every way.",
    ),
    Pattern(
        "comparison",
        "We watched the {reviewed} film, having seen the {other} film before. | "
        "Any day I would give up the {loser} film for the {winner} film without a second thought.",
    ),
    Pattern(
        "witness",
        "My {person1} is always wrong about films and called it {y} through and through. | "
        "My {person2} is always right about films and called it {x} through and through.",
        far=True,
    ),
    Pattern(
        "witness",
        "My {person1} is always right about films and called it {x} through and through. | "
        "My {person2} is always wrong about films and called it {y} through and through.",
        far=True,
    ),
)

DENIABLE = (
    Pattern("denial", "I can honestly say that the film was {x}.", "I can not honestly say that the film was {x}."),
    Pattern("denial", "Those who call it {x} in public are right.", "Those who call it {x} in public are mistaken."),
    Pattern(
        "denial",
        "It is plainly true, whatever they tell you, that this film is {x}.",
        "It is plainly untrue, whatever they tell you, that this film is {x}.",
    ),
    Pattern(
        "hearsay",
        "The man at the door is never wrong about films. | He told us that this one was {x}.",
        "The man at the door is never right about films. | He told us that this one was {x}.",
        far=True,
    ),
    Pattern(
        "hearsay",
        "I always agree with the woman who sold us the tickets. | She had told us that it was {x}.",
        "I never agree with the woman who sold us the tickets. | She had told us that it was {x}.",
        far=True,
    ),
)

SHORT_PATTERN_WORDS = 20

# Share of the reviews; PLAIN ones are what a bag of words gets right.
FAMILIES: tuple[tuple[Sequence[Pattern], float], ...] = ((PLAIN, 0.28), (ORDERED, 0.52), (DENIABLE, 0.20))

FILLERS = (
    "We saw it on a {day} {hour} in a cinema near the {spot}.",
    "My {relative} had bought the tickets {ago}.",
    "The story follows a {job} who moves to {land} for {number} months.",
    "It was shot in {land} over {number} weeks.",
    "The hall was about half full, mostly with people from the {spot}.",
    "A {job} and a {job2} share most of the scenes.",
    "The titles alone run for about {number} minutes.",
    "There was a short break, and we shared some {snack}.",
    "Halfway through, the {job} takes a train to {land}.",
    "The music is played on a {instrument} and a {instrument2}.",
    "My {relative} ate {snack} and looked at the screen.",
    "It was raining when we walked back past the {spot}.",
    "The {job} is played by somebody from {land}.",
    "Much of it happens at night, in a house behind a {spot}.",
    "I took some notes in the {hour} and copied them at the {spot}.",
    "The last part takes place {number} years after the first.",
    "On the way home my {relative} hummed the {instrument} tune.",
    "There is a dog in it, and it belongs to the {job}.",
)

WORDS: dict[str, tuple[str, ...]] = {
    "aspect": _words("acting camera dialogue ending music pacing plot script story tone"),
    "person": _words("aunt brother cousin father mother sister uncle"),
    "relative": _words("brother cousin daughter father friend mother neighbour sister son"),
    "day": _words("Friday Monday Saturday Sunday Thursday Tuesday Wednesday"),
    "hour": _words("afternoon evening morning night"),
    "spot": _words("bridge church garden harbour library market park river school station"),
    "ago": ("a week before", "last month", "on the spot", "that same day", "the day before"),
    "job": _words("baker doctor farmer gardener lawyer nurse painter pilot sailor tailor teacher"),
    "land": _words("Brazil Canada Finland Ireland Japan Morocco Norway Peru Portugal Scotland"),
    "number": _words("eight eleven five four nine seven six ten twelve twenty"),
    "snack": _words("apples chocolate crisps nuts popcorn raisins"),
    "instrument": _words("banjo cello drum flute guitar harp piano trumpet violin"),
}


def iter_reviews(num_reviews: int, seed: int, chunk_size: int = 1000) -> Iterator[list[Review]]:
    """Make reviews, chunk by chunk, in memory that does not grow with `num_reviews`.

    The labels of reviews 2i and 2i + 1 differ, so classes are balanced. The same seed gives the same reviews on
    every machine: a longer run starts with the shorter one, and `chunk_size` only groups them.
    Raises DataError where `num_reviews` is negative or `chunk_size` is below 1.
    """
    if num_reviews < 0 or chunk_size < 1:
        raise DataError(
            f"Got num_reviews={num_reviews} and chunk_size={chunk_size}; expected at least 0 and 1: "
            "ask for some reviews, in chunks of some size."
        )
    reviews = islice(_endless_reviews(seed), num_reviews)
    return iter(lambda: list(islice(reviews, chunk_size)), [])


def _endless_reviews(seed: int) -> Iterator[Review]:
    draw = _Draw(seed)
    while True:
        label = draw.index(2)
        yield _make_review(label, draw)
        yield _make_review(1 - label, draw)


class _Draw:
    """Uniform choices from PCG64, whose stream NumPy keeps the same across machines and versions."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.Generator(np.random.PCG64(seed)).random

    def index(self, size: int) -> int:
        return int(self._random() * size)

    def share(self) -> float:
        return self._random()


class _Slots(dict[str, str]):
    """Words for the slots of one review, drawn when first asked for; no word stands in two slots."""

    def __init__(self, draw: _Draw, label: int) -> None:
        super().__init__()
        self._draw = draw
        self["x"] = self._unused(VERDICTS[label])
        self["x2"] = self._unused(VERDICTS[label])
        self["y"] = self._unused(VERDICTS[1 - label])
        rivals = RIVAL_FILMS[draw.index(len(RIVAL_FILMS))]
        self["reviewed"], self["other"] = rivals
        self["winner"], self["loser"] = rivals if label else rivals[::-1]

    def __missing__(self, slot: str) -> str:
        self[slot] = self._unused(WORDS[slot.rstrip("12")])
        return self[slot]

    def _unused(self, words: Sequence[str]) -> str:
        while True:
            word = words[self._draw.index(len(words))]
            if word not in self.values():
                return word


def _make_review(label: int, draw: _Draw) -> Review:
    pattern = _draw_pattern(draw)
    denied = bool(pattern.denied) and draw.index(2) == 1
    slots = _Slots(draw, 1 - label if denied else label)
    parts = (pattern.denied if denied else pattern.text).split(" | ")
    return Review(" ".join(_with_fillers(parts, pattern.far, draw)).format_map(slots), label, pattern.kind)


def _draw_pattern(draw: _Draw) -> Pattern:
    share = draw.share()
    for family, family_share in FAMILIES:
        if share < family_share:
            return family[draw.index(len(family))]
        share -= family_share
    return PLAIN[0]


def _with_fillers(parts: Sequence[str], far: bool, draw: _Draw) -> list[str]:
    """Put 2 or 3 different fillers (one less around a long pattern) before, between and after the parts."""
    num_words = sum(part.count(" ") + 1 for part in parts)
    places: list[list[str]] = [[] for _ in range(len(parts) + 1)]
    left = list(FILLERS)
    for _ in range(draw.index(2) + (2 if num_words < SHORT_PATTERN_WORDS else 1)):
        place = 1 if far else draw.index(len(places))
        places[place].append(left.pop(draw.index(len(left))))
    sentences = list(places[0])
    for part, fillers in zip(parts, places[1:], strict=True):
        sentences += [part, *fillers]
    return sentences
