"""The grammar of the made stories: which strings may come next, how likely each is, and what is remembered then.

It keeps its promises over a distance: verbs agree with their subjects past nouns of the other number, pronouns with
the person named last in the paragraph, possessives with their subjects, and quotation marks close.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
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

PEOPLE = dict(
    zip(
        "Mara Tobin Ilse Hugo Nell Oskar Runa Pim Vera Bruno Lotte Kasper".split(),
        ("she", "he") * 6,
        strict=True,
    )
)
# (noun, pronoun for one); plurals take -s, and none begins with a vowel, so that "a" fits
BEINGS = (
    ("sailor", "he"),
    ("gull", "it"),
    ("captain", "she"),
    ("goat", "it"),
    ("pilot", "he"),
    ("seal", "it"),
    ("weaver", "she"),
    ("dog", "it"),
    ("miller", "he"),
    ("crab", "it"),
    ("cook", "she"),
    ("hen", "it"),
)
THINGS = "boat net sail rope drum lamp pot flag chair bell cup map kite jar hook sack coat belt spade crate".split()
FOODS = "bread soup fish honey rice cheese cake jam corn meat".split()
PLACES = "port hut garden village wood river mill field cave market bay tower dune lake hill barn".split()
MOODS = "tired happy glad sad cold warm calm proud busy merry late quiet lost kind shy".split()
QUALITIES = "young brave little noisy lazy tall good red heavy blue new".split()
ADVERBS = "At dawn, At noon, By night, In winter, All day, Now, Once more, Then".split(", ")

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
    ("paints", "paint", "thing"),
    ("sings", "sing", "where"),
    ("cooks", "cook", "food"),
    ("finds", "find", "thing"),
    ("calls", "call", "being"),
    ("dances", "dance", "where"),
    ("hides", "hide", "thing"),
    ("feels", "feel", "mood"),
    ("greets", "greet", "being"),
    ("works", "work", "where"),
    ("tastes", "taste", "food"),
    ("sells", "sell", "thing"),
    ("buys", "buy", "thing"),
    ("needs", "need", "thing"),
    ("likes", "like", "being"),
    ("rests", "rest", "where"),
)
DETERMINERS = (
    ("the", 0.35, ""),
    ("a", 0.2, "one"),
    ("this", 0.1, "one"),
    ("some", 0.1, "many"),
    ("two", 0.1, "many"),
    ("three", 0.1, "many"),
    ("no", 0.05, "one"),
)
POSSESSIVES = {"I": "my", "we": "our", "he": "his", "she": "her", "it": "its", "they": "their"}
SINGULAR = frozenset({"he", "she", "it"})


def _sentence(state: State) -> Options:
    """A sentence begins, outside a quotation."""
    options = [(text[0].upper() + text[1:], weight, after) for text, weight, after in _clause(state)]
    options += [(f"{adverb} ", 0.02, state._replace(place="clause")) for adverb in ADVERBS]
    return [*options, ('"', 0.2, state._replace(place="speech", quoted=True))]


def _clause(state: State) -> Options:
    """A clause begins inside a sentence."""
    options = _scaled(0.3, _determiners(state._replace(place="subject")))
    options += [
        (f"{name} ", 0.4 * weight, _clause_of(state._replace(person=pronoun), pronoun))
        for (name, pronoun), weight in zip(PEOPLE.items(), _weights(PEOPLE), strict=True)
    ]
    if state.person:
        options += [(f"{state.person} ", 0.4, _clause_of(state, state.person))]
    return options


def _speech(state: State) -> Options:
    """A sentence begins inside a quotation."""
    return [
        ("I ", 0.4, _clause_of(state, "I")),
        ("We ", 0.3, _clause_of(state, "we")),
        ("The ", 0.3, state._replace(place="subject")),
    ]


def _subject(state: State) -> Options:
    """The noun of a subject after its determiner."""
    return _scaled(0.25, _qualities(state, "plain subject")) + _scaled(0.75, _plain_subject(state))


def _plain_subject(state: State) -> Options:
    options: Options = []
    for (noun, pronoun), weight in zip(BEINGS, _weights(BEINGS), strict=True):
        if state.number != "many":
            options += [(f"{noun} ", weight, _clause_of(state, pronoun, "predicate"))]
        if state.number != "one":
            options += [(f"{noun}s ", weight, _clause_of(state, "they", "predicate"))]
    return options


def _predicate(state: State) -> Options:
    """A verb, or first a phrase that parts it from its subject."""
    parting: Options = [
        ("near the ", 0.2, state._replace(place="near")),
        ("with ", 0.2, state._replace(place="with")),
    ]
    return parting + _scaled(0.6, _verb(state))


def _near(state: State) -> Options:
    return [(f"{place} ", weight, state._replace(place="verb")) for place, weight in _weighted(PLACES)]


def _with(state: State) -> Options:
    after = state._replace(place="verb")
    return [
        (f"{text} ", weight * share, after)
        for noun, weight in _weighted(THINGS)
        for text, share in ((f"a {noun}", 0.5), (f"two {noun}s", 0.5))
    ]


def _verb(state: State) -> Options:
    options: Options = []
    for (third_person, plain, after), weight in zip(VERBS, _weights(VERBS), strict=True):
        verb = third_person if state.subject in SINGULAR else plain
        verb = "am" if (verb, state.subject) == ("are", "I") else verb
        options.append((f"{verb} ", weight, state._replace(place=f"{after} phrase" if after in PHRASES else after)))
    return options


def _phrase(state: State) -> Options:
    """The determiner of an object."""
    after = state._replace(place=state.place.removesuffix(" phrase"))
    return [*_scaled(0.7, _determiners(after)), (f"{POSSESSIVES[state.subject]} ", 0.3, after)]


def _determiners(after: State) -> Options:
    return [(f"{word} ", weight, after._replace(number=number)) for word, weight, number in DETERMINERS]


def _thing(state: State) -> Options:
    return _scaled(0.25, _qualities(state, "plain thing")) + _scaled(0.75, _plain_thing(state))


def _plain_thing(state: State) -> Options:
    return _object(THINGS, state)


def _being(state: State) -> Options:
    return _scaled(0.25, _qualities(state, "plain being")) + _scaled(0.75, _plain_being(state))


def _plain_being(state: State) -> Options:
    return _object([noun for noun, _ in BEINGS], state)


def _object(nouns: Sequence[str], state: State) -> Options:
    suffixes = {"one": ("",), "many": ("s",)}.get(state.number, ("", "s"))
    return [option for suffix in suffixes for option in _last_words([noun + suffix for noun in nouns], state)]


def _qualities(state: State, place: str) -> Options:
    return [(f"{word} ", weight, state._replace(place=place)) for word, weight in _weighted(QUALITIES)]


def _food(state: State) -> Options:
    amounts = {"the": 0.4, "some": 0.3, "no": 0.15, "more": 0.15}
    return [(f"{word} ", share, state._replace(place="meal")) for word, share in amounts.items()]


def _meal(state: State) -> Options:
    return _last_words(FOODS, state)


def _where(state: State) -> Options:
    prepositions = {"near": 0.3, "in": 0.3, "behind": 0.2, "by": 0.2}
    return [
        (f"{word} {article} ", share / 2, state._replace(place="scene"))
        for word, share in prepositions.items()
        for article in ("the", "a")
    ]


def _scene(state: State) -> Options:
    return _last_words(PLACES, state)


def _mood(state: State) -> Options:
    return _last_words(MOODS, state)


def _last_words(words: Sequence[str], state: State) -> Options:
    """Each word together with what may end or go on after it; "boat" alone would be a prefix of "boats"."""
    return [
        (word + ending, weight * share, after)
        for word, weight in _weighted(words)
        for ending, share, after in _endings(state._replace(number=""))
    ]


def _endings(state: State) -> Options:
    going_on: Options = [
        (" and ", 0.12, state._replace(place="verb")),
        (f", but {state.subject} ", 0.1, state._replace(place="verb")),
    ]
    if state.quoted:
        return [
            *going_on,
            (". ", 0.15, state._replace(place="speech", subject="")),
            ('," says ', 0.4, state._replace(place="speaker", subject="", quoted=False)),
            ('!" cries ', 0.2, state._replace(place="speaker", subject="", quoted=False)),
        ]
    return [
        *going_on,
        (" while ", 0.08, state._replace(place="clause", subject="")),
        (". ", 0.5, State("sentence", state.person)),
        (".\n", 0.2, START),
    ]


def _speaker(state: State) -> Options:
    return [
        (name + ending, weight * share, State("sentence", person))
        for (name, pronoun), weight in zip(PEOPLE.items(), _weights(PEOPLE), strict=True)
        for ending, share, person in ((". ", 0.7, pronoun), (".\n", 0.3, ""))
    ]


def _clause_of(state: State, subject: str, place: str = "verb") -> State:
    return state._replace(place=place, subject=subject, number="")


def _scaled(share: float, options: Options) -> Options:
    """The options with `share` of the mass, whatever their weights summed to."""
    total = sum(weight for _, weight, _ in options)
    return [(text, share * weight / total, after) for text, weight, after in options]


def _weighted(words: Sequence[str]) -> list[tuple[str, float]]:
    return list(zip(words, _weights(words), strict=True))


def _weights(words: Sized) -> list[float]:
    """Shares that fall with rank, as those of words do."""
    weights = [1 / (rank + 10) for rank in range(len(words))]
    return [weight / sum(weights) for weight in weights]


PHRASES = ("thing", "being")
RULES: dict[str, Callable[[State], Options]] = {
    "sentence": _sentence,
    "clause": _clause,
    "speech": _speech,
    "subject": _subject,
    "plain subject": _plain_subject,
    "predicate": _predicate,
    "near": _near,
    "with": _with,
    "verb": _verb,
    "thing phrase": _phrase,
    "thing": _thing,
    "plain thing": _plain_thing,
    "being phrase": _phrase,
    "being": _being,
    "plain being": _plain_being,
    "food": _food,
    "meal": _meal,
    "where": _where,
    "scene": _scene,
    "mood": _mood,
    "speaker": _speaker,
}
