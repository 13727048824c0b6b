"""Many-to-one: a text goes in, one class comes out (chapter 15, project one).

Dimensions: B batch, T time, H hidden units, D directions, P poolings, K classes, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unroll.config import SentimentModelConfig
from unroll.data.vocabulary import Vocabulary
from unroll.errors import ConfigError
from unroll.models.dropout import Dropout, random_mask
from unroll.models.recurrent import Recurrent, RecurrentOutput


class SentimentClassifier(nn.Module):
    """Embedding, recurrent stack, pooling over time, and a linear head on K classes (two or more)."""

    def __init__(self, config: SentimentModelConfig, vocab_size: int, num_classes: int) -> None:
        """Make the layers with PyTorch's own initialisation, drawn from the global generator.

        Raises ConfigError for a sigmoid output with any other number of classes than two.
        """
        super().__init__()
        if config.output == "sigmoid" and num_classes != 2:
            raise ConfigError(f"model.output=sigmoid needs two classes, the corpus has {num_classes}; use softmax.")
        self.output = config.output
        self.pooling = config.pooling
        self.word_dropout = config.word_dropout
        self.embedding = nn.Embedding(vocab_size, config.embedding_dim, padding_idx=Vocabulary.PAD_ID)
        self.embedding_dropout = Dropout(config.embedding_dropout)
        self.recurrent = Recurrent(
            config.embedding_dim,
            config.hidden_size,
            config.num_layers,
            config.cell,
            config.bidirectional,
            config.dropout,
            config.recurrence,
        )
        pooled_size = self.recurrent.output_size * len(config.pooling)
        self.dropout = Dropout(config.dropout)
        self.head = _make_head(pooled_size, config.head_size, 1 if config.output == "sigmoid" else num_classes)

    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        """Score the classes. token_ids: (B, T) int64, padded with 0; lengths: (B,) int64. Returns logits (B, K)."""
        if self.training and self.word_dropout > 0:
            dropped = random_mask(token_ids, self.word_dropout)
            token_ids = token_ids.masked_fill(dropped & (token_ids != Vocabulary.PAD_ID), Vocabulary.UNK_ID)
        embedded = self.embedding_dropout(self.embedding(token_ids))
        output = self.recurrent(embedded, lengths, mask_padding="mean" in self.pooling)
        logits: Tensor = self.head(self.dropout(self._pool(output, lengths)))
        if self.output == "sigmoid":
            # a softmax over (0, z) gives the second class sigmoid(z), and its cross-entropy is the binary one
            logits = torch.cat([torch.zeros_like(logits), logits], dim=-1)
        return logits

    def _pool(self, output: RecurrentOutput, lengths: Tensor) -> Tensor:
        pooled = []
        for pooling in self.pooling:
            if pooling == "last":
                pooled.append(output.last_hidden)
            elif pooling == "mean":
                # padding is zero in the sequence, so the sum is over the text alone
                pooled.append(output.sequence.sum(dim=1) / lengths.unsqueeze(-1).to(output.sequence.dtype))
            else:
                padding = torch.arange(output.sequence.size(1), device=lengths.device) >= lengths.unsqueeze(1)
                pooled.append(output.sequence.masked_fill(padding.unsqueeze(-1), float("-inf")).amax(dim=1))
        return torch.cat(pooled, dim=-1)


def _make_head(input_size: int, head_size: int | None, output_size: int) -> nn.Module:
    if head_size is None:
        return nn.Linear(input_size, output_size)
    return nn.Sequential(nn.Linear(input_size, head_size), nn.ReLU(), nn.Linear(head_size, output_size))
