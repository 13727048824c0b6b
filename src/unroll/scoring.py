"""Scoring a split with a trained model: class probabilities of texts, and the code length of running text."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from unroll.data.batching import pad_batch, sorted_batches
from unroll.data.vocabulary import Vocabulary
from unroll.models.classifier import SentimentClassifier
from unroll.models.language_model import CharLanguageModel
from unroll.training.device import autocast

UNKNOWN_CHARACTER_NATS = math.log(0x110000)
"""Cost of naming which character an `<unk>` stands for: one of Unicode's code points, all alike."""

WARM_UP = 500
"""Characters that each scored stream reads before its first prediction."""
STREAM_LENGTH = 2_000
"""Least characters that a stream scores, so that warming up stays a small part of the work."""
MAX_STREAMS = 64
WINDOW = 250


class Sequences(Protocol):
    """Encoded texts: a split of a corpus, or a few in memory."""

    def __len__(self) -> int: ...

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(N,): tokens of each text."""

    def item(self, index: int) -> NDArray[np.integer]:
        """Token ids of one text."""


@torch.inference_mode()
def score_reviews(
    model: SentimentClassifier, split: Sequences, device: torch.device, precision: str, batch_size: int = 128
) -> NDArray[np.float64]:
    """Class probabilities of every item, in the split's order: (N, K), rows summing to one."""
    model.eval()
    probs: NDArray[np.float64] | None = None
    for items in sorted_batches(split.lengths, batch_size):
        batch = pad_batch([np.asarray(split.item(int(item))) for item in items]).to(device)
        with autocast(device, precision):
            logits = model(batch.token_ids, batch.lengths)
        batch_probs = torch.softmax(logits.double(), dim=-1).cpu().numpy()
        if probs is None:
            probs = np.empty((len(split), batch_probs.shape[1]))
        probs[items] = batch_probs
    return np.empty((0, 0)) if probs is None else probs


@torch.inference_mode()
def score_text(
    model: CharLanguageModel,
    token_ids: NDArray[np.integer],
    context: NDArray[np.integer],
    device: torch.device,
    precision: str,
    vocab_size: int,
) -> NDArray[np.float64]:
    """Nats that each character costs, given the ``WARM_UP`` or more before it: (N,).

    token_ids: (N,) what is scored; context: the ids just before it, as many as there are. With no context at all the
    first character costs a uniform draw from the vocabulary. A character that the vocabulary lacks costs its `<unk>`
    plus `UNKNOWN_CHARACTER_NATS`, so that the sum is the length of a real code.
    """
    model.eval()
    text = np.concatenate([np.asarray(context[-WARM_UP - 1 :]), np.asarray(token_ids)]).astype(np.int64)
    nats = np.empty(len(text))
    nats[:1] = math.log(vocab_size)
    first = max(len(text) - len(token_ids), 1)
    num_streams = min(MAX_STREAMS, max(1, len(token_ids) // STREAM_LENGTH))
    edges = np.linspace(first, len(text), num_streams + 1).astype(int)
    starts = np.maximum(edges[:-1] - WARM_UP - 1, 0)
    streams = pad_batch([text[start:stop] for start, stop in zip(starts, edges[1:], strict=True)]).token_ids.to(device)
    losses = _stream_losses(model, streams, device, precision)
    for row, (start, begin, stop) in enumerate(zip(starts, edges[:-1], edges[1:], strict=True)):
        nats[begin:stop] = losses[row, begin - start - 1 : stop - start - 1]
    nats += np.where(text == Vocabulary.UNK_ID, UNKNOWN_CHARACTER_NATS, 0.0)
    return nats[len(text) - len(token_ids) :]


def _stream_losses(
    model: CharLanguageModel, streams: torch.Tensor, device: torch.device, precision: str
) -> NDArray[np.float64]:
    """streams: (S, L). Returns (S, L - 1): the cost of each character after the first, in nats."""
    losses = []
    state = None
    for start in range(0, streams.size(1) - 1, WINDOW):
        inputs = streams[:, start : min(start + WINDOW, streams.size(1) - 1)]
        targets = streams[:, start + 1 : start + 1 + inputs.size(1)]
        with autocast(device, precision):
            logits, state = model(inputs, state)
        loss = functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
        losses.append(loss.view_as(targets).double().cpu())
    return torch.cat(losses, dim=1).numpy() if losses else np.empty((streams.size(0), 0))
