"""The cheap rivals that every score is held against, trained on the same split: a bag of n-grams, and a count model.

On IMDb's 25,000 + 25,000 reviews the first gives 91.0 % in 13 to 25 s on two cores. On the last tenth of *The
Mysterious Island*, given its first 85 %, the second (order 6) gives 1.73 bits per character in 3 s, or 1.81 without
learning from what it has already scored.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unroll.errors import DataError
from unroll.evaluation.intervals import FloatArray, IntArray

logger = logging.getLogger(__name__)

BoolArray = NDArray[np.bool_]

MOST_FEATURES = 300_000
"""Words and word pairs kept, those of most texts first; chosen on 5,000 held-out training reviews of IMDb."""
INVERSE_REGULARISATION = 10.0
"""scikit-learn's C; chosen on the same reviews (1: 89.4 %, 3: 90.2, 10: 90.8, 30: 90.9)."""
MOST_TRAINING_TEXTS = 100_000
"""A larger training split is sampled down to this, for the rival is to be cheap."""
TEXTS_AT_ONCE = 10_000

MOST_TRAINING_CHARACTERS = 8_000_000
"""Of a longer training text the count model reads the end."""
LEAST_DISCOUNT = 0.05
START_OF_TEXT = 0


def tfidf_rival(
    train_texts: Sequence[str], train_labels: ArrayLike, test_texts: Sequence[str], num_classes: int, seed: int = 1
) -> FloatArray:
    """Class probabilities of the test texts by TF-IDF and logistic regression, blind to word order beyond pairs.

    train_labels: (N,) integers below `num_classes`. Returns (M, num_classes); a class without a training text gets 0.
    Words and word pairs are hashed to 2^22 features (two that collide share a weight), those of two texts or more are
    kept, counts are damped to 1 + ln(count). `seed` picks the texts where there are over `MOST_TRAINING_TEXTS`.
    Raises DataError: no texts, or labels that do not fit them.
    """
    labels = np.asarray(train_labels, dtype=np.int64)
    _check_labels(labels, len(train_texts), num_classes)
    if len(labels) > MOST_TRAINING_TEXTS:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(labels))[:MOST_TRAINING_TEXTS])
        logger.info("The rival is trained on %d of %d texts.", len(chosen), len(labels))
        labels, train_texts = labels[chosen], [train_texts[int(index)] for index in chosen]

    present = np.unique(labels)
    probs = np.zeros((len(test_texts), num_classes))
    # with one class, or no word at all, there is nothing to weigh: the classes' shares are the best guess
    probs[:, present] = np.bincount(labels)[present] / len(labels)
    if len(present) > 1:
        for rows, predicted in _fit_and_weigh(train_texts, labels, test_texts, seed):
            probs[rows, present[:, None]] = predicted.T
    return probs


def _check_labels(labels: IntArray, num_texts: int, num_classes: int) -> None:
    if labels.shape != (num_texts,) or num_texts == 0:
        raise DataError(
            f"The rival got {num_texts:,} training texts and labels of shape {labels.shape}; expected one label each."
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DataError(
            f"The rival's labels run from {labels.min()} to {labels.max()}; expected 0 to {num_classes - 1}."
        )


def _fit_and_weigh(
    train_texts: Sequence[str], labels: IntArray, test_texts: Sequence[str], seed: int
) -> Iterator[tuple[IntArray, Any]]:
    """Rows of the test split and the probabilities of the classes present, a part at a time; nothing without words."""
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
    from sklearn.linear_model import LogisticRegression

    hasher = HashingVectorizer(
        ngram_range=(1, 2),
        token_pattern=r"(?u)\b\w+\b",  # single letters too: "I" and the 7 of "7/10" speak
        n_features=2**22,
        alternate_sign=False,
        norm=None,
        dtype=np.float32,
    )
    counts = hasher.transform(train_texts)
    num_texts_with = np.bincount(counts.indices, minlength=counts.shape[1])
    kept = np.argsort(-num_texts_with, kind="stable")[:MOST_FEATURES]
    kept = np.sort(kept[num_texts_with[kept] >= min(2, len(train_texts))])
    if len(kept) == 0:
        logger.info("No word stands in two of the rival's training texts: it guesses by the classes' shares.")
        return
    weighting = TfidfTransformer(sublinear_tf=True)
    features = weighting.fit_transform(counts[:, kept])
    model = LogisticRegression(C=INVERSE_REGULARISATION, max_iter=200, random_state=seed).fit(features, labels)
    for first in range(0, len(test_texts), TEXTS_AT_ONCE):
        rows = np.arange(first, min(first + TEXTS_AT_ONCE, len(test_texts)))
        part = hasher.transform(test_texts[first : first + TEXTS_AT_ONCE])[:, kept]
        yield rows, model.predict_proba(weighting.transform(part))


def ngram_rival(
    train_ids: ArrayLike, test_ids: ArrayLike, vocab_size: int, order: int = 6, adaptive: bool = True
) -> FloatArray:
    """Nats for each test character by interpolated modified Kneser-Ney counts of up to `order` preceding characters.

    train_ids: (N,), test_ids: (M,), integers below `vocab_size`. Returns (M,). Chen and Goodman 1999, section 3:
    each order discounts its counts by what it learnt from its counts of counts, and gives the freed mass to the order
    below, down to the uniform distribution; the lower orders count in how many contexts a character was new, not how
    often it came (in compression: PPM with update exclusion). With `adaptive`, as in PPM, a scored test character is
    counted before the next one is scored; without, the counts are the training text's, as a frozen network's are.
    Raises DataError: an empty text, ids outside the vocabulary, an order below 0.
    """
    if order < 0:
        raise DataError(f"The count model's order is {order}; expected 0 characters of context or more.")
    read_ids = np.asarray(train_ids)[-MOST_TRAINING_CHARACTERS:]  # of a mapped file the rest is not even read
    if len(read_ids) < np.size(train_ids):
        logger.info("The rival counts the last %d of %d characters.", len(read_ids), np.size(train_ids))
    train, test = _check_ids("train_ids", read_ids, vocab_size), _check_ids("test_ids", test_ids, vocab_size)
    ids, num_train = np.concatenate([train, test]), len(train)
    counted = np.arange(len(ids)) < (len(ids) if adaptive else num_train)

    probs = np.full(len(test), 1.0 / vocab_size)
    contexts = np.full(len(ids), START_OF_TEXT, dtype=np.int64)
    for context_length in range(order + 1):
        pairs = _Groups.of(contexts * vocab_size + ids)
        longer = _longer_contexts(pairs, num_train)
        updates = counted
        if context_length < order:
            updates = counted & _Groups.of(longer * vocab_size + ids).first_members()
        probs = _interpolate(_Groups.of(contexts), pairs, updates, num_train, probs)
        contexts = longer
    return np.asarray(-np.log(probs))


def _check_ids(name: str, ids: ArrayLike, vocab_size: int) -> IntArray:
    array = np.asarray(ids)
    if array.ndim != 1 or array.size == 0 or not np.issubdtype(array.dtype, np.integer):
        raise DataError(f"{name} is {array.dtype} of shape {array.shape}; expected a row of one or more whole numbers.")
    if array.min() < 0 or array.max() >= vocab_size:
        raise DataError(f"{name} run from {array.min()} to {array.max()}; expected 0 to {vocab_size - 1}.")
    return array.astype(np.int64)


@dataclass(frozen=True)
class _Groups:
    """Positions of a text sorted by group and, within a group, by place; starts: whether a group begins there."""

    positions: IntArray
    starts: BoolArray

    @classmethod
    def of(cls, keys: IntArray) -> _Groups:
        positions = np.argsort(keys, kind="stable")
        in_order = keys[positions]
        return cls(positions, np.concatenate([[True], in_order[1:] != in_order[:-1]]))

    def numbers(self) -> IntArray:
        """(N,) the group of each position, counted from 0."""
        numbers = np.empty(len(self.positions), dtype=np.int64)
        numbers[self.positions] = np.cumsum(self.starts) - 1
        return numbers

    def first_members(self) -> BoolArray:
        """(N,) whether no earlier position is of the same group."""
        first = np.empty(len(self.positions), dtype=np.bool_)
        first[self.positions] = self.starts
        return first

    def sums_before(self, values: NDArray[Any]) -> NDArray[Any]:
        """(N,) sum of `values` over the earlier positions of the same group: what a model knows on arriving there."""
        in_order = values[self.positions]
        running = np.cumsum(in_order) - in_order
        at_start = np.flatnonzero(self.starts)
        running -= np.repeat(running[at_start], np.diff(at_start, append=len(running)))
        sums: NDArray[Any] = np.empty_like(running)
        sums[self.positions] = running
        return sums


def _longer_contexts(pairs: _Groups, num_train: int) -> IntArray:
    """A position's context, one character longer, is the pair (context, character) just before it."""
    longer = np.roll(pairs.numbers() + START_OF_TEXT + 1, 1)
    # the test text does not follow on the training text: the validation part lies between
    longer[[0, num_train]] = START_OF_TEXT
    return longer


def _interpolate(
    contexts: _Groups, pairs: _Groups, updates: BoolArray, num_train: int, lower_probs: FloatArray
) -> FloatArray:
    """One order of the recursion, for the test characters: discounted counts, and the rest by the order below.

    updates: (N,) whether this order counts the position. What the discounts take from a context's characters is just
    what the lower order gets, so that probabilities sum to one.
    """
    count = pairs.sums_before(updates.astype(np.int64))
    discounts = _discounts(count[:num_train][updates[:num_train]])
    taken = discounts[np.minimum(count, 3)]
    own = (count - taken)[num_train:].copy()  # copies, for a view would keep the training text's part in memory
    taken_more = np.where(updates, discounts[np.minimum(count + 1, 3)] - taken, 0.0)
    del count, taken
    freed = contexts.sums_before(taken_more)[num_train:].copy()
    del taken_more
    total = contexts.sums_before(updates.astype(np.int64))[num_train:].copy()
    probs: FloatArray = np.where(total > 0, (own + freed * lower_probs) / np.maximum(total, 1), lower_probs)
    return probs


def _discounts(counts_before: IntArray) -> FloatArray:
    """What is taken from a count of 0, 1, 2, 3 or more: Chen and Goodman 1999, equation 17, kept within bounds.

    counts_before: the count that each training event found; every pair counted n times shows 0, 1 ... n - 1 once.
    """
    reached = np.bincount(np.minimum(counts_before, 5), minlength=6).astype(np.float64)
    once, twice, thrice, four_times = np.maximum(reached[:4] - reached[1:5], 1.0)
    shrink = once / (once + 2 * twice)
    raw = [0.0, 1 - 2 * shrink * twice / once, 2 - 3 * shrink * thrice / twice, 3 - 4 * shrink * four_times / thrice]
    least, most = LEAST_DISCOUNT, 1 - LEAST_DISCOUNT
    bounded: FloatArray = np.clip(raw, [0.0, least, least, least], [0.0, most, 2 * most, 3 * most])
    return bounded
