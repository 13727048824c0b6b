"""What a project brings to the training loop: its model, batches, loss and validation score."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor, nn

from unroll.models.recurrent import LayerState

CarriedState = tuple[LayerState, ...] | None


class Batch(Protocol):
    """What one step is computed from; each project has its own kind."""

    def to(self, device: torch.device) -> Self:
        """The same batch on another device."""

    @property
    def num_tokens(self) -> int:
        """Tokens read, padding left out."""

    @property
    def num_places(self) -> int:
        """Places in the batch, padding counted in."""

    @property
    def num_rows(self) -> int:
        """Texts, streams or windows."""

    def shards(self, number: int) -> list[Self]:
        """The rows dealt out to so many batches, or to one each where there are fewer."""


@dataclass(frozen=True)
class Score:
    """The validation metric that chooses the best checkpoint."""

    name: str
    higher_is_better: bool

    def improves(self, value: float, best: float | None) -> bool:
        """Whether ``value`` beats ``best``; the first value always does, unless it is not a number."""
        if value != value:
            return False
        return best is None or (value > best if self.higher_is_better else value < best)


class Problem(Protocol):
    """One project, ready to train."""

    score: Score
    steps_per_epoch: int
    unit: str
    """What a token is, for the log: words or characters."""

    @property
    def model(self) -> nn.Module:
        """What is trained."""

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """The batches of an epoch from the ``start``-th on; the same for the same (seed, epoch, start)."""

    def loss(self, batch: Batch, carried: CarriedState) -> tuple[Tensor, CarriedState]:
        """Mean loss in nats, a scalar with a graph, and the state to carry to the next batch."""

    def loss_weight(self, batch: Batch) -> float:
        """What the mean loss is multiplied by before back-propagation; 1 but where steps are summed."""

    def validate(self, device: torch.device, precision: str) -> dict[str, float]:
        """Metrics on the validation split, the score's among them. Leaves every random generator as it was."""

    def sample(self, device: torch.device) -> str | None:
        """A generated passage for the record, or None. Leaves every random generator as it was."""
