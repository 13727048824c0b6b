"""One recurrent stack for every cell, exact for every length and never packed.

A padded batch runs through dense single-layer kernels, which oneDNN and cuDNN make fast; packing would send a CPU down
its per-step path. Nothing is lost by it, because a causal layer never lets padding on the right reach a real position:

    forward     x0 x1 x2 __ __     the state after a text is read at position length - 1
    backward    x2 x1 x0 __ __     each text reversed by its own length, so padding stays on the right

Dimensions: B batch, T time, E input features, H hidden units, D directions (1 or 2), L layers.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from unroll.config import Cell, Recurrence
from unroll.models.dropout import Dropout
from unroll.models.recurrences import OUTPUT_RECURRENCES

LayerState = tuple[Tensor, ...]
"""State of one layer in one direction: (h,) or, for an LSTM, (h, c); each (1, B, H)."""

_LAYER_CLASSES: dict[str, type[nn.RNN] | type[nn.LSTM] | type[nn.GRU]] = {
    "rnn_tanh": nn.RNN,
    "rnn_relu": nn.RNN,
    "lstm": nn.LSTM,
    "gru": nn.GRU,
}


class RecurrentOutput(NamedTuple):
    """What a recurrent stack returns."""

    sequence: Tensor
    """(B, T, D * H): the last layer's output at every position, zero beyond a text's length."""
    last_hidden: Tensor
    """(B, D * H): the last layer's output after each direction has read the whole text."""
    state: tuple[LayerState, ...] | None
    """One state per layer, to be carried into the next window; None for padded batches and two directions."""


class Recurrent(nn.Module):
    """Layers of one cell, in one or both directions, with dropout between layers.

    Single-layer kernels with explicit dropout between them, rather than ``num_layers`` of PyTorch's: cuDNN keeps a
    dropout state of its own that a checkpoint cannot hold.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        cell: Cell = "lstm",
        bidirectional: bool = False,
        dropout: float = 0.0,
        recurrence: Recurrence = "hidden_to_hidden",
    ) -> None:
        """Make the layers; see `unroll.config.RecurrentConfig` for the sizes and for which cells know a recurrence."""
        super().__init__()
        self.cell = cell
        self.hidden_size = hidden_size
        self.bidirectional = bidirectional
        self.num_directions = 2 if bidirectional else 1
        self.output_size = hidden_size * self.num_directions
        sizes = [input_size] + [self.output_size] * (num_layers - 1)
        self.forward_layers = nn.ModuleList(_make_layer(cell, recurrence, size, hidden_size) for size in sizes)
        self.backward_layers = nn.ModuleList(
            _make_layer(cell, recurrence, size, hidden_size) for size in (sizes if bidirectional else [])
        )
        self.dropout = Dropout(dropout)

    def forward(
        self,
        inputs: Tensor,
        lengths: Tensor | None = None,
        state: tuple[LayerState, ...] | None = None,
        mask_padding: bool = True,
    ) -> RecurrentOutput:
        """Read a batch.

        inputs: (B, T, E). lengths: (B,) int64, each from 1 to T, or None where every text fills its row. state: of an
        earlier call, None for zeros. mask_padding: zero the sequence beyond each text's length; who reads nothing there
        can save it. Raises ValueError for a carried state with two directions, or with lengths: it would have to be
        the state after different positions.
        """
        if state is not None and (self.bidirectional or lengths is not None):
            raise ValueError("A carried state needs one direction and full rows (lengths=None).")
        reversal = _reversal_index(lengths, inputs) if self.bidirectional else None

        sequence = inputs
        next_state: list[LayerState] = []
        for depth in range(len(self.forward_layers)):
            if depth > 0:
                sequence = self.dropout(sequence)
            layer_input = sequence
            initial = None if state is None else state[depth]
            sequence, layer_state = _run_layer(self.forward_layers[depth], layer_input, initial)
            next_state.append(layer_state)
            last_hidden = _last_position(sequence, lengths)
            if reversal is not None:
                backward, _ = _run_layer(self.backward_layers[depth], _reorder(layer_input, reversal), None)
                last_hidden = torch.cat([last_hidden, _last_position(backward, lengths)], dim=-1)
                sequence = torch.cat([sequence, _reorder(backward, reversal)], dim=-1)
        if lengths is not None and mask_padding:
            padding = ~_valid_positions(lengths, inputs.size(1))
            sequence = sequence.masked_fill(padding.unsqueeze(-1), 0.0)
        carried = None if self.bidirectional or lengths is not None else tuple(next_state)
        return RecurrentOutput(sequence, last_hidden, carried)


def detach_state(state: tuple[LayerState, ...] | None) -> tuple[LayerState, ...] | None:
    """Keep the values and drop the graph, so that a gradient ends at the window's start (truncated BPTT)."""
    return None if state is None else tuple(tuple(part.detach() for part in layer) for layer in state)


def move_state(state: tuple[LayerState, ...] | None, device: torch.device) -> tuple[LayerState, ...] | None:
    """The same state on another device."""
    return None if state is None else tuple(tuple(part.to(device) for part in layer) for layer in state)


def _make_layer(cell: Cell, recurrence: Recurrence, input_size: int, hidden_size: int) -> nn.Module:
    options = {"nonlinearity": cell.removeprefix("rnn_")} if cell.startswith("rnn_") else {}
    if recurrence != "hidden_to_hidden":
        return OUTPUT_RECURRENCES[recurrence](input_size, hidden_size, **options)
    return _LAYER_CLASSES[cell](input_size, hidden_size, batch_first=True, **options)


def _run_layer(layer: nn.Module, inputs: Tensor, state: LayerState | None) -> tuple[Tensor, LayerState]:
    initial = None if state is None else (state if isinstance(layer, nn.LSTM) else state[0])
    sequence, final = layer(inputs, initial)
    return sequence, final if isinstance(final, tuple) else (final,)


def _valid_positions(lengths: Tensor, num_steps: int) -> Tensor:
    """(B, T) bool: True where a row's text stands."""
    return torch.arange(num_steps, device=lengths.device).unsqueeze(0) < lengths.unsqueeze(1)


def _reversal_index(lengths: Tensor | None, inputs: Tensor) -> Tensor:
    """(B, T) int64: position t of a reversed text is lengths - 1 - t of the text; padding stays where it is."""
    positions = torch.arange(inputs.size(1), device=inputs.device).unsqueeze(0)
    if lengths is None:
        return positions.flip(1).expand(inputs.size(0), -1)
    reversed_positions = lengths.unsqueeze(1) - 1 - positions
    return torch.where(reversed_positions >= 0, reversed_positions, positions)


def _reorder(sequence: Tensor, index: Tensor) -> Tensor:
    return sequence.gather(1, index.unsqueeze(-1).expand(-1, -1, sequence.size(-1)))


def _last_position(sequence: Tensor, lengths: Tensor | None) -> Tensor:
    """(B, H): the output at each text's own last position."""
    if lengths is None:
        return sequence[:, -1]
    index = (lengths - 1).view(-1, 1, 1).expand(-1, 1, sequence.size(-1))
    return sequence.gather(1, index).squeeze(1)
