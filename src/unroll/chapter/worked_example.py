"""The chapter's worked example: an RNN of two units reads three steps of five numbers, by hand and by PyTorch.

Chapter 15, hidden recurrence versus output recurrence. The printed hidden values are the input's part of the net
input, W_xh x(t) + b, before the recurrence is added, with the layer's input bias; the bias b_hh comes with the
recurrence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unroll.models.cells import layer_parameters

INPUT_SIZE, HIDDEN_SIZE, SEED = 5, 2, 1
STEPS = (1.0, 2.0, 3.0)
"""The value of all five inputs at each step."""


@dataclass(frozen=True)
class WorkedStep:
    """One step of the example; each tensor (2,)."""

    value: float
    """Of each input."""
    hidden: Tensor
    """W_xh x(t) + b_xh, as the book prints it."""
    by_hand: Tensor
    """tanh(hidden + W_hh o(t-1) + b_hh)."""
    by_layer: Tensor
    """What `nn.RNN` returns."""


def make_layer() -> nn.RNN:
    """The example's layer. Leaves the global generator as it was.

    Its weights are drawn as `nn.RNN` draws them, but multiplied and added in two roundings, as on the book's machine; a
    processor that does both in one gives weights, and so printed digits, that differ in the last place.
    """
    bound = 1 / math.sqrt(HIDDEN_SIZE)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        layer = nn.RNN(INPUT_SIZE, HIDDEN_SIZE, num_layers=1, batch_first=True)
        torch.manual_seed(SEED)
        for parameter in layer_parameters(layer):
            parameter.copy_(torch.rand(parameter.shape) * (2 * bound) - bound)
    return layer


def worked_example() -> Iterator[WorkedStep]:
    """The three steps."""
    layer = make_layer()
    w_xh, w_hh, b_xh, b_hh = layer_parameters(layer)
    inputs = torch.tensor(STEPS).unsqueeze(1).expand(-1, INPUT_SIZE)
    with torch.no_grad():
        by_layer = layer(inputs.unsqueeze(0))[0][0]
        previous = torch.zeros(HIDDEN_SIZE)
        for step, value in enumerate(STEPS):
            hidden = w_xh @ inputs[step] + b_xh
            previous = torch.tanh(hidden + w_hh @ previous + b_hh)
            yield WorkedStep(value, hidden, previous, by_layer[step])
