"""From reviews to tokens: the chapter's tokeniser against ours, which also counts, looks up and writes ids."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks.chapter.tokenizer import tokenize
from benchmarks.corpora import book_corpus
from benchmarks.measure import WARM_UP, Bout, Contestant, timed
from benchmarks.plan import Plan, Row
from benchmarks.ratios import Promise
from unroll.config import WordEncodingConfig
from unroll.data.corpora import ReviewCorpus
from unroll.data.encoded import EncodedCorpus, encode_reviews
from unroll.data.text import tokenize_book
from unroll.processes import usable_cores
from unroll.stages import mirror_folder

MOST_REVIEWS = 75_000
WARM_UP_REVIEWS = 100
BOOK = WordEncodingConfig(tokenizer="book", vocab_size=None, max_length=None)


def make_row(plan: Plan) -> Row:
    """The chapter's tokeniser, ours alone, and our whole encoding."""
    corpus = book_corpus("sentiment", plan, encoded=False)
    texts = read_texts(ReviewCorpus.open(corpus.folder), plan)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    folder = plan.folder / "preparation"
    return Row(
        unit="MB/s",
        data=f"{corpus.description}: {len(texts):,} reviews, {megabytes:.1f} MB of UTF-8",
        contestants=(
            Contestant("chapter", "its tokeniser: a list of tokens of each review", _bouts(texts, _tokenize)),
            Contestant("unroll, tokens", "tokenize_book: the same lists, one process", _bouts(texts, _tokenize_ours)),
            Contestant(
                "unroll, ids on disk",
                f"encode_reviews: vocabulary, ids, files; every text tokenised once, {usable_cores()} threads",
                _bouts(texts, lambda some: encode(some, folder)),
            ),
        ),
        promises=(
            Promise("unroll, tokens, over the chapter's way", "unroll, tokens", "chapter"),
            Promise("unroll, ids on disk, over the chapter's way", "unroll, ids on disk", "chapter", at_least=5),
        ),
        rounds=plan.num_rounds(3),
        checks=lambda: compare_tokens(texts, folder),
    )


def read_texts(corpus: ReviewCorpus, plan: Plan) -> list[str]:
    """The corpus's own two splits; of IMDb as many of the unlabelled reviews as make MOST_REVIEWS."""
    splits = ["train", "test"] if corpus.has_test else ["train"]
    texts = list(chain.from_iterable(chain.from_iterable(corpus.iter_texts(split) for split in splits)))
    mirror = mirror_folder()
    if plan.real_corpora and mirror is not None:
        for path in sorted((mirror / "imdb" / "plain_text").glob("unsupervised-*.parquet")):
            texts += pq.read_table(path, columns=["text"])["text"].to_pylist()
    return texts[:MOST_REVIEWS]


def encode(texts: list[str], folder: Path) -> None:
    """Encode the texts as a training split."""
    shutil.rmtree(folder, ignore_errors=True)
    nothing = np.zeros(len(texts), np.int64)
    encode_reviews(
        lambda _: iter([texts]), {"train": nothing}, {"train": nothing}, ("negative", "positive"), BOOK, folder
    )


def compare_tokens(texts: list[str], folder: Path) -> dict[str, Any]:
    """That the chapter's tokens, ours, and those of our ids are the same. Raises AssertionError where one is not."""
    encode(texts, folder)
    encoded = EncodedCorpus.open(folder)
    split, vocabulary = encoded.split("train"), encoded.encoder.vocabulary.tokens
    num_tokens = 0
    for row, text in enumerate(texts):
        tokens = tokenize(text)
        assert tokens == tokenize_book(text), f"review {row} has other tokens than the chapter's"
        decoded = [vocabulary[token_id] for token_id in split.item(row)]
        assert decoded == (tokens or ["<unk>"]), f"review {row} has other ids than the chapter's tokens"
        num_tokens += len(tokens)
    return {"identical_tokens": {"reviews": len(texts), "tokens": num_tokens, "same": True}}


def _tokenize(texts: list[str]) -> None:
    for text in texts:
        tokenize(text)


def _tokenize_ours(texts: list[str]) -> None:
    for text in texts:
        tokenize_book(text)


def _bouts(texts: list[str], work: Callable[[list[str]], None]) -> Callable[[int], Bout]:
    def bout(number: int) -> Bout:
        some = texts[:WARM_UP_REVIEWS] if number == WARM_UP else texts
        size = sum(len(text.encode()) for text in some) / 1e6

        def amount() -> float:
            work(some)
            return size

        return timed(amount)

    return bout
