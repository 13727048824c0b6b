"""The language-model problem: parallel streams, truncated back-propagation through time, bits per character.

Each window's gradient ends at its first step, while the values of the state go on (chapter 15, TBPTT).
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from unroll.config import LanguageModelConfig
from unroll.data.batching import RandomWindows, StreamBatch, Streams
from unroll.data.encoded import EncodedCorpus
from unroll.generation import SamplingSettings, TextGenerator
from unroll.models.language_model import CharLanguageModel
from unroll.models.recurrent import detach_state
from unroll.scoring import WARM_UP, score_text
from unroll.training.device import resolve_device
from unroll.training.problem import Batch, CarriedState, Score

WINDOWS_BETWEEN_RELEASES = 64
"""Batches after which the pages read of the token file are given back; each touches some 64 KiB a stream."""


class LanguageModelProblem:
    """Many-to-many, for `unroll.training.trainer.Trainer`."""

    unit = "characters"
    score = Score("bits_per_char", higher_is_better=False)

    def __init__(self, config: LanguageModelConfig, corpus: EncodedCorpus) -> None:
        """Make the model from the global generator's state; seed it first."""
        self.config = config
        self.corpus = corpus
        self.model = CharLanguageModel(config.model, corpus.vocab_size)
        tokens, training = corpus.split("train").tokens, config.training
        device = resolve_device(training.device)
        self.source: Streams | RandomWindows
        if training.windows == "random":
            self.source = RandomWindows(tokens, training.batch_size, training.window, config.seed, device)
            self.steps_per_epoch = self.source.num_batches
        else:
            self.source = Streams(tokens, training.batch_size, device)
            self.steps_per_epoch = self.source.num_windows(training.window)

    def batches(self, epoch: int, start: int) -> Iterator[StreamBatch]:
        """The windows of a pass from the ``start``-th on; streams are read in the same order in every epoch."""
        for index in range(start, self.steps_per_epoch):
            if index % WINDOWS_BETWEEN_RELEASES == 0:
                self.corpus.split("train").release()
            if isinstance(self.source, RandomWindows):
                yield self.source.batch(epoch, index)
            else:
                yield self.source.window(index, self.config.training.window)

    def loss(self, batch: Batch, carried: CarriedState) -> tuple[Tensor, CarriedState]:
        """Mean cross-entropy over a window, in nats per character, and the state after it; none after a random one."""
        assert isinstance(batch, StreamBatch)
        logits, state = self.model(batch.inputs, carried)
        loss = functional.cross_entropy(logits.float().flatten(0, 1), batch.targets.flatten())
        return loss, detach_state(state) if self.config.training.windows == "streams" else None

    def loss_weight(self, batch: Batch) -> float:
        """The window's steps where the loss is summed over them, else 1."""
        assert isinstance(batch, StreamBatch)
        return float(batch.inputs.size(1)) if self.config.training.loss_reduction == "sum" else 1.0

    def validate(self, device: torch.device, precision: str) -> dict[str, float]:
        """Bits per character of the validation part, given the text before it."""
        tokens = self.corpus.split("validation").tokens
        context = self.corpus.split("train").tokens[-WARM_UP - 1 :]
        nats = score_text(self.model, tokens, context, device, precision, self.corpus.vocab_size)
        return {"bits_per_char": float(nats.mean()) / math.log(2)}

    def sample(self, device: torch.device) -> str:
        """A passage of the length and prompt that the config sets, drawn at temperature 0.8."""
        evaluation = self.config.evaluation
        settings = SamplingSettings(length=evaluation.sample_length, temperature=0.8, seed=self.config.seed)
        generator = TextGenerator(self.model, self.corpus.encoder, device)
        return generator.generate([evaluation.sample_prompt], settings)[0]
