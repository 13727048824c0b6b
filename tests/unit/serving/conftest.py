"""Small models in folders, and an application that serves them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from starlette.testclient import TestClient

from unroll.config import AnyConfig
from unroll.data.encoded import EncodedCorpus
from unroll.errors import RegistryError
from unroll.generation import TextGenerator
from unroll.prediction import SentimentPredictor
from unroll.serving.app import make_app
from unroll.serving.settings import ServingSettings
from unroll.serving.source import ServedVersion
from unroll.training.fit import train
from unroll.training.metrics import SilentLogger

CPU = torch.device("cpu")


class FakeRegistry:
    """A source whose champion a test moves, and which a test may take away."""

    def __init__(self, name: str, *folders: Path) -> None:
        self.name = name
        self.folders = list(folders)
        self.champion: int | None = 0 if folders else None
        self.is_away = False

    def current(self) -> ServedVersion | None:
        if self.is_away:
            raise RegistryError("http://user:secret@registry does not answer; start it.")
        if self.champion is None:
            return None
        return ServedVersion(self.name, str(self.champion + 1), f"digest-{self.champion + 1}")

    @contextmanager
    def folder(self, version: ServedVersion) -> Iterator[Path]:
        yield self.folders[int(version.number) - 1]


@pytest.fixture(scope="session")
def sentiment_folders(
    small_config: Callable[..., AnyConfig], encoded_reviews: EncodedCorpus, tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """Two classifiers that differ."""
    folders = []
    for steps in (2, 6):
        folders.append(tmp_path_factory.mktemp("sentiment"))
        config = small_config("sentiment", training={"max_steps": steps})
        train(config, encoded_reviews.folder, tmp_path_factory.mktemp("work"), folders[-1], SilentLogger())
    return folders


@pytest.fixture(scope="session")
def text_folder(
    small_config: Callable[..., AnyConfig], encoded_text: EncodedCorpus, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A small language model."""
    folder = tmp_path_factory.mktemp("text")
    config = small_config("language_model", training={"max_steps": 5})
    train(config, encoded_text.folder, tmp_path_factory.mktemp("work"), folder, SilentLogger())
    return folder


@pytest.fixture(scope="session")
def predictors(sentiment_folders: list[Path]) -> list[SentimentPredictor]:
    return [SentimentPredictor.load(folder, CPU) for folder in sentiment_folders]


@pytest.fixture(scope="session")
def generator(text_folder: Path) -> TextGenerator:
    return TextGenerator.load(text_folder, CPU)


@pytest.fixture
def sentiment_registry(sentiment_folders: list[Path]) -> FakeRegistry:
    return FakeRegistry("reviews", *sentiment_folders)


@pytest.fixture
def text_registry(text_folder: Path) -> FakeRegistry:
    return FakeRegistry("prose", text_folder)


@pytest.fixture
def serving(sentiment_registry: FakeRegistry, text_registry: FakeRegistry) -> Callable[..., TestClient]:
    """serving(token="…", …): a client of an application with these settings; enter it to start the application."""

    def make(**settings: object) -> TestClient:
        settings = {"seconds_between_looks": 0.02, **settings}
        return TestClient(make_app(sentiment_registry, text_registry, CPU, ServingSettings(**settings)))  # type: ignore[arg-type]

    return make
