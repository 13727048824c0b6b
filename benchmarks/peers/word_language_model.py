"""The way of PyTorch's example `word_language_model`, written here from its description.

Parallel streams with time first, a fused LSTM call a window, the state carried on, log-probabilities and negative
log-likelihood, the gradient's norm clipped to 0.25, and each parameter moved by hand against its gradient.

Dimensions: B streams, T time.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import log_softmax, nll_loss

from benchmarks.measure import WARM_UP, Bout, Contestant, timed
from unroll.config import LanguageModelConfig

NAME = "word_language_model"
CLIP, LEARNING_RATE = 0.25, 20.0


class StreamTraining:
    """The example's model and loop."""

    def __init__(self, config: LanguageModelConfig, token_ids: NDArray[np.integer], vocab_size: int) -> None:
        """token_ids: (N,)."""
        model, training = config.model, config.training
        self._window = training.window
        steps = len(token_ids) // training.batch_size
        whole = torch.from_numpy(np.array(token_ids[: steps * training.batch_size], dtype=np.int64))
        self._streams = whole.view(training.batch_size, steps).t().contiguous()  # (N / B, B)
        self._embedding = nn.Embedding(vocab_size, model.embedding_dim)
        self._lstm = nn.LSTM(model.embedding_dim, model.hidden_size)
        self._output = nn.Linear(model.hidden_size, vocab_size)
        self._modules = nn.ModuleList([self._embedding, self._lstm, self._output])
        self._state: tuple[Tensor, Tensor] | None = None
        self._place = 0

    def train_steps(self, num_steps: int) -> int:
        """Returns the number of characters predicted."""
        for _ in range(num_steps):
            self.train_step()
        return num_steps * self._streams.size(1) * self._window

    def train_step(self) -> float:
        """One window of every stream. Returns its loss in nats a character."""
        if self._place + self._window >= len(self._streams):
            self._place, self._state = 0, None
        inputs = self._streams[self._place : self._place + self._window]
        targets = self._streams[self._place + 1 : self._place + 1 + self._window].reshape(-1)
        self._place += self._window
        state = None if self._state is None else (self._state[0].detach(), self._state[1].detach())

        self._modules.zero_grad()
        sequence, self._state = self._lstm(self._embedding(inputs), state)
        loss = nll_loss(log_softmax(self._output(sequence).flatten(0, 1), dim=1), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._modules.parameters(), CLIP)
        with torch.no_grad():
            for parameter in self._modules.parameters():
                if parameter.grad is not None:
                    parameter.add_(parameter.grad, alpha=-LEARNING_RATE)
        return float(loss.detach())


def make_contestant(
    config: LanguageModelConfig, token_ids: NDArray[np.integer], vocab_size: int, steps: int
) -> Contestant:
    """The example's way at the shapes of the config; ``steps`` a bout."""
    training = StreamTraining(config, token_ids, vocab_size)

    def bout(number: int) -> Bout:
        return timed(lambda: training.train_steps(1 if number == WARM_UP else steps))

    return Contestant(NAME, "PyTorch's example: streams, one LSTM call a window, clipped plain SGD, float32", bout)
