"""Project one: tokenise and pad each batch when it is asked for, pack it, and train with dense gradients.

Dimensions: B batch, T time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader

from benchmarks.chapter.tokenizer import tokenize

Batch = tuple[Tensor, Tensor, Tensor]
"""Token ids (B, T) int64 padded with 0, labels (B,) float32, lengths (B,) int64."""


class PackedClassifier(nn.Module):
    """Embedding, LSTM over packed sequences, its last hidden state, two linear layers, a sigmoid."""

    def __init__(self, vocab_size: int, embedding_dim: int = 20, hidden_size: int = 64, head_size: int = 64) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=0)
        self.lstm = nn.LSTM(embedding_dim, hidden_size, batch_first=True)
        self.hidden = nn.Linear(hidden_size, head_size)
        self.output = nn.Linear(head_size, 1)

    def logits(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        """One for each text, (B,)."""
        packed = pack_padded_sequence(self.embedding(token_ids), lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, (last_hidden, _) = self.lstm(packed)
        logits: Tensor = self.output(torch.relu(self.hidden(last_hidden[-1])))
        return logits.squeeze(1)

    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        """Probability that each text is positive, (B,)."""
        return torch.sigmoid(self.logits(token_ids, lengths))


def make_loader(
    texts: Sequence[str], labels: Sequence[int], ids_by_token: Mapping[str, int], batch_size: int = 32
) -> Iterable[Batch]:
    """Batches in an order that is drawn anew in each pass; every text is tokenised when its turn comes."""

    def collate(items: list[tuple[str, int]]) -> Batch:
        rows = [torch.tensor([ids_by_token.get(token, 1) for token in tokenize(text)] or [1]) for text, _ in items]
        lengths = torch.tensor([len(row) for row in rows])
        targets = torch.tensor([float(label) for _, label in items])
        return pad_sequence(rows, batch_first=True), targets, lengths

    pairs = list(zip(texts, labels, strict=True))
    return DataLoader(pairs, batch_size=batch_size, shuffle=True, collate_fn=collate)  # type: ignore[arg-type]


class SentimentTraining:
    """The chapter's loop: binary cross-entropy of the sigmoid, Adam, every row of the embedding touched each step."""

    def __init__(self, model: PackedClassifier, learning_rate: float = 1e-3) -> None:
        self.model = model
        self.optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
        self.loss_fn = nn.BCELoss()

    def train_epoch(self, loader: Iterable[Batch]) -> tuple[int, float]:
        """One pass. Returns the number of texts and their mean loss in nats."""
        self.model.train()
        num_texts, total_loss = 0, 0.0
        for token_ids, labels, lengths in loader:
            self.optimizer.zero_grad()
            loss = self.loss_fn(self.model(token_ids, lengths), labels)
            loss.backward()
            self.optimizer.step()
            num_texts += len(labels)
            total_loss += loss.item() * len(labels)
        return num_texts, total_loss / num_texts

    @torch.no_grad()
    def accuracy(self, loader: Iterable[Batch]) -> float:
        """Share of texts, 0 to 1, on whose right side of one half the model is."""
        self.model.eval()
        num_texts, num_right = 0, 0
        for token_ids, labels, lengths in loader:
            preds = (self.model(token_ids, lengths) >= 0.5).float()
            num_right += int((preds == labels).sum())
            num_texts += len(labels)
        return num_right / num_texts
