"""Which tokens of a text moved a classifier's answer, found by taking each away in turn.

Each token is replaced by `<unk>`, and the text is scored again: the change is the token's effect, as the model itself
has it, not an estimate (erasure: Li, Monroe and Jurafsky 2016, "Understanding Neural Networks through Representation
Erasure"; occlusion: Zeiler and Fergus 2014). All copies of the text go through the model in one batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from unroll.data.vocabulary import Vocabulary
from unroll.errors import PredictionError
from unroll.models.classifier import SentimentClassifier
from unroll.prediction import EncodedTexts, SentimentPredictor
from unroll.scoring import score_reviews

MAX_TOKENS = 400
"""A text of T tokens is read T + 1 times."""
SMALLEST_PROBABILITY = 1e-12
"""Log-odds are taken of probabilities no nearer than this to 0 and 1."""


class TooManyTokens(PredictionError):  # noqa: N818 - the text is fine, it is only not explained
    """A text is too long to be explained."""


@dataclass(frozen=True)
class TokenEffect:
    """What one token does to the answer."""

    start: int
    """First code point in the text."""
    stop: int
    """The code point after its last."""
    is_known: bool
    """Whether the model's vocabulary has it. An unknown token has no effect of its own."""
    effect: float
    """Log-odds (natural logarithm) of the answer's label, less those without the token: above 0 speaks for it."""
    probability_without: float
    """Of the answer's label, without the token."""


@dataclass(frozen=True)
class Explanation:
    """A classifier's answer and what moved it."""

    probabilities: Mapping[str, float]
    """Of every class, in the model's order."""
    label: str
    """The likeliest class."""
    tokens: tuple[TokenEffect, ...]
    """In the order of the text."""


def explain(predictor: SentimentPredictor, text: str) -> Explanation:
    """Classify a text and measure the effect of each of its tokens.

    Raises TooManyTokens for a text of more than MAX_TOKENS tokens, not counting those that the model's bound cuts off.
    """
    encoder = predictor.saved.encoder
    token_ids = np.asarray(encoder.encode(text), np.int64)
    if len(token_ids) > MAX_TOKENS:
        raise TooManyTokens(
            f"The text has {len(token_ids):,} tokens, of at most {MAX_TOKENS} the effects are measured; shorten it."
        )
    copies = np.tile(token_ids, (len(token_ids) + 1, 1))
    np.fill_diagonal(copies[1:], Vocabulary.UNK_ID)
    # a copy that differs in nothing needs no reading
    changed = np.flatnonzero(np.r_[True, token_ids != Vocabulary.UNK_ID])
    model = predictor.saved.model
    assert isinstance(model, SentimentClassifier)
    scored = score_reviews(
        model,
        EncodedTexts(list(copies[changed])),
        predictor.saved.device,
        "float32",
    )
    label = int(scored[0].argmax())
    without = np.full(len(token_ids) + 1, scored[0, label])
    without[changed] = scored[:, label]
    log_odds = _log_odds(without)
    tokens = tuple(
        TokenEffect(start, stop, bool(token_id != Vocabulary.UNK_ID), float(log_odds[0] - odds), float(probability))
        for (start, stop), token_id, odds, probability in zip(
            encoder.spans(text), token_ids, log_odds[1:], without[1:], strict=True
        )
    )
    probabilities = dict(zip(predictor.class_names, map(float, scored[0]), strict=True))
    return Explanation(probabilities, predictor.class_names[label], tokens)


def _log_odds(probs: np.ndarray) -> np.ndarray:
    bounded = probs.clip(SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    return np.asarray(np.log(bounded) - np.log1p(-bounded))
