"""Test reviews from text to probability, many at a time: the plain way against ours, at two shapes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.corpora import book_corpus
from benchmarks.measure import WARM_UP, Bout, Contestant, timed
from benchmarks.plain_scoring import PlainScorer
from benchmarks.plan import Plan, Row
from benchmarks.ratios import Promise
from benchmarks.reviews import read_reviews
from unroll.config import SentimentConfig
from unroll.data.encoders import TextEncoder, train_encoder
from unroll.models.classifier import SentimentClassifier
from unroll.models.saved import SavedModel
from unroll.prediction import EncodedTexts, SentimentPredictor
from unroll.presets import load_config
from unroll.scoring import score_reviews
from unroll.training.device import resolve_device
from unroll.training.seed import seed_torch

SHAPES = ("book", "fast")
"""Presets whose encoder and model are used, untrained: what a review costs does not hang on the weights."""
REVIEWS = 2_000
QUICK_REVIEWS = 60
PLAIN_REVIEWS = 200
"""Of a bout of the plain way's: a different part of the reviews each round."""


def make_row(plan: Plan) -> Row:
    """For each shape: the plain way, ours from text, ours from token ids."""
    texts = test_reviews(plan, QUICK_REVIEWS if plan.quick else REVIEWS)
    contestants: list[Contestant] = []
    promises: list[Promise] = []
    differences: dict[str, float] = {}
    predictors = {shape: make_predictor(shape, plan) for shape in SHAPES}
    for shape, predictor in predictors.items():
        contestants += _contestants(shape, predictor, texts)
        promises += [
            Promise(f"{shape}: unroll over the plain way", f"{shape}: unroll", f"{shape}: plain"),
            Promise(
                f"{shape}: unroll, tokens kept, over the plain way", f"{shape}: unroll, tokens kept", f"{shape}: plain"
            ),
        ]

    def checks() -> dict[str, Any]:
        few = texts[:100]
        for shape, predictor in predictors.items():
            plain = PlainScorer(predictor).score(few).double().numpy()
            differences[shape] = float(np.abs(predictor.predict(few) - plain).max())
        return {"largest_difference": differences}

    return Row(
        unit="reviews/s",
        data=f"{len(texts):,} test reviews, drawn at random; untrained models of the presets {' and '.join(SHAPES)}",
        contestants=tuple(contestants),
        promises=tuple(promises),
        rounds=plan.num_rounds(5),
        checks=checks,
    )


def test_reviews(plan: Plan, most: int) -> list[str]:
    """Test reviews drawn at random."""
    texts, _ = read_reviews(book_corpus("sentiment", plan), "test")
    chosen = np.random.default_rng(plan.seed).permutation(len(texts))[:most]
    return [texts[index] for index in chosen]


def make_predictor(shape: str, plan: Plan) -> SentimentPredictor:
    """An untrained model of a preset's shape, with an encoder that knows the corpus."""
    config = load_config("sentiment", shape, ["training.device=cpu"])
    assert isinstance(config, SentimentConfig)
    corpus = book_corpus("sentiment", plan)
    encoder: TextEncoder = corpus.open_encoded().encoder
    if config.encoding.tokenizer != "book":
        encoder = train_encoder(config.encoding, [read_reviews(corpus, "train")[0]])
    seed_torch(plan.seed)
    model = SentimentClassifier(config.model, len(encoder.vocabulary), 2).eval()
    saved = SavedModel(model, encoder, config, ("negative", "positive"), resolve_device("cpu"))
    return SentimentPredictor(saved)


def _contestants(shape: str, predictor: SentimentPredictor, texts: Sequence[str]) -> list[Contestant]:
    plain = PlainScorer(predictor)
    encoded = EncodedTexts(predictor.saved.encoder.encode_batch(texts))
    model = predictor.saved.model
    assert isinstance(model, SentimentClassifier)

    def plain_bout(number: int) -> Bout:
        start = max(number, 0) * PLAIN_REVIEWS % len(texts)
        part = texts[start : start + (32 if number == WARM_UP else PLAIN_REVIEWS)]
        return timed(lambda: len(plain.score(part)))

    def bout(number: int) -> Bout:
        part = texts[:32] if number == WARM_UP else texts
        return timed(lambda: len(predictor.predict(part)))

    def kept_bout(number: int) -> Bout:
        part = EncodedTexts(encoded.token_ids[:32]) if number == WARM_UP else encoded
        return timed(lambda: len(score_reviews(model, part, predictor.saved.device, "float32")))

    return [
        Contestant(f"{shape}: plain", "batches of 32 tokenised in turn, packed, no_grad, float32", plain_bout),
        Contestant(f"{shape}: unroll", "SentimentPredictor.predict, from text, float32", bout),
        Contestant(f"{shape}: unroll, tokens kept", "score_reviews, from token ids, float32", kept_bout),
    ]
