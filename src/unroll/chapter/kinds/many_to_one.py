"""Many to one: a sequence goes in, one class comes out, as in sentiment analysis.

k c A f b c B d k h    ->  A first          the same letters in another order have the other answer
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from unroll.chapter.synthetic import SequenceBatch, SyntheticProblem
from unroll.models.recurrent import Recurrent

LENGTH = 20
OTHERS = 8
"""Letters that mean nothing; A and B come after them."""


class ManyToOneModel(nn.Module):
    """Embedding, LSTM, and a linear layer on the last state."""

    def __init__(self, hidden_size: int = 32) -> None:
        super().__init__()
        self.embedding = nn.Embedding(OTHERS + 2, hidden_size)
        self.recurrent = Recurrent(hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, 2)

    def forward(self, token_ids: Tensor) -> Tensor:
        """token_ids: (B, T) int64. Returns logits (B, 2)."""
        logits: Tensor = self.output(self.recurrent(self.embedding(token_ids)).last_hidden)
        return logits


class ManyToOne(SyntheticProblem):
    """Which of two letters stands first?"""

    def make_model(self) -> nn.Module:
        """A new model, drawn from the global generator."""
        return ManyToOneModel()

    def draw(self, generator: np.random.Generator, count: int) -> SequenceBatch:
        """Letters (B, LENGTH), and 1 where B comes before A (B,)."""
        letters = generator.integers(0, OTHERS, (count, LENGTH))
        places = generator.permuted(np.tile(np.arange(LENGTH), (count, 1)), axis=1)[:, :2]
        np.put_along_axis(letters, places, np.array([[OTHERS, OTHERS + 1]]), axis=1)
        return SequenceBatch(
            torch.from_numpy(letters), torch.from_numpy((places[:, 0] > places[:, 1]).astype(np.int64))
        )
