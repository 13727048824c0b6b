"""One character a call: a language model unrolled by hand, for sampling.

`nn.LSTM` on a window of one step spends most of its time on getting ready. Here the embedding, the first layer's input
product and its bias are folded into one table with a row for each character, so that a step of a layer is one look-up,
one product with W_hh and a few element-wise operations. The same as the model's own forward pass to rounding.

Dimensions: B texts, V vocabulary, H hidden units, G gates of a cell (4 for an LSTM, 3 for a GRU, 1 for a simple RNN).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from unroll.models.cells import layer_parameters
from unroll.models.language_model import CharLanguageModel
from unroll.models.recurrent import LayerState

State = tuple[LayerState, ...]


class _Layer(NamedTuple):
    """One recurrent layer, its input product apart."""

    weight_ih: Tensor
    """(G H, E)"""
    bias_ih: Tensor
    """(G H,)"""
    weight_hh: Tensor
    """(G H, H)"""
    bias_hh: Tensor
    """(G H,)"""
    cell: Callable[[Tensor, LayerState, Tensor, Tensor], LayerState]


class Stepper:
    """Reads characters one by one with a model's weights as they are when it is made. Dropout is off."""

    def __init__(self, model: CharLanguageModel) -> None:
        """Fold what does not depend on the text. After the weights have changed, make another."""
        self.model = model
        layers = list(model.recurrent.forward_layers)
        self._layers = [_take_apart(layer) for layer in layers if isinstance(layer, nn.RNNBase)]
        self._is_foldable = len(self._layers) == len(layers)
        if self._is_foldable:
            first = self._layers[0]
            with torch.inference_mode():
                self._table = linear(model.embedding.weight, first.weight_ih, first.bias_ih)  # (V, G H)

    @torch.inference_mode()
    def step(self, token_ids: Tensor, state: State) -> tuple[Tensor, State]:
        """Read one more character of each text. token_ids: (B,) int64; state: as the model's forward returns it.

        Returns logits (B, V) and the state after the character.
        """
        if not self._is_foldable:  # output recurrences have no fused kernel to begin with
            logits, state = self.model(token_ids.unsqueeze(1), state)
            return logits[:, -1], state
        gates = self._table[token_ids]
        after: list[LayerState] = []
        for layer, parts in zip(self._layers, state, strict=True):
            if after:
                gates = linear(after[-1][0], layer.weight_ih, layer.bias_ih)
            after.append(layer.cell(gates, tuple(part[0] for part in parts), layer.weight_hh, layer.bias_hh))
        logits = linear(after[-1][0], self.model.output.weight, self.model.output.bias)
        return logits, tuple(tuple(part.unsqueeze(0) for part in parts) for parts in after)


def _take_apart(layer: nn.RNNBase) -> _Layer:
    weight_ih, weight_hh, bias_ih, bias_hh = (parameter.detach() for parameter in layer_parameters(layer))
    if isinstance(layer, nn.LSTM):
        return _Layer(weight_ih, bias_ih, weight_hh, bias_hh, _lstm)
    if isinstance(layer, nn.GRU):
        return _Layer(weight_ih, bias_ih, weight_hh, bias_hh, _gru)
    return _Layer(weight_ih, bias_ih, weight_hh, bias_hh, _rnn_tanh if layer.mode == "RNN_TANH" else _rnn_relu)


def _lstm(gates: Tensor, state: LayerState, weight_hh: Tensor, bias_hh: Tensor) -> LayerState:
    h, c = state
    gates = gates + linear(h, weight_hh, bias_hh)
    input_gate, forget_gate, _, output_gate = torch.sigmoid(gates).chunk(4, dim=1)
    candidate = torch.tanh(gates.chunk(4, dim=1)[2])
    c = torch.addcmul(forget_gate * c, input_gate, candidate)
    return output_gate * torch.tanh(c), c


def _gru(gates: Tensor, state: LayerState, weight_hh: Tensor, bias_hh: Tensor) -> LayerState:
    (h,) = state
    of_input, of_hidden = gates.chunk(3, dim=1), linear(h, weight_hh, bias_hh).chunk(3, dim=1)
    reset, update = (torch.sigmoid(of_input[i] + of_hidden[i]) for i in (0, 1))
    candidate = torch.tanh(torch.addcmul(of_input[2], reset, of_hidden[2]))
    return (torch.lerp(candidate, h, update),)


def _rnn_tanh(gates: Tensor, state: LayerState, weight_hh: Tensor, bias_hh: Tensor) -> LayerState:
    return (torch.tanh(gates + linear(state[0], weight_hh, bias_hh)),)


def _rnn_relu(gates: Tensor, state: LayerState, weight_hh: Tensor, bias_hh: Tensor) -> LayerState:
    return (torch.relu(gates + linear(state[0], weight_hh, bias_hh)),)
