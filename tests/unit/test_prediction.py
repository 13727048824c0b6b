"""Any text gets an answer, the same one whatever stands beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unroll.config import AnyConfig
from unroll.data.encoded import EncodedCorpus
from unroll.errors import PredictionError
from unroll.generation import TextGenerator
from unroll.prediction import SentimentPredictor
from unroll.training.fit import train
from unroll.training.metrics import SilentLogger

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(
    small_config: Callable[..., AnyConfig], encoded_reviews: EncodedCorpus, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A small classifier."""
    folder = tmp_path_factory.mktemp("model")
    config = small_config("sentiment", training={"max_steps": 5})
    train(config, encoded_reviews.folder, tmp_path_factory.mktemp("work"), folder, SilentLogger())
    return folder


@pytest.fixture(scope="module")
def predictor(folder: Path) -> SentimentPredictor:
    return SentimentPredictor.load(folder, CPU)


@settings(max_examples=30)
@given(texts=st.lists(st.text(st.characters(), max_size=60), max_size=5))
def test_any_texts_get_probabilities(predictor: SentimentPredictor, texts: list[str]) -> None:
    probs = predictor.predict(texts)
    assert probs.shape == (len(texts), 2)
    assert np.allclose(probs.sum(axis=1), 1.0)


def test_an_answer_does_not_depend_on_the_texts_beside_it(predictor: SentimentPredictor) -> None:
    texts = ["I expected a great film, but it was awful.", "good", "", "never " * 300]
    together = predictor.predict(texts)
    for text, probs in zip(texts, together, strict=True):
        np.testing.assert_allclose(predictor.predict([text])[0], probs, atol=1e-6)


def test_a_series_is_a_list_of_texts_too(predictor: SentimentPredictor) -> None:
    series = pd.Series(["good", "bad"])
    np.testing.assert_array_equal(predictor.predict(series), predictor.predict(["good", "bad"]))


@pytest.mark.parametrize("texts", ["one text", ["a", None], ["a", 3.0], [b"bytes"]])
def test_what_is_no_text_is_refused(predictor: SentimentPredictor, texts: object) -> None:
    with pytest.raises(PredictionError, match="expected a"):
        predictor.predict(texts)  # type: ignore[arg-type]


@pytest.mark.parametrize("texts", [[], ["good", "bad", "good"]])
def test_a_table_has_a_label_and_every_probability(predictor: SentimentPredictor, texts: list[str]) -> None:
    table = predictor.predict_table(texts)
    assert list(table.columns) == ["label", "probability_negative", "probability_positive"]
    assert len(table) == len(texts)
    likeliest = np.where(table["probability_negative"] >= table["probability_positive"], "negative", "positive")
    assert list(table["label"]) == list(likeliest)


def test_a_classifier_cannot_generate(folder: Path) -> None:
    with pytest.raises(PredictionError, match="of the project sentiment; generating needs a language model"):
        TextGenerator.load(folder, CPU)


def test_a_language_model_cannot_classify(
    small_config: Callable[..., AnyConfig], encoded_text: EncodedCorpus, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    config = small_config("language_model", training={"max_steps": 1})
    train(config, encoded_text.folder, tmp_path / "work", tmp_path / "model", SilentLogger())
    with pytest.raises(PredictionError, match="of the project language_model; classifying needs a sentiment model"):
        SentimentPredictor.load(tmp_path / "model", CPU)
    assert len(TextGenerator.load(tmp_path / "model", CPU).model.state_dict()) > 0
