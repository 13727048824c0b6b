"""A step of the language model: the chapter's loop against ours and PyTorch's own example, and the products alone.

The products are contestants too, in characters/s of a training in which nothing but them takes time, so the share of
the machine's limit that a contestant reaches is a ratio within a round like any other.
"""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.chapter.language_model import LanguageModelTraining, OneStepModel, Windows
from benchmarks.corpora import Corpus, book_config, book_corpus
from benchmarks.measure import WARM_UP, Bout, Contestant, timed
from benchmarks.peers import keras_lstm, word_language_model
from benchmarks.plan import Plan, Row
from benchmarks.products import Product, TrainingProducts, backward_products, lstm_products, total_flops
from benchmarks.ratios import Promise
from benchmarks.same_losses import losses_on_the_same_windows
from benchmarks.timed_problem import training_bout
from unroll.config import CharModelConfig, LanguageModelConfig
from unroll.training.language_model import LanguageModelProblem
from unroll.training.seed import seed_torch

STEPS = {"chapter": 10, "ours": 24, "products": 24, "peer": 24}
"""Steps of a bout, of 64 windows of 40 characters."""
QUICK_STEPS = 2
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def make_row(plan: Plan) -> Row:
    """The chapter's loop, ours in both precisions, PyTorch's example, Keras where it is there, and the products."""
    corpus = book_corpus("language_model", plan)
    encoded = corpus.open_encoded()
    config = _config(plan, "float32")
    products = model_products(config, encoded.vocab_size)
    tokens = np.asarray(encoded.split("train").tokens)
    peers = [word_language_model.make_contestant(config, tokens, encoded.vocab_size, _steps(plan, "peer"))]
    if keras_lstm.is_there():
        peers.append(keras_lstm.make_contestant(config, tokens, encoded.vocab_size, _steps(plan, "chapter")))
    return Row(
        unit="characters/s",
        data=f"{corpus.description}: 64 random windows of 40 characters a step, {encoded.vocab_size} ids",
        contestants=(
            _chapter(plan, config, corpus),
            *(_ours(plan, corpus, precision) for precision in PRECISIONS),
            *peers,
            *(_products(plan, config, products, precision) for precision in PRECISIONS),
        ),
        promises=_promises([peer.name for peer in peers]),
        rounds=plan.num_rounds(7),
        notes=_notes(total_flops(products) / _characters(config)),
        checks=lambda: losses_on_the_same_windows(config, encoded, steps=2 if plan.quick else 30),
    )


def model_products(config: LanguageModelConfig, vocab_size: int) -> tuple[Product, ...]:
    """All products of a step."""
    model, training = config.model, config.training
    forward = lstm_products(
        "language model", training.batch_size, training.window, model.embedding_dim, model.hidden_size, vocab_size
    )
    return (*forward, *backward_products(forward))


def _promises(peers: list[str]) -> tuple[Promise, ...]:
    return (
        Promise("unroll, float32, over the chapter's way", "unroll float32", "chapter"),
        Promise("unroll, bfloat16, over the chapter's way", "unroll bfloat16", "chapter", at_least=2.8),
        Promise("unroll, float32: share of the float32 products' rate", "unroll float32", "products float32", 0.9),
        Promise("unroll, bfloat16: share of the bfloat16 products' rate", "unroll bfloat16", "products bfloat16", 0.55),
        *(Promise(f"{peer} over the chapter's way", peer, "chapter") for peer in peers),
    )


def _notes(flops_per_character: float) -> tuple[str, ...]:
    return (
        f"A character of training is counted as {flops_per_character / 1e6:.2f} MFLOP, matrix products alone: "
        "2·(E·4H + H·4H + H·V) forward and twice that backward.",
        "The products are those of a step at their own shapes, each in the fastest of the ways that PyTorch has for "
        "it: all inputs of a window as one, the recurrence one a step, all outputs as one; backward the same, and the "
        "weights' gradients as one product each.",
        "Of the two shares, at least one of 0.9 (float32) and 0.55 (bfloat16) was asked for.",
    )


def _config(plan: Plan, precision: str) -> LanguageModelConfig:
    overrides = ["training.epochs=100000", f"training.precision={precision}"]
    config = book_config("language_model", plan, *overrides)
    assert isinstance(config, LanguageModelConfig)
    assert isinstance(config.model, CharModelConfig)
    return config


def _steps(plan: Plan, contestant: str) -> int:
    return QUICK_STEPS if plan.quick else STEPS[contestant]


def _characters(config: LanguageModelConfig) -> int:
    return config.training.batch_size * config.training.window


def _chapter(plan: Plan, config: LanguageModelConfig, corpus: Corpus) -> Contestant:
    encoded = corpus.open_encoded()
    windows = Windows(encoded.split("train").tokens, config.training.window)
    seed_torch(plan.seed)
    model = OneStepModel(encoded.vocab_size, config.model.embedding_dim, config.model.hidden_size)
    training = LanguageModelTraining(model, windows, config.training.batch_size, config.training.learning_rate)

    def bout(number: int) -> Bout:
        return timed(lambda: training.train_steps(1 if number == WARM_UP else _steps(plan, "chapter")))

    return Contestant("chapter", "all windows shuffled for each step, one LSTM call a character, Adam, float32", bout)


def _ours(plan: Plan, corpus: Corpus, precision: str) -> Contestant:
    encoded = corpus.open_encoded()
    config = _config(plan, precision)
    seed_torch(plan.seed)
    problem = LanguageModelProblem(config, encoded)

    def bout(number: int) -> Bout:
        steps = 1 if number == WARM_UP else _steps(plan, "ours")
        return training_bout(problem, config.training.model_copy(update={"max_steps": steps}))

    return Contestant(f"unroll {precision}", f"Trainer.fit, one LSTM call a window, fused Adam, {precision}", bout)


def _products(plan: Plan, config: LanguageModelConfig, products: tuple[Product, ...], precision: str) -> Contestant:
    runner = TrainingProducts(products, PRECISIONS[precision])

    def bout(number: int) -> Bout:
        steps = 1 if number == WARM_UP else _steps(plan, "products")

        def work() -> float:
            runner.run(steps)
            return steps * _characters(config)

        return timed(work)

    return Contestant(f"products {precision}", f"the step's matrix products and nothing else, {precision}", bout)
