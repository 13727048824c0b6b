"""The plain way to score reviews: each batch tokenised by Python when its turn comes, packed, under no_grad.

It has the weights of one of our classifiers, whatever its shape, so that both must give the same probabilities.
Dimensions: B batch, T time, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from unroll.models.classifier import SentimentClassifier
from unroll.prediction import SentimentPredictor


class PackedTwin(nn.Module):
    """One packed call of `nn.LSTM`, its pooling and the head: a classifier of ours with one layer of LSTM, anew."""

    def __init__(self, model: SentimentClassifier) -> None:
        """Copy the weights."""
        super().__init__()
        layers = list(model.recurrent.forward_layers) + list(model.recurrent.backward_layers)
        first = layers[0]
        assert isinstance(first, nn.LSTM)
        assert len(layers) == model.recurrent.num_directions
        self.embedding, self.head = model.embedding, model.head
        self.pooling, self.output = model.pooling, model.output
        self.lstm = nn.LSTM(first.input_size, first.hidden_size, batch_first=True, bidirectional=len(layers) == 2)
        for layer, ending in zip(layers, ("", "_reverse"), strict=False):
            for name, parameter in layer.named_parameters():
                self.lstm.get_parameter(name + ending).data.copy_(parameter)

    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        """token_ids: (B, T) int64 padded with 0; lengths: (B,). Returns probabilities (B, K)."""
        packed = pack_padded_sequence(self.embedding(token_ids), lengths, batch_first=True, enforce_sorted=False)
        outputs, (last_hidden, _) = self.lstm(packed)
        pooled = [self._pool(pooling, outputs, last_hidden, lengths) for pooling in self.pooling]
        logits = self.head(torch.cat(pooled, dim=-1))
        if self.output == "sigmoid":
            positive = torch.sigmoid(logits)
            return torch.cat([1 - positive, positive], dim=-1)
        return torch.softmax(logits, dim=-1)

    def _pool(self, pooling: str, outputs: nn.utils.rnn.PackedSequence, last_hidden: Tensor, lengths: Tensor) -> Tensor:
        if pooling == "last":
            return torch.cat(list(last_hidden), dim=-1)
        if pooling == "mean":
            return pad_packed_sequence(outputs, batch_first=True)[0].sum(dim=1) / lengths.unsqueeze(1)
        return pad_packed_sequence(outputs, batch_first=True, padding_value=float("-inf"))[0].amax(dim=1)


class PlainScorer:
    """A predictor's model and encoder, used the plain way."""

    def __init__(self, predictor: SentimentPredictor) -> None:
        assert isinstance(predictor.saved.model, SentimentClassifier)
        self._model = PackedTwin(predictor.saved.model).eval()
        self._encoder = predictor.saved.encoder

    @torch.no_grad()
    def score(self, texts: Sequence[str], batch_size: int = 32) -> Tensor:
        """Probabilities (N, K) of texts, in their order."""
        probs = []
        for start in range(0, len(texts), batch_size):
            rows = [torch.tensor(self._encoder.encode(text)) for text in texts[start : start + batch_size]]
            lengths = torch.tensor([len(row) for row in rows])
            probs.append(self._model(pad_sequence(rows, batch_first=True), lengths))
        return torch.cat(probs)
