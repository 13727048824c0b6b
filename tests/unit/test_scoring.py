"""Scores do not depend on how the work is cut into batches and streams."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn import functional

from unroll import scoring
from unroll.config import CharModelConfig, SentimentModelConfig
from unroll.data.sample import make_prose
from unroll.models.classifier import SentimentClassifier
from unroll.models.language_model import CharLanguageModel
from unroll.prediction import EncodedTexts
from unroll.scoring import UNKNOWN_CHARACTER_NATS, WARM_UP, budgeted_batches, score_reviews, score_text

CPU = torch.device("cpu")
VOCAB_SIZE = 40


@pytest.fixture(scope="module")
def classifier() -> SentimentClassifier:
    torch.manual_seed(0)
    return SentimentClassifier(SentimentModelConfig(embedding_dim=5, hidden_size=6, dropout=0.5), 30, 3)


@pytest.fixture(scope="module")
def language_model() -> CharLanguageModel:
    """Trained a little, so that its state matters as it does in earnest."""
    torch.manual_seed(0)
    model = CharLanguageModel(CharModelConfig(embedding_dim=12, hidden_size=24, dropout=0.2), VOCAB_SIZE)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    stream = torch.from_numpy(prose(8_000, 1)[: 8 * 1000].reshape(8, 1000))
    for start in range(0, 950, 50):
        logits, _ = model(stream[:, start : start + 50])
        loss = functional.cross_entropy(logits.flatten(0, 1), stream[:, start + 1 : start + 51].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def prose(size: int, seed: int) -> NDArray[np.int64]:
    """Ids from 2 on; rare characters share the last one."""
    text = make_prose(size, seed).text
    ranked = sorted(set(make_prose(8_000, 1).text))
    return np.array([min(2 + ranked.index(c), VOCAB_SIZE - 1) if c in ranked else VOCAB_SIZE - 1 for c in text])


def naive_nats(model: CharLanguageModel, text: NDArray[np.integer]) -> NDArray[np.float64]:
    """One stream, one pass: the cost of every character after the first."""
    with torch.no_grad():
        ids = torch.from_numpy(np.asarray(text, np.int64)).unsqueeze(0)
        log_probs = torch.log_softmax(model(ids[:, :-1])[0].double(), dim=-1)
        return -log_probs[0].gather(1, ids[0, 1:, None]).squeeze(1).numpy()


def test_probabilities_do_not_depend_on_the_batches_and_keep_the_order(classifier: SentimentClassifier) -> None:
    generator = np.random.default_rng(0)
    texts = EncodedTexts([generator.integers(1, 30, generator.integers(1, 40)) for _ in range(37)])
    alone = score_reviews(classifier, texts, CPU, "float32", most_places=1)
    assert alone.shape == (37, 3)
    np.testing.assert_allclose(alone.sum(axis=1), 1.0, atol=1e-12)
    assert len(np.unique(alone[:, 0].round(6))) > 20
    for most_places in (7, 100, 5_000):
        np.testing.assert_allclose(score_reviews(classifier, texts, CPU, "float32", most_places), alone, atol=1e-6)


@given(lengths=st.lists(st.integers(1, 300), max_size=60), most_places=st.integers(1, 2_000))
def test_batches_hold_every_text_once_within_their_places(lengths: list[int], most_places: int) -> None:
    batches = budgeted_batches(np.array(lengths, np.int64), most_places)
    assert sorted(int(item) for items in batches for item in items) == list(range(len(lengths)))
    for items in batches:
        longest = max(lengths[item] for item in items)
        assert len(items) == 1 or len(items) * longest <= most_places


def test_an_error_in_one_batch_is_told_and_threads_are_given_back(classifier: SentimentClassifier) -> None:
    texts = EncodedTexts([np.array([3, 4]), np.array([999, 4]), np.array([3, 4])])
    before = torch.get_num_threads()
    with pytest.raises(IndexError):
        score_reviews(classifier, texts, CPU, "float32", most_places=2)
    assert torch.get_num_threads() == before


def test_scoring_turns_dropout_off_and_leaves_the_generators_alone(classifier: SentimentClassifier) -> None:
    texts = EncodedTexts([np.array([3, 4, 5])])
    classifier.train()
    state = torch.get_rng_state()
    first = score_reviews(classifier, texts, CPU, "float32")
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(first, score_reviews(classifier, texts, CPU, "float32"))


@pytest.mark.parametrize("size", [1, 2, 249, 250, 251, 1_200])
def test_a_text_shorter_than_a_stream_costs_what_one_pass_says(language_model: CharLanguageModel, size: int) -> None:
    text = prose(size + WARM_UP + 1, 2)
    context, scored = text[: WARM_UP + 1], text[WARM_UP + 1 :]
    nats = score_text(language_model, scored, context, CPU, "float32", VOCAB_SIZE)
    np.testing.assert_allclose(nats, naive_nats(language_model, text)[-size:], atol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 251, 600])
def test_without_context_the_first_character_costs_a_uniform_draw(language_model: CharLanguageModel, size: int) -> None:
    text = prose(size, 2)
    nats = score_text(language_model, text, text[:0], CPU, "float32", VOCAB_SIZE)
    assert nats.shape == (size,)
    assert nats[0] == pytest.approx(math.log(VOCAB_SIZE))
    if size > 1:
        np.testing.assert_allclose(nats[1:], naive_nats(language_model, text), atol=1e-5)


def test_a_short_context_is_used_whole(language_model: CharLanguageModel) -> None:
    text = prose(300, 2)
    nats = score_text(language_model, text[7:], text[:7], CPU, "float32", VOCAB_SIZE)
    np.testing.assert_allclose(nats, naive_nats(language_model, text)[6:], atol=1e-5)


def test_many_streams_cost_nearly_what_one_pass_says(
    language_model: CharLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = prose(9_000, 3)
    expected = naive_nats(language_model, text)
    monkeypatch.setattr(scoring, "STREAM_LENGTH", 700)  # a dozen streams
    nats = score_text(language_model, text, text[:0], CPU, "float32", VOCAB_SIZE)
    assert nats.shape == (9_000,)
    assert abs(nats[1:].mean() - expected.mean()) < 3e-3
    assert np.quantile(np.abs(nats[1:] - expected), 0.99) < 0.05


def test_streams_read_every_character_once(language_model: CharLanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    text = prose(5_003, 3)
    monkeypatch.setattr(scoring, "STREAM_LENGTH", 311)
    nats = score_text(language_model, text, text[:0], CPU, "float32", VOCAB_SIZE)
    assert np.isfinite(nats).all()
    # a character moved by one place would cost something else entirely
    assert np.corrcoef(nats[1:], naive_nats(language_model, text))[0, 1] > 0.999


def test_an_unknown_character_costs_its_name_on_top(language_model: CharLanguageModel) -> None:
    text = prose(50, 2)
    text[[0, 20]] = 1
    nats = score_text(language_model, text, text[:0], CPU, "float32", VOCAB_SIZE)
    assert nats[0] == pytest.approx(math.log(VOCAB_SIZE) + UNKNOWN_CHARACTER_NATS)
    assert nats[20] == pytest.approx(naive_nats(language_model, text)[19] + UNKNOWN_CHARACTER_NATS, abs=1e-5)
    assert nats[21] == pytest.approx(naive_nats(language_model, text)[20], abs=1e-5)


def test_nothing_to_score_costs_nothing(language_model: CharLanguageModel) -> None:
    empty = np.empty(0, np.int64)
    assert score_text(language_model, empty, prose(30, 1), CPU, "float32", VOCAB_SIZE).shape == (0,)
    assert score_text(language_model, empty, empty, CPU, "float32", VOCAB_SIZE).shape == (0,)


def test_bfloat16_scores_are_close(language_model: CharLanguageModel) -> None:
    text = prose(1_000, 2)
    exact, rough = (
        score_text(language_model, text, text[:0], CPU, precision, VOCAB_SIZE).mean()
        for precision in ("float32", "bfloat16")
    )
    assert rough == pytest.approx(exact, abs=0.02)
