"""How far a gradient reaches: the size of ∂h(t)/∂h(k) against t - k (chapter 15, long-range interactions).

Bengio, Simard and Frasconi 1994; Pascanu, Mikolov and Bengio 2013, section 2. Dimensions: B batch, T time, E input
features, H hidden units, S entries of a layer's state (H, or 2 H for an LSTM).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unroll.models import cells
from unroll.models.cells import RNNWeights


class GradientFlow(NamedTuple):
    """Largest singular values by distance t - k = 0, 1, …, T - 1, the median over a batch; each (T,) float64."""

    hidden: Tensor
    """Of ∂h(t)/∂h(k)."""
    cell: Tensor | None
    """Of ∂C(t)/∂C(k), an LSTM's constant error carousel; None for the other cells."""


def one_unit_flow(weight: float, num_steps: int) -> Tensor:
    """|∂h(t)/∂h(k)| of one linear unit with the recurrent weight w, found by autograd: |w|^(t-k). Returns (T,)."""
    one = torch.ones(1, 1, dtype=torch.float64)
    weights = RNNWeights(torch.zeros_like(one), weight * one, torch.zeros(1, dtype=torch.float64))
    start = one.clone().requires_grad_()
    flow, h = [], start
    for _ in range(num_steps):
        (gradient,) = torch.autograd.grad(h.sum(), start, retain_graph=True)
        flow.append(gradient.abs().item())
        h = cells.rnn(one, h, weights, sigma_h=lambda net_input: net_input)
    return torch.tensor(flow, dtype=torch.float64)


def gradient_flow(layer: nn.RNNBase, inputs: Tensor) -> GradientFlow:
    """Follow a layer's last state back through the steps, in float64. inputs: (B, T, E).

    For an LSTM, ∂h(t)/∂h(k) leaves C(k) as it is, and ∂C(t)/∂C(k) leaves h(k) as it is.
    """
    jacobians = state_jacobians(layer, inputs)
    hidden, cell = slice(0, layer.hidden_size), slice(layer.hidden_size, None)
    product = torch.eye(jacobians.size(-1), dtype=torch.float64).expand(inputs.size(0), -1, -1)
    products = []
    for jacobian in jacobians.unbind(1)[:0:-1]:
        products.append(product)
        product = product @ jacobian
    products.append(product)
    of_cell = None
    if isinstance(layer, nn.LSTM):
        of_cell = torch.stack([_median_norm(each[:, cell, cell]) for each in products])
    return GradientFlow(torch.stack([_median_norm(each[:, hidden, hidden]) for each in products]), of_cell)


@torch.no_grad()
def state_jacobians(layer: nn.RNNBase, inputs: Tensor) -> Tensor:
    """∂s(i)/∂s(i-1) of every step, where s is h, or [h; C] for an LSTM. inputs: (B, T, E); returns (B, T, S, S)."""
    step = _step_function(layer)
    inputs = inputs.double()
    size = layer.hidden_size * (2 if isinstance(layer, nn.LSTM) else 1)
    states = [inputs.new_zeros(inputs.size(0), size)]
    for x in inputs.unbind(1)[:-1]:
        states.append(torch.func.vmap(step)(x, states[-1]))
    before = torch.stack(states, dim=1)
    jacobian_of_step = torch.func.vmap(torch.func.jacrev(step, argnums=1))
    jacobians: Tensor = jacobian_of_step(inputs.flatten(0, 1), before.flatten(0, 1))
    return jacobians.view(*before.shape, size)


def _step_function(layer: nn.RNNBase) -> Callable[[Tensor, Tensor], Tensor]:
    """One step of a layer as a function of x (E,) and s (S,), in float64; returns s (S,)."""
    layer = copy.deepcopy(layer).double().requires_grad_(False)
    if isinstance(layer, nn.LSTM):
        of_lstm, size = cells.lstm_weights(layer), layer.hidden_size
        return lambda x, s: torch.cat(cells.lstm(x, s[:size], s[size:], of_lstm))
    if isinstance(layer, nn.GRU):
        of_gru = cells.gru_weights(layer)
        return lambda x, s: cells.gru(x, s, of_gru)
    assert isinstance(layer, nn.RNN)
    of_rnn = cells.rnn_weights(layer)
    activation = torch.tanh if layer.nonlinearity == "tanh" else torch.relu
    return lambda x, s: cells.rnn(x, s, of_rnn, activation)


def _median_norm(matrices: Tensor) -> Tensor:
    """The median of the largest singular values. matrices: (B, H, H); returns a scalar."""
    norms: Tensor = torch.linalg.matrix_norm(matrices, ord=2)
    return norms.median()
