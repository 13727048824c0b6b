"""A made task for the training loop: batches drawn from a seeded generator, so no file, no split and no epoch's end.

What a project must bring to `unroll.training.trainer.Trainer` is `unroll.training.problem.Problem`; a made one adds to
this class its model and how a batch is drawn. Dimensions: B batch, T time, K classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unroll.data.batching import PairBatch
from unroll.training.device import autocast
from unroll.training.problem import Batch, CarriedState, Score
from unroll.training.seed import seed_torch

VALIDATION_ITEMS = 1_000
_VALIDATION = 2**32 - 1
"""Takes the place of an epoch's number in the seed of the validation items."""


@dataclass(frozen=True)
class SequenceBatch(PairBatch):
    """Made items."""

    inputs: Tensor
    """(B, T) int64, or (B, T, E) or (B, E) float32."""
    targets: Tensor
    """(B,) or (B, T) int64 classes, or (B,) float32."""


class SyntheticProblem(ABC):
    """Implements `unroll.training.problem.Problem`; a batch is a pure function of (seed, epoch, index)."""

    unit = "targets"
    score = Score("accuracy", higher_is_better=True)

    def __init__(self, seed: int, batch_size: int, steps_per_epoch: int) -> None:
        """steps_per_epoch: batches between two looks at the validation items, of which no two are the same."""
        self.seed = seed
        self.batch_size = batch_size
        self.steps_per_epoch = steps_per_epoch
        seed_torch(seed)
        self.model = self.make_model()

    @abstractmethod
    def make_model(self) -> nn.Module:
        """A new model, drawn from the global generator."""

    @abstractmethod
    def draw(self, generator: np.random.Generator, count: int) -> SequenceBatch:
        """Make ``count`` items."""

    def batches(self, epoch: int, start: int) -> Iterator[SequenceBatch]:
        """The batches of an epoch from the ``start``-th on."""
        for index in range(start, self.steps_per_epoch):
            yield self.draw(np.random.default_rng([self.seed, epoch, index]), self.batch_size)

    def logits(self, batch: SequenceBatch) -> Tensor:
        """What the model says while it learns: (B, K) or (B, T, K)."""
        logits: Tensor = self.model(batch.inputs)
        return logits

    def loss(self, batch: Batch, carried: CarriedState) -> tuple[Tensor, CarriedState]:
        """Mean cross-entropy over every prediction, in nats; nothing is carried on."""
        assert isinstance(batch, SequenceBatch)
        return functional.cross_entropy(self.logits(batch).float().flatten(0, -2), batch.targets.flatten()), None

    def loss_weight(self, batch: Batch) -> float:
        """The mean loss is what is back-propagated."""
        return 1.0

    @torch.inference_mode()
    def validate(self, device: torch.device, precision: str) -> dict[str, float]:
        """How the model does on items that are the same at every look."""
        self.model.eval()
        batch = self.validation_items().to(device)
        with autocast(device, precision):
            output = self.model(batch.inputs)
        return self.judge(output.float(), batch.targets)

    def judge(self, output: Tensor, targets: Tensor) -> dict[str, float]:
        """Share of right predictions. output: (B, K) or (B, T, K); targets: (B,) or (B, T)."""
        return {"accuracy": float((output.argmax(dim=-1) == targets).float().mean())}

    def validation_items(self) -> SequenceBatch:
        """VALIDATION_ITEMS items that training never draws from the same generator."""
        return self.draw(np.random.default_rng([self.seed, _VALIDATION]), VALIDATION_ITEMS)

    def sample(self, device: torch.device) -> str | None:
        """Nothing is generated."""
        return None
