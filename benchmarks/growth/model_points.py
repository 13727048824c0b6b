"""A step over the size of the model and the length of sequences, on made ids: what they say does not matter here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.growth.curves import Point
from benchmarks.growth.settings import ENDLESS
from benchmarks.growth.training import measure_products, measure_steps
from benchmarks.products import Product, backward_products, lstm_products
from unroll.config import LanguageModelConfig, SentimentConfig
from unroll.data.encoded import EncodedCorpus, EncodedSplit
from unroll.presets import load_config
from unroll.training.language_model import LanguageModelProblem
from unroll.training.seed import seed_torch
from unroll.training.sentiment import SentimentProblem

CHARACTERS, CHARACTER_IDS = 2_000_000, 80
REVIEWS, WORD_IDS, QUICK_WORD_IDS = 1_000, 30_000, 300
HIDDEN_SIZE, WINDOW, REVIEW_LENGTH = 128, 100, 200
"""Of the curves whose size they are not."""


def measure(point: Point) -> dict[str, Any]:
    """The step of the curve's project at the point's size."""
    seed_torch(point.seed)
    return _measure_text(point) if point.curve.startswith("text") else _measure_reviews(point)


def _measure_text(point: Point) -> dict[str, Any]:
    hidden_size = point.size if point.curve == "text-hidden" else HIDDEN_SIZE
    window = point.size if point.curve == "text-window" else WINDOW
    settings = (f"model.hidden_size={hidden_size}", f"training.window={window}", "training.precision=float32")
    config = load_config("language_model", "sample", [*settings, *ENDLESS, f"seed={point.seed}"])
    assert isinstance(config, LanguageModelConfig)
    tokens = _made_ids(CHARACTERS, CHARACTER_IDS, point.seed, np.uint8)
    corpus = _corpus("text", CHARACTER_IDS, EncodedSplit(tokens, np.array([0, len(tokens)])))
    found = measure_steps(point, LanguageModelProblem(config, corpus), config.training)
    forward = lstm_products(
        "", config.training.batch_size, window, config.model.embedding_dim, hidden_size, CHARACTER_IDS
    )
    return _with_products(point.size, found, forward)


def _measure_reviews(point: Point) -> dict[str, Any]:
    hidden_size = point.size if point.curve == "reviews-hidden" else HIDDEN_SIZE
    length = point.size if point.curve == "reviews-length" else REVIEW_LENGTH
    settings = (f"model.hidden_size={hidden_size}", "training.precision=float32", "training.max_minutes=null")
    config = load_config("sentiment", "fast", [*settings, *ENDLESS, f"seed={point.seed}"])
    assert isinstance(config, SentimentConfig)
    vocab_size = QUICK_WORD_IDS if point.quick else WORD_IDS
    tokens = _made_ids(REVIEWS * length, vocab_size, point.seed, np.uint16)
    labels, rows = np.arange(REVIEWS) % 2, np.arange(REVIEWS)
    corpus = _corpus("reviews", vocab_size, EncodedSplit(tokens, np.arange(REVIEWS + 1) * length, labels, rows))
    found = measure_steps(point, SentimentProblem(config, corpus), config.training)
    one_way = lstm_products("", config.training.batch_size, length, config.model.embedding_dim, hidden_size, None)
    return _with_products(point.size, found, (*one_way, *one_way))


def _with_products(size: int, found: dict[str, Any], forward: tuple[Product, ...]) -> dict[str, Any]:
    products = (*forward, *backward_products(forward))
    return {"size": size, **found, **measure_products(products, found["seconds"])}


def _made_ids(count: int, vocab_size: int, seed: int, dtype: type[np.unsignedinteger[Any]]) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(2, vocab_size, count).astype(dtype)


def _corpus(kind: str, vocab_size: int, split: EncodedSplit) -> EncodedCorpus:
    fields = {"kind": kind, "vocab_size": vocab_size, "class_names": ["negative", "positive"]}
    return EncodedCorpus(Path(), fields, {"train": split, "validation": split})
