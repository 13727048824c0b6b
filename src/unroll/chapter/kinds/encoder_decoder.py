"""Many to many, delayed: the whole input is read before the first output, as in translating a sentence.

3 1 4 1 5    ->  5 1 4 1 3          an encoder's last state is all that the decoder knows (Sutskever et al. 2014)
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from unroll.chapter.synthetic import SequenceBatch, SyntheticProblem
from unroll.models.recurrent import LayerState, Recurrent

LENGTH = 5
DIGITS = 8
START = DIGITS
"""What the decoder reads before its first digit."""


class EncoderDecoder(nn.Module):
    """Two LSTMs: one reads, the other goes on from its state and reads what it has said itself."""

    def __init__(self, hidden_size: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(DIGITS + 1, hidden_size)
        self.encoder = Recurrent(hidden_size, hidden_size)
        self.decoder = Recurrent(hidden_size, hidden_size)
        self.output = nn.Linear(hidden_size, DIGITS)

    def forward(self, token_ids: Tensor, targets: Tensor | None = None) -> Tensor:
        """token_ids: (B, T) int64. Returns logits (B, T, DIGITS).

        With targets (B, T) the decoder is told the right digit before each (teacher forcing); without, it reads its
        own likeliest.
        """
        state = self.encoder(self.embedding(token_ids)).state
        said = token_ids.new_full((token_ids.size(0), 1), START)
        if targets is not None:
            return self._decode(torch.cat([said, targets[:, :-1]], dim=1), state)[0]
        logits = []
        for _ in range(token_ids.size(1)):
            step, state = self._decode(said, state)
            said = step.argmax(dim=-1)
            logits.append(step)
        return torch.cat(logits, dim=1)

    def _decode(
        self, said: Tensor, state: tuple[LayerState, ...] | None
    ) -> tuple[Tensor, tuple[LayerState, ...] | None]:
        sequence, _, state = self.decoder(self.embedding(said), state=state)
        return self.output(sequence), state


class Reversal(SyntheticProblem):
    """Say a list of digits backwards."""

    def make_model(self) -> nn.Module:
        """A new model, drawn from the global generator."""
        return EncoderDecoder()

    def draw(self, generator: np.random.Generator, count: int) -> SequenceBatch:
        """Digits (B, LENGTH), and the same ones backwards."""
        digits = generator.integers(0, DIGITS, (count, LENGTH))
        return SequenceBatch(torch.from_numpy(digits), torch.from_numpy(digits[:, ::-1].copy()))

    def logits(self, batch: SequenceBatch) -> Tensor:
        """While it learns, the decoder is told the right digits."""
        logits: Tensor = self.model(batch.inputs, batch.targets)
        return logits
