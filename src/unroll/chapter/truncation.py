"""What truncated back-propagation leaves out: the gradient of k steps beside the gradient of all of them.

Chapter 15, truncated back-propagation through time. On running text almost all of a gradient comes from the last steps;
where something must be remembered for long, the missing part is what would have taught it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unroll.chapter.long_memory import Adding, MemoryModel, MemorySettings
from unroll.config import CharModelConfig
from unroll.data.sample import make_prose
from unroll.data.vocabulary import Vocabulary
from unroll.models.language_model import CharLanguageModel
from unroll.models.recurrent import detach_state
from unroll.training.seed import seed_torch

STEPS = 100
HORIZONS = (1, 2, 5, 10, 20, 50, 100)
"""Steps that a gradient goes back at most."""
PRACTICE_STEPS = 150
BATCH_SIZE = 16


@dataclass(frozen=True)
class TruncatedGradient:
    """A truncated gradient beside the whole one."""

    horizon: int
    cosine: float
    """Of the angle between the two, over the recurrent layer's weights: 1 where nothing is lost."""
    norm_ratio: float
    """The truncated gradient's norm as a share of the whole one's."""


def text_gradients(seed: int = 1) -> list[TruncatedGradient]:
    """Of a character language model on made prose, after a little practice."""
    text = make_prose(20_000, seed).text
    vocabulary = Vocabulary.build({character: text.count(character) for character in sorted(set(text))})
    token_ids = torch.tensor(vocabulary.ids(text))
    seed_torch(seed)
    model = CharLanguageModel(CharModelConfig(embedding_dim=32, hidden_size=64), len(vocabulary))
    generator = np.random.default_rng(seed)

    def draw() -> Tensor:
        starts = torch.from_numpy(generator.integers(0, len(token_ids) - STEPS, (BATCH_SIZE, 1)))
        return token_ids[starts + torch.arange(STEPS + 1)]

    def loss(batch: Tensor, horizon: int) -> Tensor:
        total, state = torch.zeros(()), None
        for start in range(0, STEPS, horizon):
            stop = min(start + horizon, STEPS)
            logits, state = model(batch[:, start:stop], detach_state(state))
            targets = batch[:, start + 1 : stop + 1]
            total = total + functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")
        return total / (BATCH_SIZE * STEPS)

    _practise(model, lambda: loss(draw(), STEPS))
    batch = draw()
    return _compare(model.recurrent, lambda horizon: loss(batch, horizon))


def adding_gradients(seed: int = 1) -> list[TruncatedGradient]:
    """Of an LSTM that is to add two numbers of a list of STEPS, after a little practice."""
    problem = Adding(MemorySettings(STEPS, "lstm"), seed, BATCH_SIZE, PRACTICE_STEPS + 1)
    model, batches = problem.model, problem.batches(0, 0)
    assert isinstance(model, MemoryModel)
    _practise(model, lambda: problem.loss(next(batches), None)[0])
    batch = next(batches)

    def loss(horizon: int) -> Tensor:
        model.truncate_at = horizon
        return problem.loss(batch, None)[0]

    return _compare(model.recurrent, loss)


def _practise(model: nn.Module, loss: Callable[[], Tensor]) -> None:
    """A gradient of new weights says little: take PRACTICE_STEPS first."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(PRACTICE_STEPS):
        optimizer.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def _compare(layers: nn.Module, loss: Callable[[int], Tensor]) -> list[TruncatedGradient]:
    def gradient(horizon: int) -> Tensor:
        parts = torch.autograd.grad(loss(horizon), list(layers.parameters()))
        return torch.cat([part.flatten() for part in parts]).double()

    whole = gradient(STEPS)
    compared = []
    for horizon in HORIZONS:
        part = gradient(horizon)
        cosine = float(functional.cosine_similarity(part, whole, dim=0))
        compared.append(TruncatedGradient(horizon, cosine, float(part.norm() / whole.norm())))
    return compared
