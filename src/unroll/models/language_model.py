"""Many-to-many: characters go in, the next character comes out at every step (chapter 15, project two).

Dimensions: B streams, T time, E embedding, H hidden units, V vocabulary.
"""

from __future__ import annotations

from torch import Tensor, nn

from unroll.config import CharModelConfig
from unroll.models.dropout import Dropout
from unroll.models.recurrent import LayerState, Recurrent


class CharLanguageModel(nn.Module):
    """Embedding, recurrent stack, and one linear layer onto the vocabulary, free or tied to the embedding.

    Tied weights: Press and Wolf 2017; Inan et al. 2017.
    """

    def __init__(self, config: CharModelConfig, vocab_size: int) -> None:
        """Make the layers with PyTorch's own initialisation, drawn from the global generator."""
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, config.embedding_dim)
        self.embedding_dropout = Dropout(config.embedding_dropout)
        self.recurrent = Recurrent(
            config.embedding_dim,
            config.hidden_size,
            config.num_layers,
            config.cell,
            dropout=config.dropout,
            recurrence=config.recurrence,
        )
        self.dropout = Dropout(config.dropout)
        self.output = nn.Linear(config.hidden_size, vocab_size)
        if config.tie_weights:
            # a unit-variance embedding would make the first logits so large that the loss starts at tens of nats
            nn.init.normal_(self.embedding.weight, std=config.embedding_dim**-0.5)
            self.output.weight = self.embedding.weight

    def forward(
        self, token_ids: Tensor, state: tuple[LayerState, ...] | None = None
    ) -> tuple[Tensor, tuple[LayerState, ...]]:
        """Score the next character at every position.

        token_ids: (B, T) int64; state: after the character before token_ids[:, 0], None at a text's start.
        Returns logits (B, T, V) and the state after step T.
        """
        embedded = self.embedding_dropout(self.embedding(token_ids))
        output = self.recurrent(embedded, state=state)
        assert output.state is not None  # one direction, full rows: the stack always carries
        logits: Tensor = self.output(self.dropout(output.sequence))
        return logits, output.state
