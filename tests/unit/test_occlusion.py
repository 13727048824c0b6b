"""A token's effect is the change that its absence makes, nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unroll.config import AnyConfig
from unroll.data.encoded import EncodedCorpus
from unroll.data.vocabulary import Vocabulary
from unroll.occlusion import TooManyTokens, explain
from unroll.prediction import EncodedTexts, SentimentPredictor
from unroll.scoring import score_reviews
from unroll.training.fit import train
from unroll.training.metrics import SilentLogger

TEXT = "The music was superb, and xyzzy the plot felt dull."


@pytest.fixture(scope="module")
def predictor(
    small_config: Callable[..., AnyConfig], encoded_reviews: EncodedCorpus, tmp_path_factory: pytest.TempPathFactory
) -> SentimentPredictor:
    folder = tmp_path_factory.mktemp("model")
    config = small_config("sentiment", training={"max_steps": 20})
    train(config, encoded_reviews.folder, tmp_path_factory.mktemp("work"), folder, SilentLogger())
    return SentimentPredictor.load(folder, torch.device("cpu"))


def test_the_answer_is_the_predictors(predictor: SentimentPredictor) -> None:
    explanation = explain(predictor, TEXT)
    np.testing.assert_allclose(list(explanation.probabilities.values()), predictor.predict([TEXT])[0], atol=1e-6)
    assert explanation.label == max(explanation.probabilities, key=explanation.probabilities.__getitem__)


def test_each_effect_is_that_of_reading_the_text_with_the_token_unknown(predictor: SentimentPredictor) -> None:
    explanation = explain(predictor, TEXT)
    token_ids = predictor.saved.encoder.encode(TEXT)
    label = predictor.class_names.index(explanation.label)
    before = explanation.probabilities[explanation.label]
    assert len(explanation.tokens) == len(token_ids)
    for place, token in enumerate(explanation.tokens):
        changed = np.array(token_ids)
        changed[place] = Vocabulary.UNK_ID
        probs = score_reviews(predictor.saved.model, EncodedTexts([changed]), torch.device("cpu"), "float32")  # type: ignore[arg-type]
        after = probs[0, label]
        assert token.probability_without == pytest.approx(after, abs=1e-6)
        expected = math.log(before / (1 - before)) - math.log(after / (1 - after))
        assert token.effect == pytest.approx(expected, abs=1e-4)


def test_an_unknown_word_has_no_effect_of_its_own(predictor: SentimentPredictor) -> None:
    (token,) = [each for each in explain(predictor, TEXT).tokens if TEXT[each.start : each.stop] == "xyzzy"]
    assert not token.is_known
    assert token.effect == 0


@settings(max_examples=20)
@given(text=st.text(st.characters(), max_size=40))
def test_any_text_is_explained(predictor: SentimentPredictor, text: str) -> None:
    explanation = explain(predictor, text)
    assert all(math.isfinite(token.effect) and 0 <= token.probability_without <= 1 for token in explanation.tokens)


def test_a_text_of_too_many_tokens_is_refused(predictor: SentimentPredictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unroll.occlusion.MAX_TOKENS", 5)
    with pytest.raises(TooManyTokens, match="12 tokens, of at most 5"):
        explain(predictor, TEXT)
