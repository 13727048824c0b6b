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
from benchmarks.own_process import OwnProcess
from benchmarks.peers import hf_trainer
from benchmarks.plan import Plan, Row
from benchmarks.ratios import Promise
from benchmarks.reviews import read_reviews, subset
from benchmarks.timed_problem import time_training
from unroll.config import SentimentConfig
from unroll.training.memory import keep_freed_memory
from unroll.training.seed import seed_torch
from unroll.training.sentiment import SentimentProblem

REVIEWS = 3200
"""Drawn once for a run: as many as an epoch of ours sorts by length together, so that its padding is an epoch's."""
QUICK_REVIEWS = 64
BATCHES = 20
"""Of a bout of the chapter's, which goes through the reviews again and again, each time in another order."""
QUICK_BATCHES = 2
OUR_EPOCHS = 2
"""Passes of a bout of ours."""
WAYS = {
    "unroll": ("the preset book_fast: batches of like length, bfloat16, rows shared out among two threads", ()),
    "unroll, float32": (
        "the same in float32, its products shared out by PyTorch",
        ("training.precision=float32", "training.shards=1"),
    ),
}
"""Contestants of ours: what they do, and the settings in which they differ from the preset."""
MOST_PADDING = 0.05
"""Share of places."""

Items = NDArray[np.int64]
Item = TypeVar("Item")


def make_row(plan: Plan) -> Row:
    """The chapter's loop and our trainer."""
    corpus = book_corpus("sentiment", plan)
    items = _draw_items(plan, corpus)
    workers = {name: OwnProcess(__name__, plan, name) for name in WAYS}

    def checks() -> dict[str, Any]:
        facts = workers["unroll"].facts()
        return {**facts, **compare_accuracy(plan, corpus, our_config(plan))}

    return Row(
        unit="reviews/s",
        data=f"{corpus.description}: the same {len(items):,} training reviews, drawn at random",
        contestants=(
            _chapter(plan, corpus, items),
            *(Contestant(name, f"Trainer.fit, {what}", workers[name].bout) for name, (what, _) in WAYS.items()),
            *_peers(plan, corpus, items),
        ),
        promises=(
            Promise("unroll over the chapter's way", "unroll", "chapter", at_least=25),
            Promise("unroll, float32, over the chapter's way", "unroll, float32", "chapter"),
            *([Promise(f"unroll over {hf_trainer.NAME}", "unroll", hf_trainer.NAME)] if hf_trainer.is_there() else []),
        ),
        rounds=plan.num_rounds(5),
        notes=(
            "Training steps alone: neither side's clock runs while it evaluates; ours encodes once, see Preparation.",
            "Each of ours has a process of its own, which keeps freed memory as the train stage does.",
        ),
        checks=checks,
    )


def our_config(plan: Plan, *overrides: str) -> SentimentConfig:
    """The preset `book_fast`: the chapter's model and settings, trained the fast way."""
    config = book_config("sentiment", plan, *overrides, preset="book_fast")
    assert isinstance(config, SentimentConfig)
    return config


def make_worker(plan: Plan, way: str) -> Ours:
    """One of our contestants, in its own process."""
    keep_freed_memory()
    corpus = book_corpus("sentiment", plan)
    return Ours(our_config(plan, *WAYS[way][1]), corpus, _draw_items(plan, corpus))


class Ours:
    """Our trainer over some of the reviews."""

    def __init__(self, config: SentimentConfig, corpus: Corpus, items: Items) -> None:
        seed_torch(config.seed)
        self._config = config
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

    def facts(self) -> dict[str, Any]:
        """Share of places, 0 to 1, that were padding."""
        fraction = round(1 - self._num_tokens / self._num_places, 4)
        return {"padding_fraction": fraction, "padding_kept": fraction <= MOST_PADDING}


def _draw_items(plan: Plan, corpus: Corpus) -> Items:
    num_items = len(corpus.open_encoded().split("train"))
    size = min(QUICK_REVIEWS if plan.quick else REVIEWS, num_items)
    return np.sort(np.random.default_rng(plan.seed).choice(num_items, size, replace=False))


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


def _peers(plan: Plan, corpus: Corpus, items: Items) -> list[Contestant]:
    if not hf_trainer.is_there():
        return []
    encoded = corpus.open_encoded()
    seed_torch(plan.seed)
    part = subset(encoded.split("train"), items)
    steps = QUICK_BATCHES if plan.quick else BATCHES
    return [hf_trainer.make_contestant(our_config(plan), part, encoded.vocab_size, steps)]


def _again_and_again(items: Iterable[Item]) -> Iterator[Item]:
    while True:
        yield from items
