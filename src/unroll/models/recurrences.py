"""Simple recurrent layers whose memory is their output (chapter 15, hidden recurrence versus output recurrence).

    hidden_to_hidden    h(t-1) -> h(t)      torch.nn.RNN
    output_to_hidden    o(t-1) -> h(t)      `OutputToHidden` (Jordan 1986)
    output_to_output    o(t-1) -> o(t)      `OutputToOutput`

One step of each stands in `unroll.models.cells`; here the products that need no earlier step are taken for all steps at
once. Dimensions: B batch, T time, E input features, H hidden units, and as many output units.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}


class _OutputRecurrence(nn.Module):
    """What both share: h(t) from x(t), o(t) from h(t), and the same activation for either."""

    def __init__(self, input_size: int, hidden_size: int, nonlinearity: str = "tanh") -> None:
        """Make the weights, drawn as `nn.RNN` draws its own: uniform within 1 / sqrt(hidden_size)."""
        super().__init__()
        self.activation = _ACTIVATIONS[nonlinearity]
        self.weight_xh = nn.Parameter(torch.empty(hidden_size, input_size))
        self.bias_h = nn.Parameter(torch.empty(hidden_size))
        self.weight_ho = nn.Parameter(torch.empty(hidden_size, hidden_size))
        self.bias_o = nn.Parameter(torch.empty(hidden_size))
        self.weight_recurrent = nn.Parameter(torch.empty(hidden_size, hidden_size))
        bound = 1 / math.sqrt(hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def _first_output(self, inputs: Tensor, initial: Tensor | None) -> Tensor:
        """(B, H): the output before the first step."""
        return inputs.new_zeros(inputs.size(0), self.bias_o.size(0)) if initial is None else initial[0]


class OutputToHidden(_OutputRecurrence):
    """h(t) = f(W_xh x(t) + W_oh o(t-1) + b_h), o(t) = f(W_ho h(t) + b_o); W_oh is ``weight_recurrent``."""

    def forward(self, inputs: Tensor, initial: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Read a batch. inputs: (B, T, E); initial: (1, B, H), zeros where None.

        Returns the outputs o (B, T, H), and the last one (1, B, H), from which a next call goes on.
        """
        projected = nn.functional.linear(inputs, self.weight_xh, self.bias_h)
        output, outputs = self._first_output(projected, initial), []
        for step in projected.unbind(1):
            hidden = self.activation(step + nn.functional.linear(output, self.weight_recurrent))
            output = self.activation(nn.functional.linear(hidden, self.weight_ho, self.bias_o))
            outputs.append(output)
        return torch.stack(outputs, dim=1), output.unsqueeze(0)


class OutputToOutput(_OutputRecurrence):
    """h(t) = f(W_xh x(t) + b_h), o(t) = f(W_ho h(t) + W_oo o(t-1) + b_o); W_oo is ``weight_recurrent``."""

    def forward(self, inputs: Tensor, initial: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Read a batch. inputs: (B, T, E); initial: (1, B, H), zeros where None.

        Returns the outputs o (B, T, H), and the last one (1, B, H), from which a next call goes on.
        """
        hidden = self.activation(nn.functional.linear(inputs, self.weight_xh, self.bias_h))
        projected = nn.functional.linear(hidden, self.weight_ho, self.bias_o)
        output, outputs = self._first_output(projected, initial), []
        for step in projected.unbind(1):
            output = self.activation(step + nn.functional.linear(output, self.weight_recurrent))
            outputs.append(output)
        return torch.stack(outputs, dim=1), output.unsqueeze(0)


OUTPUT_RECURRENCES = {"output_to_hidden": OutputToHidden, "output_to_output": OutputToOutput}
"""The layers by the setting's value."""
