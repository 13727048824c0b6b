"""Back-propagation through time by hand, for the simple RNN (chapter 15, training RNNs; Werbos 1990).

    L = Σ_t L(t)
    ∂L(t)/∂W_hh = ∂L(t)/∂o(t) · ∂o(t)/∂h(t) · Σ_k ∂h(t)/∂h(k) · ∂h(k)/∂W_hh        k = 1 … t
    ∂h(t)/∂h(k) = Π_i ∂h(i)/∂h(i-1)                                                i = k+1 … t

The innermost derivative is the direct one: through the product with W_hh at step k alone. Slow on purpose: every term
of the sum is made, so that it can be looked at. Dimensions: T time, E input features, H hidden units, O outputs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from unroll.models import cells
from unroll.models.cells import RNNWeights


class Gradients(NamedTuple):
    """Of the whole loss."""

    W_xh: Tensor
    W_hh: Tensor
    b_h: Tensor


class BPTT(NamedTuple):
    """What back-propagation through time finds for one sequence."""

    loss: Tensor
    """Scalar, summed over the steps."""
    gradients: Gradients
    contributions: Tensor
    """(T, T): the norm of the k-th term of ∂L(t)/∂W_hh in row t, column k; zero for k > t."""


def hidden_states(inputs: Tensor, weights: RNNWeights) -> Tensor:
    """h(0), which is zero, to h(T). inputs: (T, E); returns (T + 1, H)."""
    states = [inputs.new_zeros(1, weights.b_h.size(0))]
    for x in inputs.unsqueeze(1):
        states.append(cells.rnn(x, states[-1], weights))
    return torch.cat(states)


def squared_loss(inputs: Tensor, targets: Tensor, weights: RNNWeights, W_ho: Tensor, b_o: Tensor) -> Tensor:
    """L = Σ_t |o(t) - y(t)|² / 2 with o(t) = W_ho h(t) + b_o. inputs: (T, E), targets: (T, O); returns a scalar."""
    outputs = hidden_states(inputs, weights)[1:] @ W_ho.T + b_o
    return (outputs - targets).square().sum() / 2


def step_jacobians(states: Tensor, weights: RNNWeights) -> Tensor:
    """∂h(i)/∂h(i-1) = diag(1 - h(i)²) W_hh of each step i = 1 … T. states: (T + 1, H); returns (T, H, H)."""
    return (1 - states[1:].square()).unsqueeze(-1) * weights.W_hh


def jacobian_product(jacobians: Tensor, t: int, k: int) -> Tensor:
    """∂h(t)/∂h(k), (H, H), steps counted from 1; the identity where t = k. jacobians: (T, H, H)."""
    product = torch.eye(jacobians.size(-1), dtype=jacobians.dtype)
    for i in range(k + 1, t + 1):
        product = jacobians[i - 1] @ product
    return product


@torch.no_grad()
def back_propagate(inputs: Tensor, targets: Tensor, weights: RNNWeights, W_ho: Tensor, b_o: Tensor) -> BPTT:
    """The gradients of `squared_loss`, term by term. inputs: (T, E), targets: (T, O)."""
    states = hidden_states(inputs, weights)
    jacobians = step_jacobians(states, weights)
    num_steps = len(inputs)
    errors = states[1:] @ W_ho.T + b_o - targets  # ∂L(t)/∂o(t)
    contributions = inputs.new_zeros(num_steps, num_steps)
    total = Gradients(*(torch.zeros_like(weight) for weight in weights))

    for t in range(1, num_steps + 1):
        of_hidden = errors[t - 1] @ W_ho  # ∂L(t)/∂h(t)
        for k in range(1, t + 1):
            # what L(t) asks of the net input at step k
            of_net_input = (of_hidden @ jacobian_product(jacobians, t, k)) * (1 - states[k].square())
            of_W_hh = torch.outer(of_net_input, states[k - 1])
            contributions[t - 1, k - 1] = of_W_hh.norm()
            total.W_hh.add_(of_W_hh)
            total.W_xh.add_(torch.outer(of_net_input, inputs[k - 1]))
            total.b_h.add_(of_net_input)
    return BPTT(errors.square().sum() / 2, total, contributions)
