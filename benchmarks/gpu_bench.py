"""What `benchmarks.gpu_rows` measures: training, sampling and scoring on a device, at some shapes and precisions."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.products import Product, backward_products, lstm_products
from benchmarks.timed_problem import time_training
from unroll.config import AnyConfig, LanguageModelConfig, SentimentConfig
from unroll.data.encoded import EncodedCorpus
from unroll.generation import SamplingSettings, TextGenerator
from unroll.presets import make_config
from unroll.scoring import score_reviews
from unroll.training.device import DTYPES
from unroll.training.fit import make_problem
from unroll.training.language_model import LanguageModelProblem
from unroll.training.seed import seed_torch
from unroll.training.sentiment import SentimentProblem

BOUT_SECONDS = 2.5
ROUNDS = 3
WARM_UP_STEPS = 5


@dataclass(frozen=True)
class TextShape:
    """A language model and its batch."""

    embedding_dim: int
    hidden_size: int
    batch_size: int
    window: int


@dataclass(frozen=True)
class ReviewShape:
    """A classifier and its batch."""

    embedding_dim: int
    hidden_size: int
    bidirectional: bool
    batch_size: int
    batch_tokens: int | None


TEXT_SHAPES = {
    "book": TextShape(256, 512, 64, 40),
    "fast": TextShape(128, 512, 64, 100),
    "fast, 128 streams": TextShape(128, 512, 128, 100),
    "fast, 512 streams": TextShape(128, 512, 512, 100),
    "large, 128 streams": TextShape(256, 1024, 128, 150),
    "large, 512 streams": TextShape(256, 1024, 512, 150),
}
REVIEW_SHAPES = {
    "book": ReviewShape(20, 64, False, 32, None),
    "fast": ReviewShape(100, 128, True, 64, None),
    "wide, 64,000 tokens a batch": ReviewShape(128, 512, True, 1024, 64_000),
}


@dataclass(frozen=True)
class Measured:
    """One cell of the table."""

    row: str
    shape: str
    precision: str
    unit: str
    median: float
    lowest: float
    highest: float
    share_of_products: float | None = None
    """Of the rate at which the shape's matrix products alone would run; None where that says nothing."""


Work = Callable[[], float]
"""Does some of the work and returns its amount."""


class Bench:
    """The measurements; corpora are encoded once."""

    def __init__(self, device: torch.device, quick: bool, text: EncodedCorpus, reviews: EncodedCorpus) -> None:
        self._device = device
        self._quick = quick
        self._text = text
        self._reviews = reviews

    def train_text(self, name: str, shape: TextShape, precision: str) -> Measured:
        """Characters a second of `Trainer.fit`."""
        if self._quick:
            shape = TextShape(8, 16, min(shape.batch_size, 64), 10)
        config = _config(
            "language_model",
            {"embedding_dim": shape.embedding_dim, "hidden_size": shape.hidden_size},
            {"batch_size": shape.batch_size, "window": shape.window, "precision": precision},
            self._device,
        )
        sizes = (shape.batch_size, shape.window, shape.embedding_dim, shape.hidden_size, self._text.vocab_size)
        forward = lstm_products("step", *sizes)
        products = (*forward, *backward_products(forward))
        rate = _products_rate(products, DTYPES[precision], self._device, self._quick)
        limit = shape.batch_size * shape.window * rate
        return self._train(name, precision, config, self._text, "characters/s", limit)

    def train_reviews(self, name: str, shape: ReviewShape, precision: str) -> Measured:
        """Reviews' tokens a second of `Trainer.fit`, padding left out."""
        hidden = 8 if self._quick else shape.hidden_size
        config = _config(
            "sentiment",
            {"embedding_dim": shape.embedding_dim, "hidden_size": hidden, "bidirectional": shape.bidirectional},
            {"batch_size": shape.batch_size, "batch_tokens": shape.batch_tokens, "precision": precision},
            self._device,
        )
        return self._train(name, precision, config, self._reviews, "tokens/s", None)

    def sample(self, count: int) -> Measured:
        """Characters a second of `TextGenerator.generate`, of all texts together."""
        problem = self._make(_config("language_model", {"embedding_dim": 256, "hidden_size": 512}, {}, self._device))
        assert isinstance(problem, LanguageModelProblem)
        generator = TextGenerator(problem.model.to(self._device), self._text.encoder, self._device)
        length = 20 if self._quick else 200

        def work() -> float:
            made = generator.generate(["The island"] * count, SamplingSettings(length=length))
            return float(sum(len(text) for text in made))

        return _measured("sampling", f"{count} texts", "float32", "characters/s", _rates(work, self._device))

    def score(self, precision: str) -> Measured:
        """Reviews a second of `score_reviews`."""
        problem = self._make(_config("sentiment", {"embedding_dim": 100, "hidden_size": 128}, {}, self._device))
        assert isinstance(problem, SentimentProblem)
        model, split = problem.model.to(self._device), self._reviews.split("train")

        def work() -> float:
            score_reviews(model, split, self._device, precision)
            return float(len(split))

        return _measured("scoring reviews", "fast", precision, "reviews/s", _rates(work, self._device))

    def _train(
        self,
        name: str,
        precision: str,
        config: AnyConfig,
        corpus: EncodedCorpus,
        unit: str,
        limit: float | None,
    ) -> Measured:
        seed_torch(config.seed)
        problem = make_problem(config, corpus)

        def train(steps: int) -> float:
            training = config.training.model_copy(update={"max_steps": steps})
            timed, lap = time_training(problem, training)
            return timed.num_tokens / lap.seconds

        steps = WARM_UP_STEPS
        rate = train(steps)
        if not self._quick:
            # as many steps as fill a bout, by the second of two short ones: the first pays for the kernels' choice
            started = time.perf_counter()
            train(steps)
            steps = max(steps, min(2_000, int(steps * BOUT_SECONDS / (time.perf_counter() - started))))
        rates = [rate] if self._quick else [train(steps) for _ in range(ROUNDS)]
        row = "training text" if isinstance(config, LanguageModelConfig) else "training reviews"
        measured = _measured(row, name, precision, unit, rates)
        return measured if limit is None else _with_share(measured, measured.median / limit)

    def _make(self, config: AnyConfig) -> Any:
        seed_torch(config.seed)
        return make_problem(config, self._text if isinstance(config, LanguageModelConfig) else self._reviews)


def _config(project: str, model: dict[str, Any], training: dict[str, Any], device: torch.device) -> AnyConfig:
    common = {"epochs": 100_000, "device": str(device), "log_every": 50, "checkpoint_seconds": 3600.0}
    config = make_config(project, {"model": model, "training": {**common, **training}})
    assert isinstance(config, LanguageModelConfig | SentimentConfig)
    return config


def _products_rate(products: tuple[Product, ...], dtype: torch.dtype, device: torch.device, quick: bool) -> float:
    """Steps a second in which nothing but a step's matrix products takes time."""
    operands = [
        (
            torch.randn(product.rows, product.inner, device=device).to(dtype),
            torch.randn(product.inner, product.columns, device=device).to(dtype),
            product.calls,
        )
        for product in products
    ]

    def work() -> float:
        for left, right, calls in operands:
            _multiply(left, right, calls)
        return 1.0

    return median(_rates(work, device, seconds=0.05 if quick else 0.5))


@torch.no_grad()
def _multiply(left: Tensor, right: Tensor, calls: int) -> None:
    for _ in range(calls):
        torch.mm(left, right)


def _rates(work: Work, device: torch.device, seconds: float = BOUT_SECONDS) -> list[float]:
    """Amounts a second in some bouts, after a warm-up."""
    work()
    rates = []
    for _ in range(ROUNDS):
        _wait(device)
        started, amount = time.perf_counter(), 0.0
        while time.perf_counter() - started < seconds / ROUNDS:
            amount += work()
        _wait(device)
        rates.append(amount / (time.perf_counter() - started))
    return rates


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _measured(row: str, shape: str, precision: str, unit: str, rates: list[float]) -> Measured:
    return Measured(row, shape, precision, unit, median(rates), min(rates), max(rates))


def _with_share(measured: Measured, share: float) -> Measured:
    return Measured(**{**asdict(measured), "share_of_products": share})
