"""Two tasks that need a long memory: adding two marked numbers of a long list, and copying after a long silence.

    adding    numbers  .31 .84 .07 .55 .92        copying    c a a b _ _ _ _ _ _ _ _ ? ? ? ?
              marks     0   1   0   0   1                    what to say               c a a b
              what to say at the end    1.76

After Hochreiter and Schmidhuber 1997, sections 5.4 and 5.1. Dimensions: B batch, T time, H hidden units, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unroll.chapter.synthetic import SequenceBatch, SyntheticProblem
from unroll.config import Cell
from unroll.models.recurrent import LayerState, Recurrent, detach_state
from unroll.training.problem import Batch, CarriedState

TaskName = Literal["adding", "copy"]

ADDING_TOLERANCE = 0.04
"""Error below which a sum counts as right (Hochreiter and Schmidhuber 1997, section 5.4)."""
COPIED = 5
"""Symbols to keep in mind."""
SYMBOLS = 4
BLANK, ASK = SYMBOLS, SYMBOLS + 1
"""What is read in the silence, and while the answer is due."""


@dataclass(frozen=True)
class MemorySettings:
    """A network for a sequence of a given length."""

    length: int
    """Steps of a sequence."""
    cell: Cell = "lstm"
    hidden_size: int = 64
    truncate_at: int | None = None
    """Steps that a gradient goes back at most; None lets it go all the way."""


class MemoryModel(nn.Module):
    """A recurrent layer that begins with a long memory, and a linear layer on its outputs.

    A rectified simple RNN begins with the identity as its recurrent matrix, the chapter's |w| = 1 (Le, Jaitly and
    Hinton 2015). Gates begin so that the units' memories are spread over the sequence's length (Tallec and Ollivier
    2018, section 2); with biases near zero a new LSTM forgets half of its state at every step.
    """

    def __init__(self, settings: MemorySettings, input_size: int, output_size: int) -> None:
        """Make the layers, drawn from the global generator."""
        super().__init__()
        self.truncate_at = settings.truncate_at
        self.recurrent = Recurrent(input_size, settings.hidden_size, cell=settings.cell)
        self.output = nn.Linear(settings.hidden_size, output_size)
        _remember(self.recurrent.forward_layers[0], settings.length)

    def forward(self, inputs: Tensor) -> Tensor:
        """inputs: (B, T, E). Returns what is said at every step, (B, T, K)."""
        state: tuple[LayerState, ...] | None = None
        outputs = []
        for window in torch.split(inputs, self.truncate_at or inputs.size(1), dim=1):
            # truncated back-propagation: the values go on, the graph does not
            read = self.recurrent(window, state=detach_state(state))
            state = read.state
            outputs.append(self.output(read.sequence))
        return torch.cat(outputs, dim=1)


class MemoryProblem(SyntheticProblem):
    """What the two tasks share."""

    input_size: int
    output_size: int

    def __init__(self, settings: MemorySettings, seed: int, batch_size: int, steps_per_epoch: int) -> None:
        """See `SyntheticProblem`."""
        self.settings = settings
        super().__init__(seed, batch_size, steps_per_epoch)

    def make_model(self) -> nn.Module:
        """A new model, drawn from the global generator."""
        return MemoryModel(self.settings, self.input_size, self.output_size)


class Adding(MemoryProblem):
    """Add the two marked numbers, one from each half of the list. Saying 1 always has a mean squared error of 1/6."""

    input_size, output_size = 2, 1

    def draw(self, generator: np.random.Generator, count: int) -> SequenceBatch:
        """Numbers from 0 to 1 with their marks (B, T, 2), and the sums (B,)."""
        length = self.settings.length
        numbers = generator.random((count, length), dtype=np.float32)
        first = generator.integers(0, length // 2, (count, 1))
        second = generator.integers(length // 2, length, (count, 1))
        places = np.concatenate([first, second], axis=1)
        marks = np.zeros_like(numbers)
        np.put_along_axis(marks, places, 1.0, axis=1)
        sums = np.take_along_axis(numbers, places, axis=1).sum(axis=1)
        return SequenceBatch(torch.from_numpy(np.stack([numbers, marks], axis=-1)), torch.from_numpy(sums))

    def loss(self, batch: Batch, carried: CarriedState) -> tuple[Tensor, CarriedState]:
        """Mean squared error of what is said at the last step."""
        assert isinstance(batch, SequenceBatch)
        return functional.mse_loss(self.logits(batch)[:, -1, 0].float(), batch.targets), None

    def judge(self, output: Tensor, targets: Tensor) -> dict[str, float]:
        """Share of sums within ADDING_TOLERANCE, and the mean squared error."""
        errors = output[:, -1, 0] - targets
        right = errors.abs() < ADDING_TOLERANCE
        return {"accuracy": float(right.float().mean()), "loss": float(errors.square().mean())}


class Copying(MemoryProblem):
    """Say the first COPIED symbols at the end. Guessing costs ln 4 = 1.386 nats a symbol."""

    input_size, output_size = SYMBOLS + 2, SYMBOLS

    def draw(self, generator: np.random.Generator, count: int) -> SequenceBatch:
        """Symbols, silence and question as one-hot rows (B, T, SYMBOLS + 2), and the symbols (B, COPIED)."""
        symbols = generator.integers(0, SYMBOLS, (count, COPIED))
        tokens = np.full((count, self.settings.length), BLANK)
        tokens[:, :COPIED] = symbols
        tokens[:, -COPIED:] = ASK
        inputs = functional.one_hot(torch.from_numpy(tokens), self.input_size).float()
        return SequenceBatch(inputs, torch.from_numpy(symbols))

    def logits(self, batch: SequenceBatch) -> Tensor:
        """What is said when asked: (B, COPIED, SYMBOLS)."""
        return super().logits(batch)[:, -COPIED:]

    def judge(self, output: Tensor, targets: Tensor) -> dict[str, float]:
        """Share of right symbols, and their cost in nats."""
        said = output[:, -COPIED:]
        loss = functional.cross_entropy(said.flatten(0, 1), targets.flatten())
        return {**super().judge(said, targets), "loss": float(loss)}


MEMORY_TASKS: dict[TaskName, type[MemoryProblem]] = {"adding": Adding, "copy": Copying}


@torch.no_grad()
def _remember(layer: nn.Module, length: int) -> None:
    if isinstance(layer, nn.RNN) and layer.nonlinearity == "relu":
        nn.init.eye_(layer.get_parameter("weight_hh_l0"))
    if not isinstance(layer, nn.LSTM | nn.GRU):
        return
    # a gate of σ(log(t - 1)) = 1 - 1/t keeps a value for about t steps
    keep = torch.empty(layer.hidden_size).uniform_(1, length - 1).log()
    bias = layer.get_parameter("bias_ih_l0")
    nn.init.zeros_(bias)
    nn.init.zeros_(layer.get_parameter("bias_hh_l0"))
    if isinstance(layer, nn.LSTM):
        input_gate, forget_gate, *_ = bias.chunk(4)
        input_gate.copy_(-keep)
        forget_gate.copy_(keep)
    else:
        _, update_gate, _ = bias.chunk(3)
        update_gate.copy_(keep)
