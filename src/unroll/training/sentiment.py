"""The sentiment problem: length-bucketed batches of reviews, cross-entropy on the logits, accuracy to choose by."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from unroll.config import SentimentConfig
from unroll.data.batching import IntArray, TextBatch, collate, shuffled_buckets, token_budget_batches
from unroll.data.encoded import EncodedCorpus
from unroll.models.classifier import SentimentClassifier
from unroll.scoring import score_reviews
from unroll.training.problem import Batch, CarriedState, Score

BATCHES_BETWEEN_RELEASES = 64
"""Batches after which the pages read of the mapped ids are given back."""


class SentimentProblem:
    """Many-to-one, for `unroll.training.trainer.Trainer`."""

    unit = "tokens"
    score = Score("accuracy", higher_is_better=True)

    def __init__(self, config: SentimentConfig, corpus: EncodedCorpus) -> None:
        """Make the model from the global generator's state; seed it first."""
        self.config = config
        self.train = corpus.split("train")
        self.validation = corpus.split("validation")
        self.model = SentimentClassifier(config.model, corpus.vocab_size, len(corpus.class_names))
        self.steps_per_epoch = len(self._order(0))

    def batches(self, epoch: int, start: int) -> Iterator[TextBatch]:
        """The batches of an epoch from the ``start``-th on."""
        for number, items in enumerate(self._order(epoch)[start:], 1):
            yield collate(self.train, items)
            if number % BATCHES_BETWEEN_RELEASES == 0:
                self.train.release()

    def _order(self, epoch: int) -> list[IntArray]:
        training, lengths, seed = self.config.training, self.train.lengths, self.config.seed
        if training.batch_tokens is not None:
            return token_budget_batches(lengths, training.batch_tokens, training.batch_size, seed, epoch)
        return shuffled_buckets(lengths, training.batch_size, seed, epoch, training.bucket_batches)

    def loss(self, batch: Batch, carried: CarriedState) -> tuple[Tensor, CarriedState]:
        """Mean cross-entropy of a batch; nothing is carried from one text to the next."""
        assert isinstance(batch, TextBatch)
        assert batch.labels is not None
        logits = self.model(batch.token_ids, batch.lengths)
        return functional.cross_entropy(logits.float(), batch.labels), None

    def loss_weight(self, batch: Batch) -> float:
        """The mean loss is what is back-propagated."""
        return 1.0

    def validate(self, device: torch.device, precision: str) -> dict[str, float]:
        """Accuracy and mean cross-entropy on the validation split."""
        probs = score_reviews(self.model, self.validation, device, precision)
        if not np.isfinite(probs).all():
            return {"accuracy": math.nan, "loss": math.nan}  # an argmax of these would look like a fair score
        labels = np.asarray(self.validation.labels)
        of_label = np.maximum(probs[np.arange(len(labels)), labels], np.finfo(float).tiny)
        return {"accuracy": float((probs.argmax(axis=1) == labels).mean()), "loss": float(-np.log(of_label).mean())}

    def sample(self, device: torch.device) -> None:
        """A classifier generates nothing."""
