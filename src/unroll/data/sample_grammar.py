"""The grammar of the made stories: which strings may come next, how likely each is, and what is remembered then.

It keeps its promises over a distance: verbs agree with their subjects past nouns of the other number, pronouns with
the person named last in the paragraph (names in -na are women's, in -ro men's), possessives with their subjects, and
quotation marks close. Names of people and islands are put together from syllables: they are what keeps the stories
from becoming predictable, at little cost in words to learn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple


class State(NamedTuple):
    """What the automaton remembers between two strings."""

    place: str
    """Part of the sentence that comes next: a key of RULES."""
    person: str = ""
    """`he` or `she`: whom the paragraph named last."""
    subject: str = ""
    """Pronoun for the subject of the clause; it decides verb form and possessive."""
    quoted: bool = False
    """A quotation is open."""
    number: str = ""
    """`one` or `many` where the determiner just written asks for it."""


Options = list[tuple[str, float, State]]
START = State("sentence")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


SYLLABLES = [consonant + vowel for consonant in "bdklmnprstv" for vowel in "aeiou"]
NAME_ENDINGS = {"na": "she", "ro": "he"}
ISLAND_ENDINGS = [syllable for syllable in SYLLABLES if syllable not in NAME_ENDINGS]
# Plurals take -s, and none begins with a vowel, so that "a" fits.
BEINGS = _words("gull goat seal dog crab parrot")
THINGS = _words("boat net sail rope lamp kite")
FOODS = _words("bread soup fish honey rice")
PLACES = _words("port garden village mill bay barn")
PREPOSITIONS = ["near", "in", "by", "behind"]
MOODS = _words("tired happy cold proud late quiet")
QUALITIES = _words("young brave little red")
ADVERBS = ["At dawn", "At noon", "By night", "In winter"]

# (with he, she or it; with the others; what follows)
VERBS = (
    ("mends", "mend", "thing"),
    ("waits", "wait", "where"),
    ("watches", "watch", "being"),
    ("carries", "carry", "thing"),
    ("sleeps", "sleep", "where"),
    ("is", "are", "mood"),
    ("follows", "follow", "being"),
    ("eats", "eat", "food"),
    ("finds", "find", "thing"),
    ("sings", "sing", "where"),
    ("cooks", "cook", "food"),
)
DETERMINERS = (("the", 0.5, ""), ("a", 0.25, "one"), ("two", 0.25, "many"))
POSSESSIVES = {"I": "my", "we": "our", "he": "his", "she": "her", "it": "its", "they": "their"}
SINGULAR = frozenset({"he", "she", "it"})


def _sentence(state: State) -> Options:
    """A sentence begins, outside a quotation."""
    clause = [(text[0].upper() + text[1:], weight, after) for text, weight, after in _clause(state)]
    speech = ('"', 0.2, state._replace(place="speech", quoted=True))
    return [*clause, *_alike(0.1, ADVERBS, state._replace(place="clause")), speech]


def _clause(state: State) -> Options:
    """A clause begins inside a sentence."""
    options = _scaled(0.25, _determiners(state._replace(place="subject")))
    options += _capital_syllables(0.6, state._replace(place="name"))
    if state.person:
        options += [(f"{state.person} ", 0.35, _clause_of(state, state.person))]
    return options


def _name(state: State) -> Options:
    return [(syllable, 1.0, state._replace(place=f"{state.place} ending")) for syllable in SYLLABLES]


def _name_ending(state: State) -> Options:
    return [
        (f"{ending} ", 1.0, _clause_of(state._replace(person=pronoun), pronoun))
        for ending, pronoun in NAME_ENDINGS.items()
    ]


def _speaker(state: State) -> Options:
    return _capital_syllables(1.0, state._replace(place="speaker name"))


def _speaker_ending(state: State) -> Options:
    return [
        (ending + stop, share, State("sentence", person))
        for ending, pronoun in NAME_ENDINGS.items()
        for stop, share, person in ((". ", 0.7, pronoun), (".\n", 0.3, ""))
    ]


def _speech(state: State) -> Options:
    """A sentence begins inside a quotation."""
    return [("I ", 0.5, _clause_of(state, "I")), ("We ", 0.5, _clause_of(state, "we"))]


def _subject(state: State) -> Options:
    """The noun of a subject after its determiner."""
    return _qualities(state, "plain subject") + _scaled(0.75, _plain_subject(state))


def _plain_subject(state: State) -> Options:
    options: Options = []
    for noun in BEINGS:
        if state.number != "many":
            options += [(f"{noun} ", 1.0, _clause_of(state, "it", "predicate"))]
        if state.number != "one":
            options += [(f"{noun}s ", 1.0, _clause_of(state, "they", "predicate"))]
    return options


def _predicate(state: State) -> Options:
    """A verb, or first a phrase that parts it from its subject."""
    parting: Options = [
        ("from ", 0.3, state._replace(place="origin")),
        ("with the ", 0.15, state._replace(place="with")),
    ]
    return parting + _scaled(0.55, _verb(state))


def _origin(state: State) -> Options:
    return _capital_syllables(1.0, state._replace(place="origin name"))


def _origin_name(state: State) -> Options:
    return _alike(1.0, SYLLABLES, state._replace(place="verb"))


def _with(state: State) -> Options:
    return _alike(1.0, (noun + suffix for noun in THINGS for suffix in ("", "s")), state._replace(place="verb"))


def _verb(state: State) -> Options:
    options: Options = []
    for third_person, plain, after in VERBS:
        verb = third_person if state.subject in SINGULAR else plain
        verb = "am" if (verb, state.subject) == ("are", "I") else verb
        options.append((f"{verb} ", 2.0 if after == "where" else 1.0, state._replace(place=after)))
    return options


def _thing(state: State) -> Options:
    """The determiner of an object; so for a being."""
    after = state._replace(place=f"some {state.place}")
    return [*_scaled(0.7, _determiners(after)), (f"{POSSESSIVES[state.subject]} ", 0.3, after)]


def _some_thing(state: State) -> Options:
    return _qualities(state, "plain thing") + _scaled(0.75, _plain_thing(state))


def _plain_thing(state: State) -> Options:
    return _object(THINGS, state)


def _some_being(state: State) -> Options:
    return _qualities(state, "plain being") + _scaled(0.75, _plain_being(state))


def _plain_being(state: State) -> Options:
    return _object(BEINGS, state)


def _object(nouns: Iterable[str], state: State) -> Options:
    suffixes = {"one": [""], "many": ["s"]}.get(state.number, ["", "s"])
    return _last_words([noun + suffix for noun in nouns for suffix in suffixes], state)


def _food(state: State) -> Options:
    return _last_words(FOODS, state)


def _where(state: State) -> Options:
    return _alike(1.0, PREPOSITIONS, state._replace(place="site"))


def _site(state: State) -> Options:
    """An island by name, or a place with an article."""
    return [*_capital_syllables(0.9, state._replace(place="island")), ("the ", 0.1, state._replace(place="scene"))]


def _island(state: State) -> Options:
    return [(syllable, 1.0, state._replace(place="island name")) for syllable in SYLLABLES]


def _island_name(state: State) -> Options:
    return _last_words(ISLAND_ENDINGS, state)


def _scene(state: State) -> Options:
    return _last_words(PLACES, state)


def _mood(state: State) -> Options:
    return _last_words(MOODS, state)


def _last_words(words: Iterable[str], state: State) -> Options:
    """Each word together with what may end or go on after it; "boat" alone would be a prefix of "boats"."""
    endings = _endings(state._replace(number=""))
    return [(word + ending, share, after) for word in words for ending, share, after in endings]


def _endings(state: State) -> Options:
    going_on: Options = [
        (" and ", 0.12, state._replace(place="verb")),
        (f", but {state.subject} ", 0.1, state._replace(place="verb")),
    ]
    if state.quoted:
        outside = state._replace(place="speaker", subject="", quoted=False)
        return [
            *going_on,
            ('," says ', 0.4, outside),
            ('!" cries ', 0.2, outside),
        ]
    return [
        *going_on,
        (" while ", 0.08, state._replace(place="clause", subject="")),
        (". ", 0.5, State("sentence", state.person)),
        (".\n", 0.2, START),
    ]


def _clause_of(state: State, subject: str, place: str = "verb") -> State:
    return state._replace(place=place, subject=subject, number="")


def _determiners(after: State) -> Options:
    return [(f"{word} ", weight, after._replace(number=number)) for word, weight, number in DETERMINERS]


def _qualities(state: State, place: str) -> Options:
    return _alike(0.25, QUALITIES, state._replace(place=place))


def _capital_syllables(share: float, after: State) -> Options:
    return _scaled(share, [(syllable.capitalize(), 1.0, after) for syllable in SYLLABLES])


def _alike(share: float, words: Iterable[str], after: State) -> Options:
    return _scaled(share, [(f"{word} ", 1.0, after) for word in words])


def _scaled(share: float, options: Options) -> Options:
    """The options with weights that sum to `share`."""
    total = sum(weight for _, weight, _ in options)
    return [(text, share * weight / total, after) for text, weight, after in options]


RULES: Mapping[str, Callable[[State], Options]] = {
    "sentence": _sentence,
    "clause": _clause,
    "name": _name,
    "name ending": _name_ending,
    "speaker": _speaker,
    "speaker name": _name,
    "speaker name ending": _speaker_ending,
    "speech": _speech,
    "subject": _subject,
    "plain subject": _plain_subject,
    "predicate": _predicate,
    "origin": _origin,
    "origin name": _origin_name,
    "with": _with,
    "verb": _verb,
    "thing": _thing,
    "some thing": _some_thing,
    "plain thing": _plain_thing,
    "being": _thing,
    "some being": _some_being,
    "plain being": _plain_being,
    "food": _food,
    "where": _where,
    "site": _site,
    "island": _island,
    "island name": _island_name,
    "scene": _scene,
    "mood": _mood,
}
