"""The made stories cost exactly the bits they say, keep the rules of their grammar, and are the same everywhere."""

from __future__ import annotations

import hashlib
import math
import re
from itertools import pairwise
from time import process_time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unroll.data.sample import Prose, iter_prose, make_prose, next_character_probabilities
from unroll.data.sample_grammar import BEINGS, NAME_ENDINGS, RULES, START, VERBS
from unroll.errors import DataError

# Pinned: a change here changes every sample run there is.
DIGEST_OF_10000_CHARACTERS_SEED_7 = "2f6febd21fad3d7e963881743e730b886f4c62cb8ed3775e4499fb8b25aabfc3"

SINGULAR_VERBS = {verb for verb, _, _ in VERBS}
PLURAL_VERBS = {verb for _, verb, _ in VERBS}
ANY_VERB = "|".join(sorted(SINGULAR_VERBS | PLURAL_VERBS | {"am"}))


@pytest.fixture(scope="module")
def prose() -> Prose:
    return make_prose(300_000, seed=1)


@given(num_characters=st.integers(1, 120), seed=st.integers(0, 2**31 - 1))
@settings(deadline=None, max_examples=15)
def test_bits_are_the_log_probabilities_of_the_characters(num_characters: int, seed: int) -> None:
    prose = make_prose(num_characters, seed)
    for position, character in enumerate(prose.text):
        probs = next_character_probabilities(prose.text[:position])
        assert math.isclose(sum(probs.values()), 1.0, rel_tol=1e-9)
        assert math.isclose(-math.log2(probs[character]), prose.bits[position], abs_tol=1e-5)


def test_probabilities_of_all_prefixes_of_one_length_sum_to_one() -> None:
    def total(prefix: str, length: int) -> float:
        if not length:
            return 1.0
        probs = next_character_probabilities(prefix)
        return sum(prob * total(prefix + character, length - 1) for character, prob in probs.items())

    assert math.isclose(total("", 4), 1.0, rel_tol=1e-9)


def test_strings_of_every_state_are_prefix_free_so_the_code_length_is_exact() -> None:
    states, waiting = {START}, [START]
    while waiting:
        state = waiting.pop()
        options = RULES[state.place](state)
        texts = sorted(text for text, _, _ in options)
        # sorted, a prefix stands right before a string that goes on from it
        assert not [pair for pair in pairwise(texts) if pair[1].startswith(pair[0])], state
        assert min(weight for _, weight, _ in options) > 0
        fresh = {after for _, _, after in options} - states
        states |= fresh
        waiting += fresh
    assert len(states) < 1000


def test_drawn_characters_come_as_often_as_their_stated_probabilities_say() -> None:
    # Mean surprise minus mean entropy is a martingale: zero but for sampling error where the stated bits are true.
    text, surplus = make_prose(2_000, seed=5).text, []
    for position, character in enumerate(text):
        probs = next_character_probabilities(text[:position].rpartition("\n")[2])
        entropy = -sum(prob * math.log2(prob) for prob in probs.values())
        surplus.append(-math.log2(probs[character]) - entropy)
    assert abs(np.mean(surplus)) < 4 * np.std(surplus) / math.sqrt(len(surplus))


def test_entropy_rate_lies_near_one_bit_and_is_the_same_in_every_part(prose: Prose) -> None:
    rates = [part.mean() for part in np.array_split(prose.bits, 10)]
    assert 0.8 < prose.bits.mean() < 1.1
    assert max(rates) - min(rates) < 0.05


def test_code_length_is_below_what_counting_characters_and_pairs_needs(prose: Prose) -> None:
    codes = np.frombuffer(prose.text.encode("ascii"), np.uint8).astype(np.int64)
    counts = np.bincount(codes[:-1] * 128 + codes[1:], minlength=128 * 128).reshape(128, 128)
    conditional = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    pair_bits = -np.log2(conditional[codes[:-1], codes[1:]]).mean()
    assert prose.bits.mean() < 0.6 * pair_bits


@given(num_characters=st.integers(0, 200_000), longer=st.integers(0, 100_000), seed=st.integers(0, 2**31 - 1))
@settings(deadline=None, max_examples=15)
def test_a_longer_story_begins_with_the_shorter_one(num_characters: int, longer: int, seed: int) -> None:
    short, long = make_prose(num_characters, seed), make_prose(num_characters + longer, seed)
    assert len(short.text) == len(short.bits) == num_characters
    assert short.bits.dtype == np.float32
    assert long.text.startswith(short.text)
    assert np.array_equal(long.bits[:num_characters], short.bits)


def test_chunks_make_up_the_whole_story_and_stay_small() -> None:
    chunks, whole = list(iter_prose(300_000, 3)), make_prose(300_000, 3)
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert np.array_equal(np.concatenate([chunk.bits for chunk in chunks]), whole.bits)
    assert max(len(chunk.text) for chunk in chunks) < 100_000


def test_the_same_seed_gives_the_same_bytes_on_any_machine() -> None:
    text = make_prose(10_000, seed=7).text
    assert hashlib.sha256(text.encode()).hexdigest() == DIGEST_OF_10000_CHARACTERS_SEED_7
    assert text != make_prose(10_000, seed=8).text


def test_the_alphabet_is_that_of_plain_english(prose: Prose) -> None:
    assert 30 <= len(set(prose.text)) <= 45
    assert re.fullmatch(r'[A-Za-z ,.!"\n]+', prose.text)


def test_verbs_agree_with_their_subjects_past_nouns_of_the_other_number(prose: Prose) -> None:
    noun = rf"({'|'.join(BEINGS)})(s?)"
    subject = re.compile(rf"\b[Tt]he {noun} (?:from \w+|with the \w+) ({ANY_VERB})\b")
    found = subject.findall(prose.text)
    assert len(found) > 200
    assert {plural for _, plural, _ in found} == {"", "s"}
    assert all(verb in (PLURAL_VERBS if plural else SINGULAR_VERBS) for _, plural, verb in found)


def test_pronouns_and_possessives_agree_with_the_person_named_last(prose: Prose) -> None:
    token = re.compile(rf"\b[A-Z][a-z]{{3}}({'|'.join(NAME_ENDINGS)})\b|\b(He|She|he|she)\b")
    num_pronouns = 0
    for paragraph in prose.text.split("\n"):
        person = ""
        for ending, pronoun in token.findall(paragraph):
            num_pronouns += bool(pronoun)
            assert not pronoun or pronoun.lower() == person, paragraph
            person = NAME_ENDINGS[ending] if ending else person
    assert num_pronouns > 1000


def test_every_quotation_is_closed_within_its_paragraph(prose: Prose) -> None:
    paragraphs = prose.text.split("\n")[:-1]
    assert sum(paragraph.count('"') for paragraph in paragraphs) > 500
    assert all(paragraph.count('"') % 2 == 0 for paragraph in paragraphs)


def test_half_a_million_characters_take_less_than_two_seconds() -> None:
    make_prose(1, seed=1)
    started = process_time()
    make_prose(500_000, seed=1)
    assert process_time() - started < 2.0


def test_text_that_no_story_holds_is_refused_with_its_place() -> None:
    with pytest.raises(DataError, match=r"'#' after 'The ' \(character 4\)"):
        next_character_probabilities("The #")


def test_a_negative_length_is_refused() -> None:
    with pytest.raises(DataError, match="num_characters=-1"):
        iter_prose(-1, seed=1)
