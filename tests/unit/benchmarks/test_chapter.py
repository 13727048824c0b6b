"""The baselines do the same work as ours, so that their ratios are of like with like."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.chapter.language_model import OneStepModel, Windows, sample, summed_loss
from benchmarks.chapter.sentiment import PackedClassifier, SentimentTraining, make_loader
from benchmarks.chapter.tokenizer import tokenize
from benchmarks.peers.word_language_model import StreamTraining
from benchmarks.rows.generation import noise_draw
from benchmarks.same_losses import copy_weights, losses_on_the_same_windows
from benchmarks.timed_problem import TimedProblem, training_bout
from unroll.config import AnyConfig, LanguageModelConfig, SentimentConfig
from unroll.data.batching import pad_batch
from unroll.data.encoded import EncodedCorpus
from unroll.data.text import tokenize_book
from unroll.generation import SamplingSettings, TextGenerator
from unroll.models.classifier import SentimentClassifier
from unroll.models.language_model import CharLanguageModel
from unroll.training.language_model import LanguageModelProblem
from unroll.training.problem import Problem
from unroll.training.sentiment import SentimentProblem

SmallConfig = Callable[..., AnyConfig]
CPU = torch.device("cpu")


@pytest.fixture
def text_config(small_config: SmallConfig) -> LanguageModelConfig:
    config = small_config(
        "language_model",
        model={"num_layers": 1, "dropout": 0.0, "embedding_dropout": 0.0},
        training={"windows": "random", "loss_reduction": "sum", "clip": "none", "window": 12, "optimizer": "adam"},
    )
    assert isinstance(config, LanguageModelConfig)
    return config


@pytest.fixture
def review_config(small_config: SmallConfig) -> SentimentConfig:
    config = small_config(
        "sentiment",
        model={
            "num_layers": 1,
            "dropout": 0.0,
            "word_dropout": 0.0,
            "bidirectional": False,
            "pooling": ["last"],
            "head_size": 7,
            "output": "sigmoid",
        },
        training={"epochs": 1},
    )
    assert isinstance(config, SentimentConfig)
    return config


@given(st.text(alphabet=" abCÉ_1<>/:;=-()DPdp.!\n", max_size=60))
def test_the_baselines_tokens_are_the_books(text: str) -> None:
    assert tokenize(text) == tokenize_book(text)


def test_the_packed_classifier_gives_our_logits(review_config: SentimentConfig) -> None:
    ours = SentimentClassifier(review_config.model, vocab_size=30, num_classes=2)
    theirs = PackedClassifier(30, review_config.model.embedding_dim, review_config.model.hidden_size, head_size=7)
    theirs.embedding.load_state_dict(ours.embedding.state_dict())
    theirs.lstm.load_state_dict(ours.recurrent.forward_layers[0].state_dict())
    first, _, last = ours.head.children()
    theirs.hidden.load_state_dict(first.state_dict())
    theirs.output.load_state_dict(last.state_dict())
    batch = pad_batch([np.arange(2, 2 + length) for length in (5, 1, 9, 3)])

    logits = theirs.logits(batch.token_ids, batch.lengths)
    torch.testing.assert_close(ours(batch.token_ids, batch.lengths)[:, 1], logits, rtol=1e-5, atol=1e-6)
    labels = torch.tensor([1, 0, 1, 0])
    binary = torch.nn.functional.binary_cross_entropy(theirs(batch.token_ids, batch.lengths), labels.float())
    cross_entropy = torch.nn.functional.cross_entropy(ours(batch.token_ids, batch.lengths), labels)
    torch.testing.assert_close(cross_entropy, binary, rtol=1e-5, atol=1e-6)


def test_the_chapters_loader_reads_every_review_once() -> None:
    loader = make_loader(["a b", "b", "", "c :)"], [0, 1, 0, 1], {"a": 2, "b": 3, ":)": 4}, batch_size=3)
    batches = list(loader)
    rows = [
        (tuple(ids[:length].tolist()), label)
        for token_ids, labels, lengths in batches
        for ids, label, length in zip(token_ids, labels.tolist(), lengths.tolist(), strict=True)
    ]
    assert sorted(rows) == [((1,), 0.0), ((1, 4), 1.0), ((2, 3), 0.0), ((3,), 1.0)]


def test_the_chapters_classifier_learns() -> None:
    torch.manual_seed(1)
    training = SentimentTraining(PackedClassifier(4, 4, 8, 8), learning_rate=0.05)
    loader = make_loader(["good", "bad"] * 8, [1, 0] * 8, {"good": 2, "bad": 3}, batch_size=4)
    for _ in range(10):
        num_texts, _ = training.train_epoch(loader)
    assert num_texts == 16
    assert training.accuracy(loader) == 1.0


def test_the_loop_over_characters_gives_our_summed_loss(
    text_config: LanguageModelConfig, encoded_text: EncodedCorpus
) -> None:
    problem = LanguageModelProblem(text_config, encoded_text)
    theirs = _copy(problem.model, text_config, encoded_text)
    batch = next(problem.batches(0, 0))
    ours, _ = problem.loss(batch, None)
    (ours * problem.loss_weight(batch)).backward()  # type: ignore[no-untyped-call]
    loss = summed_loss(theirs, batch.inputs, batch.targets)
    loss.backward()  # type: ignore[no-untyped-call]

    torch.testing.assert_close(ours * problem.loss_weight(batch), loss, rtol=1e-5, atol=1e-5)
    gradient = problem.model.recurrent.forward_layers[0].weight_hh_l0.grad
    torch.testing.assert_close(gradient, theirs.lstm.weight_hh_l0.grad, rtol=1e-4, atol=1e-5)


def test_both_language_models_train_alike(text_config: LanguageModelConfig, encoded_text: EncodedCorpus) -> None:
    losses = losses_on_the_same_windows(text_config, encoded_text, steps=5)["loss_at_last_step"]
    assert losses["unroll float32"] == pytest.approx(losses["chapter"], abs=2e-3)
    assert losses["unroll bfloat16"] == pytest.approx(losses["chapter"], abs=0.05)


def test_windows_are_all_of_a_text() -> None:
    windows = Windows(np.arange(6), window=3)
    assert [(inputs.tolist(), targets.tolist()) for inputs, targets in (windows[i] for i in range(len(windows)))] == [
        ([0, 1, 2], [1, 2, 3]),
        ([1, 2, 3], [2, 3, 4]),
        ([2, 3, 4], [3, 4, 5]),
    ]


def test_from_the_same_noise_both_make_the_same_text(
    text_config: LanguageModelConfig, encoded_text: EncodedCorpus
) -> None:
    model = CharLanguageModel(text_config.model, encoded_text.vocab_size)
    theirs = _copy(model, text_config, encoded_text)
    generator = TextGenerator(model, encoded_text.encoder, CPU)
    characters = encoded_text.encoder.vocabulary.tokens
    ours = generator.generate(["The "], SamplingSettings(length=40, seed=5))[0]
    assert sample(theirs, "The ", characters, 40, draw=noise_draw(5, len(characters))) == ours


def test_the_chapters_own_draw_follows_the_seed(text_config: LanguageModelConfig, encoded_text: EncodedCorpus) -> None:
    theirs = OneStepModel(encoded_text.vocab_size, 6, 8)
    characters = encoded_text.encoder.vocabulary.tokens
    texts = []
    for _ in range(2):
        torch.manual_seed(3)
        texts.append(sample(theirs, "The", characters, 20))
    assert texts[0] == texts[1]
    assert texts[0].startswith("The")


def test_pytorchs_example_learns_the_text(text_config: LanguageModelConfig, encoded_text: EncodedCorpus) -> None:
    torch.manual_seed(1)
    training = StreamTraining(text_config, np.asarray(encoded_text.split("train").tokens), encoded_text.vocab_size)
    before = training.train_step()
    training.train_steps(60)
    assert training.train_step() < before - 0.3


@pytest.mark.parametrize("project", ["sentiment", "language_model"])
def test_our_bouts_are_whole_epochs_of_the_trainer(
    project: str,
    review_config: SentimentConfig,
    text_config: LanguageModelConfig,
    encoded_reviews: EncodedCorpus,
    encoded_text: EncodedCorpus,
) -> None:
    problem: Problem = SentimentProblem(review_config, encoded_reviews)
    config: AnyConfig = review_config
    if project == "language_model":
        problem, config = LanguageModelProblem(text_config, encoded_text), text_config
    before = [parameter.detach().clone() for parameter in problem.model.parameters()]
    bout = training_bout(problem, config.training.model_copy(update={"epochs": 2}))
    once = sum(batch.num_tokens for batch in TimedProblem(problem).batches(0, 0))
    assert bout.amount == 2 * once
    assert bout.lap.seconds > 0
    after = problem.model.parameters()
    assert any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))


def _copy(model: CharLanguageModel, config: LanguageModelConfig, encoded: EncodedCorpus) -> OneStepModel:
    theirs = OneStepModel(encoded.vocab_size, config.model.embedding_dim, config.model.hidden_size)
    copy_weights(model, theirs)
    return theirs
