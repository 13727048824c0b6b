"""An epoch of the sentiment model: the chapter's algorithm against ours, over the same reviews."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy import compare_accuracy
from benchmarks.chapter.sentiment import PackedClassifier, SentimentTraining, make_loader
from benchmarks.corpora import Corpus, book_config, book_corpus
from benchmarks.measure import WARM_UP, Bout, Contestant, timed
from benchmarks.plan import Plan, Row
from benchmarks.ratios import Promise
from benchmarks.reviews import read_reviews, subset
from benchmarks.timed_problem import time_training
from unroll.config import SentimentConfig
from unroll.training.seed import seed_torch
from unroll.training.sentiment import SentimentProblem

REVIEWS = 1600
"""Drawn once for a run: as many as an epoch of ours sorts by length together, so that its padding is an epoch's."""
QUICK_REVIEWS = 64
BATCHES = 20
"""Of a bout of the chapter's, which goes through the reviews again and again, each time in another order."""
QUICK_BATCHES = 2
OUR_EPOCHS = 3
"""Passes of a bout of ours."""
BUCKET_BATCHES = 50

Items = NDArray[np.int64]
Item = TypeVar("Item")


def make_row(plan: Plan) -> Row:
    """The chapter's loop and our trainer."""
    corpus = book_corpus("sentiment", plan)
    num_items = len(corpus.open_encoded().split("train"))
    size = min(QUICK_REVIEWS if plan.quick else REVIEWS, num_items)
    items = np.sort(np.random.default_rng(plan.seed).choice(num_items, size, replace=False))

    def checks() -> dict[str, Any]:
        return compare_accuracy(plan, corpus, our_config(plan)) if plan.accuracy_epochs else {}

    ours = Ours(plan, corpus, items)
    return Row(
        unit="reviews/s",
        data=f"{corpus.description}: the same {size:,} training reviews, drawn at random",
        contestants=(
            _chapter(plan, corpus, items),
            Contestant(
                "unroll",
                f"Trainer.fit, float32, batches of 32 of like length (bucket_batches={BUCKET_BATCHES}), dense",
                ours.bout,
            ),
        ),
        promises=(Promise("unroll over the chapter's way", "unroll", "chapter", at_least=25),),
        rounds=plan.num_rounds(7),
        notes=_notes(plan),
        checks=lambda: {"padding_fraction": round(ours.padding_fraction, 4), **checks()},
    )


def our_config(plan: Plan, *overrides: str) -> SentimentConfig:
    """The preset `book`, with batches of texts of like length."""
    config = book_config("sentiment", plan, f"training.bucket_batches={BUCKET_BATCHES}", *overrides)
    assert isinstance(config, SentimentConfig)
    return config


class Ours:
    """Our trainer over some of the reviews."""

    def __init__(self, plan: Plan, corpus: Corpus, items: Items) -> None:
        seed_torch(plan.seed)
        self._config = our_config(plan)
        encoded = corpus.open_encoded()
        part = subset(encoded.split("train"), items)
        splits = {"train": part, "validation": subset(part, np.arange(1))}
        self._problem = SentimentProblem(self._config, replace(encoded, splits=splits))
        self._num_tokens, self._num_places = 0, 0

    def bout(self, number: int) -> Bout:
        """Whole passes over the items."""
        epochs = 1 if number == WARM_UP else OUR_EPOCHS
        timed_problem, lap = time_training(self._problem, self._config.training.model_copy(update={"epochs": epochs}))
        self._num_tokens += timed_problem.num_tokens
        self._num_places += timed_problem.num_places
        return Bout(epochs * len(self._problem.train), lap)

    @property
    def padding_fraction(self) -> float:
        """Share of places, 0 to 1, that were padding."""
        return 1 - self._num_tokens / self._num_places


def _chapter(plan: Plan, corpus: Corpus, items: Items) -> Contestant:
    encoded = corpus.open_encoded()
    texts, labels = read_reviews(corpus, "train")
    chosen = [texts[item] for item in items], [labels[item] for item in items]
    seed_torch(plan.seed)
    batches = _again_and_again(make_loader(*chosen, encoded.encoder.vocabulary.ids_by_token))
    training = SentimentTraining(PackedClassifier(encoded.vocab_size))

    def bout(number: int) -> Bout:
        num_batches = 1 if number == WARM_UP else QUICK_BATCHES if plan.quick else BATCHES
        return timed(lambda: training.train_epoch(islice(batches, num_batches))[0])

    return Contestant(
        "chapter", "tokenised again, batches of 32 at random, packed, Adam over the whole embedding, float32", bout
    )


def _again_and_again(items: Iterable[Item]) -> Iterator[Item]:
    while True:
        yield from items


def _notes(plan: Plan) -> tuple[str, ...]:
    notes = ["Training steps alone: neither side's clock runs while it evaluates; ours encodes once, see Preparation."]
    if not plan.accuracy_epochs:
        notes.append("Test accuracy was not measured in this run: `--accuracy-epochs 10` trains both to the end.")
    return tuple(notes)
