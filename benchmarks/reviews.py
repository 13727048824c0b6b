"""Reviews of a split, as texts and as part of an encoded split."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.corpora import Corpus
from unroll.data.corpora import ReviewCorpus
from unroll.data.encoded import EncodedSplit


def read_reviews(corpus: Corpus, split: str) -> tuple[list[str], list[int]]:
    """Texts and labels of a split (train, validation, test), in the order of its encoding."""
    encoded = corpus.open_encoded().split(split)
    assert encoded.rows is not None
    assert encoded.labels is not None
    reviews = ReviewCorpus.open(corpus.folder)
    source = "test" if split == "test" and reviews.has_test else "train"
    texts = [text for chunk in reviews.iter_texts(source, encoded.rows) for text in chunk]
    return texts, [int(label) for label in encoded.labels]


def subset(split: EncodedSplit, items: NDArray[np.int64]) -> EncodedSplit:
    """Some items of a split, copied out of its file."""
    assert split.rows is not None
    assert split.labels is not None
    tokens = np.concatenate([np.asarray(split.item(int(item))) for item in items])
    offsets = np.concatenate([[0], np.cumsum(split.lengths[items])]).astype(np.int64)
    return EncodedSplit(tokens, offsets, split.labels[items], split.rows[items])
