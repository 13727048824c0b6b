"""Many to many, in step: each element of a sequence gets its class as it is read, as in labelling a video's frames.

- Ann k c Bob d f k Ann c        who is speaking?
-  A  A A  B  B B B  A  A
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from unroll.chapter.synthetic import SequenceBatch, SyntheticProblem
from unroll.models.recurrent import Recurrent

LENGTH = 30
SPEAKERS = 4
WORDS = 8
NAME_SHARE = 0.1
"""Share of the places at which the speaker changes."""


class TaggingModel(nn.Module):
    """Embedding, LSTM, and a linear layer on every state."""

    def __init__(self, hidden_size: int = 32) -> None:
        super().__init__()
        self.embedding = nn.Embedding(WORDS + SPEAKERS, hidden_size)
        self.recurrent = Recurrent(hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, SPEAKERS + 1)

    def forward(self, token_ids: Tensor) -> Tensor:
        """token_ids: (B, T) int64. Returns logits (B, T, SPEAKERS + 1)."""
        logits: Tensor = self.output(self.recurrent(self.embedding(token_ids)).sequence)
        return logits


class Tagging(SyntheticProblem):
    """Tag every word with the speaker named last; 0 where nobody has been named yet."""

    def make_model(self) -> nn.Module:
        """A new model, drawn from the global generator."""
        return TaggingModel()

    def draw(self, generator: np.random.Generator, count: int) -> SequenceBatch:
        """Words and names (B, LENGTH), and the speaker at each place (B, LENGTH)."""
        shape = (count, LENGTH)
        named = generator.random(shape) < NAME_SHARE
        names = generator.integers(0, SPEAKERS, shape)
        tokens = np.where(named, WORDS + names, generator.integers(0, WORDS, shape))
        last_named = np.maximum.accumulate(np.where(named, np.arange(LENGTH), -1), axis=1)
        speakers = np.where(last_named >= 0, 1 + np.take_along_axis(names, np.maximum(last_named, 0), axis=1), 0)
        return SequenceBatch(torch.from_numpy(tokens), torch.from_numpy(speakers))
