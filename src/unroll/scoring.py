"""Scoring a split with a trained model: class probabilities of texts, and the code length of running text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from unroll.data.batching import pad_batch
from unroll.data.vocabulary import Vocabulary
from unroll.models.classifier import SentimentClassifier
from unroll.models.language_model import CharLanguageModel
from unroll.threads import map_on_threads
from unroll.training.device import autocast

MOST_PLACES = 16_384
"""Places of a batch of reviews, padding counted in: few enough that a layer's gates stay in a core's cache."""

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


def score_reviews(
    model: SentimentClassifier, split: Sequences, device: torch.device, precision: str, most_places: int = MOST_PLACES
) -> NDArray[np.float64]:
    """Class probabilities of every item, in the split's order: (N, K), rows summing to one.

    Texts of like length go into a batch together; see `budgeted_batches` for most_places. On a CPU each of several
    threads scores batches of its own. How the work is cut changes nothing but how sums are rounded.
    """
    model.eval()

    def score(items: NDArray[np.int64]) -> NDArray[np.float64]:
        batch = pad_batch([np.asarray(split.item(int(item))) for item in items]).to(device)
        with autocast(device, precision):
            logits = model(batch.token_ids, batch.lengths)
        batch_probs: NDArray[np.float64] = torch.softmax(logits.double(), dim=-1).cpu().numpy()
        return batch_probs

    batches = budgeted_batches(split.lengths, most_places)
    if not batches:
        return np.empty((0, 0))
    scored = map_on_threads(score, batches, at_most=None if device.type == "cpu" else 1)
    probs = np.concatenate(scored)
    probs[np.concatenate(batches)] = probs.copy()
    return probs


def budgeted_batches(lengths: NDArray[np.int64], most_places: int) -> list[NDArray[np.int64]]:
    """Item indices of each batch, longest texts first, as many as stay within ``most_places`` when padded.

    lengths: (N,), 1 or more each. A text that is longer than that has a batch of its own.
    """
    order = np.argsort(-lengths, kind="stable")
    batches, start = [], 0
    while start < len(order):
        stop = start + max(1, most_places // int(lengths[order[start]]))
        batches.append(order[start:stop])
        start = stop
    return batches


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
    nats = np.zeros(len(text))
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


@torch.inference_mode()
def score_continuations(
    model: CharLanguageModel,
    continuations: Sequence[tuple[NDArray[np.integer], NDArray[np.integer]]],
    device: torch.device,
    batch_size: int = 128,
) -> NDArray[np.float64]:
    """Nats of what comes after, given what came before: (N,), one sum for each pair of ids, neither of them empty."""
    model.eval()
    nats = []
    for start in range(0, len(continuations), batch_size):
        part = continuations[start : start + batch_size]
        texts = pad_batch([np.concatenate([past, future]).astype(np.int64) for past, future in part])
        losses = _stream_losses(model, texts.token_ids.to(device), device, "float32")
        for row, (past, future) in zip(losses, part, strict=True):
            nats.append(row[len(past) - 1 : len(past) + len(future) - 1].sum())
    return np.array(nats)


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
