"""The presets `book` and `book_bidirectional` are the chapter's two projects, number by number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import nn

from unroll.config import LanguageModelConfig, SentimentConfig, flatten
from unroll.data.batching import RandomWindows
from unroll.data.encoded import EncodedCorpus, encode_reviews
from unroll.data.gutenberg import CHAPTER_CHARACTERS, CHAPTER_DISTINCT, CHAPTER_EBOOK
from unroll.data.splits import split_text
from unroll.models.classifier import SentimentClassifier
from unroll.models.language_model import CharLanguageModel
from unroll.presets import load_config
from unroll.training.budget import Budget
from unroll.training.optim import learning_rate_at

SENTIMENT = {
    "book": {"bidirectional": False, "learning_rate": 1e-3},
    "book_bidirectional": {"bidirectional": True, "learning_rate": 2e-3},
}


def sentiment(preset: str) -> SentimentConfig:
    config = load_config("sentiment", preset)
    assert isinstance(config, SentimentConfig)
    return config


def language_model() -> LanguageModelConfig:
    config = load_config("language_model", "book")
    assert isinstance(config, LanguageModelConfig)
    return config


# project one: the sentiment of reviews


@pytest.mark.parametrize("preset", SENTIMENT)
def test_reviews_are_split_and_read_as_in_the_chapter(preset: str) -> None:
    config = sentiment(preset)
    assert config.data.source == "imdb"
    assert config.data.validation_fraction * 25_000 == 5_000
    assert config.encoding.tokenizer == "book"
    assert config.encoding.vocab_size is None, "every word of the training split"
    assert config.encoding.min_count == 1
    assert config.encoding.max_length is None, "a review is never cut"


@pytest.mark.parametrize("preset", SENTIMENT)
def test_a_long_review_is_kept_whole_and_a_word_seen_once_has_an_id(preset: str, tmp_path: Path) -> None:
    train = [" ".join(f"w{chr(97 + number // 26 % 26)}{chr(97 + number % 26)}" for number in range(676))] * 2
    train[0] = f"{train[0]} {train[0]} onceonly"
    texts = {"train": train, "validation": ["onceonly unseen"], "test": ["onceonly"]}
    encode_reviews(
        lambda split: iter([texts[split]]),
        {split: np.zeros(len(part), np.int64) for split, part in texts.items()},
        {split: np.arange(len(part)) for split, part in texts.items()},
        ("negative", "positive"),
        sentiment(preset).encoding,
        tmp_path,
    )
    corpus = EncodedCorpus.open(tmp_path)
    assert corpus.split("train").lengths.tolist() == [2 * 676 + 1, 676]
    assert corpus.vocab_size == 2 + 676 + 1
    once, unseen = corpus.split("validation").item(0)
    assert (unseen, once > 1) == (1, True)


@pytest.mark.parametrize("preset", SENTIMENT)
def test_the_classifier_is_the_chapters(preset: str) -> None:
    config, both_ways = sentiment(preset).model, SENTIMENT[preset]["bidirectional"]
    assert (config.embedding_dim, config.cell, config.hidden_size, config.num_layers) == (20, "lstm", 64, 1)
    assert (config.head_size, config.pooling, config.output) == (64, ("last",), "sigmoid")
    assert config.bidirectional == both_ways
    assert (config.dropout, config.embedding_dropout, config.word_dropout) == (0, 0, 0)
    model = SentimentClassifier(config, vocab_size=50, num_classes=2)
    stack = model.recurrent
    assert [(layer.input_size, layer.hidden_size) for layer in stack.forward_layers] == [(20, 64)]
    assert [(layer.input_size, layer.hidden_size) for layer in stack.backward_layers] == [(20, 64)] * both_ways
    assert all(type(layer) is nn.LSTM for layer in [*stack.forward_layers, *stack.backward_layers])
    assert isinstance(model.head, nn.Sequential)
    first, activation, second = model.head
    assert (first.in_features, first.out_features) == (128 if both_ways else 64, 64)
    assert isinstance(activation, nn.ReLU)
    assert (second.in_features, second.out_features) == (64, 1)


@pytest.mark.parametrize("preset", SENTIMENT)
def test_the_classifier_is_trained_as_in_the_chapter(preset: str) -> None:
    training = sentiment(preset).training
    assert (training.batch_size, training.epochs) == (32, 10)
    assert (training.max_steps, training.max_minutes, training.patience) == (None, None, None), "all of ten epochs"
    assert (training.optimizer, training.betas, training.weight_decay) == ("adam", (0.9, 0.999), 0)
    learning_rate = SENTIMENT[preset]["learning_rate"]
    assert [learning_rate_at(done, training) for done in (0, 0.1, 0.5, 1)] == [learning_rate] * 4
    assert training.clip == "none"
    assert training.keep == "last"


def test_the_two_sentiment_presets_differ_where_the_chapter_says() -> None:
    one_way, both_ways = (flatten(sentiment(preset).model_dump(mode="json")) for preset in SENTIMENT)
    changed = {name for name in one_way if one_way[name] != both_ways[name]}
    assert changed == {"model.bidirectional", "training.learning_rate"}


# project two: a language model of The Mysterious Island


def test_the_language_model_is_the_chapters() -> None:
    config = language_model()
    assert (config.data.source, config.data.ebook) == ("gutenberg", CHAPTER_EBOOK)
    assert (config.encoding.vocab_size, config.encoding.min_count) == (None, 1)
    model = config.model
    assert (model.embedding_dim, model.cell, model.hidden_size, model.num_layers) == (256, "lstm", 512, 1)
    assert (model.dropout, model.embedding_dropout, model.tie_weights) == (0, 0, False)
    made = CharLanguageModel(model, CHAPTER_DISTINCT)
    assert (made.embedding.num_embeddings, made.embedding.embedding_dim) == (80, 256)
    assert [type(layer) for layer in made.recurrent.forward_layers] == [nn.LSTM]
    assert (made.output.in_features, made.output.out_features) == (512, 80)


def test_the_language_model_is_trained_as_in_the_chapter() -> None:
    training = language_model().training
    assert (training.window, training.batch_size, training.windows) == (40, 64, "random")
    assert (training.optimizer, training.betas, training.weight_decay) == ("adam", (0.9, 0.999), 0)
    assert [learning_rate_at(done, training) for done in (0, 0.1, 0.5, 1)] == [0.005] * 4
    assert training.loss_reduction == "sum"
    assert training.clip == "none"
    assert training.keep == "last"
    assert (training.max_minutes, training.patience) == (None, None)


def test_ten_thousand_steps_are_reached_within_the_epochs_on_the_chapters_book() -> None:
    config = language_model()
    training = config.training
    characters = len(split_text(CHAPTER_CHARACTERS, config.data, test_given=False).train)
    tokens = np.zeros(characters, np.uint8)
    steps_per_epoch = RandomWindows(tokens, training.batch_size, training.window, config.seed).num_batches
    assert training.max_steps == 10_000
    assert Budget(training, steps_per_epoch).total_batches == 10_000
    assert (training.epochs - 1) * steps_per_epoch < 10_000, "no more epochs than it takes"


def test_passages_are_drawn_at_the_chapters_scale_factors() -> None:
    evaluation = language_model().evaluation
    scale_factors = (1.0, 2.0, 0.5)  # as drawn; more predictable; more random
    assert evaluation.sample_temperatures == tuple(1 / factor for factor in scale_factors)
    assert evaluation.sample_prompt == "The island"
    assert evaluation.sample_length == 500


# the chapter's project one, trained the fast way


def test_book_fast_differs_from_book_in_how_it_is_trained_alone() -> None:
    book, fast = (flatten(sentiment(preset).model_dump(mode="json")) for preset in ("book", "book_fast"))
    different = {name: value for name, value in fast.items() if value != book[name]}
    assert different == {
        "training.bucket_batches": 100,
        "training.precision": "bfloat16",
        "training.shards": 2,
        "training.clip": "norm",
    }
