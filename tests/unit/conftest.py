"""Small encoded corpora and settings that the tests of models, training and scoring share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from unroll.config import AnyConfig, CharEncodingConfig, LanguageModelConfig, WordEncodingConfig
from unroll.data.encoded import EncodedCorpus, encode_reviews, encode_text
from unroll.data.sample import iter_reviews, make_prose
from unroll.presets import make_config
from unroll.training.fit import make_problem
from unroll.training.metrics import SilentLogger
from unroll.training.seed import seed_torch
from unroll.training.trainer import Trainer

# a first example pays for imports and a busy machine for its neighbours; pytest-timeout ends what hangs
settings.register_profile("unroll", deadline=None)
settings.load_profile("unroll")

SMALL: dict[str, dict[str, Any]] = {
    "sentiment": {
        "model": {"embedding_dim": 6, "hidden_size": 5, "num_layers": 2, "dropout": 0.2, "word_dropout": 0.1},
        "training": {"batch_size": 8, "epochs": 2, "learning_rate": 0.01},
    },
    "language_model": {
        "model": {"embedding_dim": 6, "hidden_size": 8, "num_layers": 2, "dropout": 0.2, "embedding_dropout": 0.1},
        "training": {"batch_size": 6, "epochs": 2, "learning_rate": 0.01, "window": 12},
        "evaluation": {"sample_length": 5},
    },
}


@pytest.fixture(scope="session")
def encoded_reviews(tmp_path_factory: pytest.TempPathFactory) -> EncodedCorpus:
    """75 training reviews, 20 to validate, 20 to test, in two classes."""
    folder = tmp_path_factory.mktemp("reviews")
    reviews = [review for chunk in iter_reviews(115, seed=3) for review in chunk]
    parts = {"train": reviews[:75], "validation": reviews[75:95], "test": reviews[95:]}
    encode_reviews(
        lambda split: iter([[review.text for review in parts[split]]]),
        {split: np.array([review.label for review in part], np.int64) for split, part in parts.items()},
        {split: np.arange(len(part)) for split, part in parts.items()},
        ("negative", "positive"),
        WordEncodingConfig(tokenizer="word", vocab_size=300, max_length=40),
        folder,
    )
    return EncodedCorpus.open(folder)


@pytest.fixture(scope="session")
def encoded_text(tmp_path_factory: pytest.TempPathFactory) -> EncodedCorpus:
    """600 characters to train on, 200 to validate, 200 to test."""
    folder = tmp_path_factory.mktemp("text")
    text = make_prose(1_000, seed=3).text
    encode_text({"train": text[:600], "validation": text[600:800], "test": text[800:]}, CharEncodingConfig(), folder)
    return EncodedCorpus.open(folder)


@pytest.fixture(scope="session")
def small_config() -> Callable[..., AnyConfig]:
    """small_config(project, training={...}, model={...}): settings of a model that trains in a blink."""

    def make(project: str, **sections: dict[str, Any]) -> AnyConfig:
        settings: dict[str, Any] = {name: dict(section) for name, section in SMALL[project].items()}
        for name, section in sections.items():
            settings[name] = {**settings.get(name, {}), **section}
        settings["training"].setdefault("checkpoint_seconds", 3600)
        settings["training"].setdefault("device", "cpu")
        return make_config(project, settings)

    return make


@pytest.fixture(scope="session")
def make_trainer(encoded_reviews: EncodedCorpus, encoded_text: EncodedCorpus) -> Callable[..., Trainer]:
    """make_trainer(config, folder): as the train stage makes one, seeded first."""

    def make(config: AnyConfig, folder: Path) -> Trainer:
        seed_torch(config.seed)
        corpus = encoded_text if isinstance(config, LanguageModelConfig) else encoded_reviews
        return Trainer(make_problem(config, corpus), config.training, folder, SilentLogger())

    return make
