"""The made reviews are balanced, readable, the same everywhere, and cannot be told by counting words."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unroll.data.sample import CLASS_NAMES, Review, iter_reviews
from unroll.data.sample_reviews import DENIABLE, FILLERS, ORDERED, VERDICTS, WORDS, Pattern
from unroll.errors import DataError

# Pinned: a change here changes every sample run there is.
DIGEST_OF_100_REVIEWS_SEED_7 = "4b50811637966503aaf94c844117ae2edafa51b647e1f36e68e9593e3896e5f0"


def make_reviews(num_reviews: int, seed: int, chunk_size: int = 1000) -> list[Review]:
    return [review for chunk in iter_reviews(num_reviews, seed, chunk_size) for review in chunk]


@pytest.fixture(scope="module")
def reviews() -> list[Review]:
    return make_reviews(6000, seed=1)


def split_tokens(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text)


@given(num_reviews=st.integers(0, 100), seed=st.integers(0, 2**31 - 1), chunk_size=st.integers(1, 120))
@settings(deadline=None, max_examples=30)
def test_chunks_only_group_the_reviews(num_reviews: int, seed: int, chunk_size: int) -> None:
    chunks = list(iter_reviews(num_reviews, seed, chunk_size))
    assert [len(chunk) for chunk in chunks[:-1]] == [chunk_size] * (len(chunks) - 1)
    assert all(1 <= len(chunk) <= chunk_size for chunk in chunks)
    whole = make_reviews(100, seed)
    assert [review for chunk in chunks for review in chunk] == whole[:num_reviews]


def test_the_same_seed_gives_the_same_bytes_on_any_machine() -> None:
    lines = "".join(f"{label}\t{kind}\t{text}\n" for text, label, kind in make_reviews(100, seed=7))
    assert hashlib.sha256(lines.encode()).hexdigest() == DIGEST_OF_100_REVIEWS_SEED_7


def test_another_seed_gives_other_reviews() -> None:
    texts = {review.text for review in make_reviews(500, seed=1)}
    assert not texts & {review.text for review in make_reviews(500, seed=2)}


def test_classes_are_balanced_and_labels_index_class_names(reviews: list[Review]) -> None:
    assert Counter(review.label for review in reviews) == {0: 3000, 1: 3000}
    assert CLASS_NAMES == ("negative", "positive")


def test_every_kind_occurs_with_both_labels(reviews: list[Review]) -> None:
    counts = Counter((review.kind, review.label) for review in reviews)
    kinds = {pattern.kind for pattern in (*ORDERED, *DENIABLE)} | {"plain"}
    assert {kind for kind, _ in counts} == kinds
    assert min(counts[kind, label] for kind in kinds for label in (0, 1)) >= 100


def test_reviews_have_about_20_to_60_words_and_hardly_repeat(reviews: list[Review]) -> None:
    lengths = [len(review.text.split()) for review in reviews]
    assert min(lengths) >= 20
    assert max(lengths) <= 60
    assert len({review.text for review in reviews}) > 0.99 * len(reviews)


def test_no_slot_is_left_open_and_no_gap_is_left_marked(reviews: list[Review]) -> None:
    assert not [review.text for review in reviews if set(review.text) & set("{}|")]


def test_vocabulary_is_a_few_hundred_words(reviews: list[Review]) -> None:
    words = {token.lower() for review in reviews for token in split_tokens(review.text)}
    assert 200 < len(words) < 400


def test_verdicts_stand_in_no_filler() -> None:
    fillers = split_tokens(" ".join(FILLERS).lower()) + [word for words in WORDS.values() for word in words]
    assert not {word for verdicts in VERDICTS for word in verdicts} & set(fillers)


@pytest.mark.parametrize("pattern", ORDERED, ids=lambda pattern: pattern.kind)
def test_exchanging_the_verdicts_keeps_every_count_of_words_and_word_pairs(pattern: Pattern) -> None:
    shared = {"reviewed": "new", "other": "old", "person1": "aunt", "person2": "uncle"}
    good = pattern.text.format(x="superb", y="weak", winner="new", loser="old", **shared)
    bad = pattern.text.format(x="weak", y="superb", winner="old", loser="new", **shared)
    assert good != bad
    good_tokens, bad_tokens = split_tokens(good), split_tokens(bad)
    assert Counter(good_tokens) == Counter(bad_tokens)
    assert Counter(pairwise(good_tokens)) == Counter(pairwise(bad_tokens))


@pytest.mark.parametrize("pattern", DENIABLE, ids=lambda pattern: pattern.kind)
def test_a_cue_of_denial_never_stands_next_to_the_verdict(pattern: Pattern) -> None:
    plain, denied = (split_tokens(text.replace("{x}", "X")) for text in (pattern.text, pattern.denied))
    around = [{pair for pair in pairwise(tokens) if "X" in pair} for tokens in (plain, denied)]
    assert around[0] == around[1]
    assert plain != denied


@pytest.mark.parametrize("ngram_range", [(1, 1), (1, 2)])
def test_counting_words_and_word_pairs_stays_far_below_the_optimum(
    reviews: list[Review], ngram_range: tuple[int, int]
) -> None:
    text_features = pytest.importorskip("sklearn.feature_extraction.text")
    linear_model = pytest.importorskip("sklearn.linear_model")
    texts, labels = [review.text for review in reviews], [review.label for review in reviews]
    vectorizer = text_features.TfidfVectorizer(ngram_range=ngram_range, sublinear_tf=True, min_df=2)
    classifier = linear_model.LogisticRegression(max_iter=500)
    classifier.fit(vectorizer.fit_transform(texts[:5000]), labels[:5000])
    accuracy = classifier.score(vectorizer.transform(texts[5000:]), labels[5000:])
    assert 0.55 < accuracy < 0.72


@pytest.mark.parametrize(("num_reviews", "chunk_size"), [(-1, 10), (10, 0)])
def test_impossible_sizes_are_named(num_reviews: int, chunk_size: int) -> None:
    with pytest.raises(DataError, match=f"num_reviews={num_reviews} and chunk_size={chunk_size}"):
        list(iter_reviews(num_reviews, 1, chunk_size))
