"""The chapter's equations as code: one function a cell, one step a call, with the symbols of the text. Slow and plain.

These are what the fast layers are tested against; nothing trains with them. Each function takes a batch of rows, so the
text's W x, for a column x, is written ``x @ W.T`` here. Dimensions: B batch, E input features, H hidden units, O
outputs.

    simple RNN     h(t) = σ_h(W_xh x(t) + W_hh h(t-1) + b_h)                    chapter 15, computing activations
                   o(t) = σ_o(W_ho h(t) + b_o)
    LSTM           f, i, candidate, o, C, h: see `lstm`                         chapter 15, long short-term memory
    GRU            r, z, candidate, h: see `gru`                                Cho et al. 2014
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

Activation = Callable[[Tensor], Tensor]


class RNNWeights(NamedTuple):
    """Of a simple RNN's hidden layer."""

    W_xh: Tensor
    """(H, E)"""
    W_hh: Tensor
    """(H, H)"""
    b_h: Tensor
    """(H,)"""


class LSTMWeights(NamedTuple):
    """Of an LSTM: for each gate and for the candidate, a (H, E) and a (H, H) matrix and a bias (H,)."""

    W_xf: Tensor
    W_hf: Tensor
    b_f: Tensor
    W_xi: Tensor
    W_hi: Tensor
    b_i: Tensor
    W_xc: Tensor
    W_hc: Tensor
    b_c: Tensor
    W_xo: Tensor
    W_ho: Tensor
    b_o: Tensor


class GRUWeights(NamedTuple):
    """Of a GRU: shapes as in `LSTMWeights`. The candidate has a bias of its own within the reset gate's reach."""

    W_xr: Tensor
    W_hr: Tensor
    b_r: Tensor
    W_xz: Tensor
    W_hz: Tensor
    b_z: Tensor
    W_xn: Tensor
    W_hn: Tensor
    b_xn: Tensor
    b_hn: Tensor


def net_input(x: Tensor, h: Tensor, weights: RNNWeights) -> Tensor:
    """z_h(t) = W_xh x(t) + W_hh h(t-1) + b_h. x: (B, E), h: (B, H); returns (B, H)."""
    return x @ weights.W_xh.T + h @ weights.W_hh.T + weights.b_h


def rnn(x: Tensor, h: Tensor, weights: RNNWeights, sigma_h: Activation = torch.tanh) -> Tensor:
    """h(t) = σ_h(z_h(t)). x: (B, E), h: (B, H) of the step before; returns (B, H)."""
    return sigma_h(net_input(x, h, weights))


def rnn_concatenated(x: Tensor, h: Tensor, W_h: Tensor, b_h: Tensor, sigma_h: Activation = torch.tanh) -> Tensor:
    """h(t) = σ_h([W_xh; W_hh] [x(t); h(t-1)] + b_h): the same as `rnn` in one product. W_h: (H, E + H)."""
    return sigma_h(torch.cat([x, h], dim=-1) @ W_h.T + b_h)


def output(h: Tensor, W_ho: Tensor, b_o: Tensor, sigma_o: Activation) -> Tensor:
    """o(t) = σ_o(W_ho h(t) + b_o). h: (B, H), W_ho: (O, H), b_o: (O,); returns (B, O)."""
    return sigma_o(h @ W_ho.T + b_o)


def output_to_hidden(
    x: Tensor, o: Tensor, weights: RNNWeights, W_ho: Tensor, b_o: Tensor, sigma: Activation = torch.tanh
) -> Tensor:
    """o(t) where the step before comes back into the hidden layer: h(t) = σ(W_xh x(t) + W_oh o(t-1) + b_h).

    x: (B, E), o: (B, O) of the step before; ``weights.W_hh`` is the text's W_oh, (H, O). Returns (B, O).
    """
    return output(rnn(x, o, weights, sigma), W_ho, b_o, sigma)


def output_to_output(
    x: Tensor,
    o: Tensor,
    W_xh: Tensor,
    b_h: Tensor,
    W_ho: Tensor,
    W_oo: Tensor,
    b_o: Tensor,
    sigma: Activation = torch.tanh,
) -> Tensor:
    """o(t) where the step before comes back into the output layer: o(t) = σ(W_ho h(t) + W_oo o(t-1) + b_o).

    x: (B, E), o: (B, O) of the step before; the hidden layer h(t) = σ(W_xh x(t) + b_h) remembers nothing.
    """
    h = sigma(x @ W_xh.T + b_h)
    return sigma(h @ W_ho.T + o @ W_oo.T + b_o)


def lstm(x: Tensor, h: Tensor, C: Tensor, weights: LSTMWeights) -> tuple[Tensor, Tensor]:
    """An LSTM with its forget gate (Gers, Schmidhuber and Cummins 2000). x: (B, E); h, C: (B, H) of the step before.

    Returns h(t) and the cell state C(t), each (B, H).
    """
    f_t = torch.sigmoid(x @ weights.W_xf.T + h @ weights.W_hf.T + weights.b_f)
    i_t = torch.sigmoid(x @ weights.W_xi.T + h @ weights.W_hi.T + weights.b_i)
    candidate = torch.tanh(x @ weights.W_xc.T + h @ weights.W_hc.T + weights.b_c)
    C = C * f_t + i_t * candidate
    o_t = torch.sigmoid(x @ weights.W_xo.T + h @ weights.W_ho.T + weights.b_o)
    return o_t * torch.tanh(C), C


def lstm_1997(x: Tensor, h: Tensor, C: Tensor, weights: LSTMWeights) -> tuple[Tensor, Tensor]:
    """The LSTM of Hochreiter and Schmidhuber 1997: no forget gate, so the cell state only ever adds up.

    It is `lstm` with f(t) = 1, the recurrent weight of one that keeps a gradient as it is; the weights of the forget
    gate are not read. (The paper's squashing functions are scaled sigmoids; these are today's.)
    """
    i_t = torch.sigmoid(x @ weights.W_xi.T + h @ weights.W_hi.T + weights.b_i)
    candidate = torch.tanh(x @ weights.W_xc.T + h @ weights.W_hc.T + weights.b_c)
    C = C + i_t * candidate
    o_t = torch.sigmoid(x @ weights.W_xo.T + h @ weights.W_ho.T + weights.b_o)
    return o_t * torch.tanh(C), C


def gru(x: Tensor, h: Tensor, weights: GRUWeights) -> Tensor:
    """A GRU in PyTorch's form: the reset gate acts after the product with W_hn. x: (B, E), h: (B, H); returns (B, H).

    z(t) is the share of the old state that stays; Chung et al. 2014, whom the chapter names, write 1 - z for it.
    """
    r_t = torch.sigmoid(x @ weights.W_xr.T + h @ weights.W_hr.T + weights.b_r)
    z_t = torch.sigmoid(x @ weights.W_xz.T + h @ weights.W_hz.T + weights.b_z)
    candidate = torch.tanh(x @ weights.W_xn.T + weights.b_xn + r_t * (h @ weights.W_hn.T + weights.b_hn))
    return (1 - z_t) * candidate + z_t * h


def layer_parameters(layer: nn.RNNBase) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """weight_ih, weight_hh, bias_ih and bias_hh of a PyTorch layer of one direction."""
    weight_ih, weight_hh = layer.get_parameter("weight_ih_l0"), layer.get_parameter("weight_hh_l0")
    return weight_ih, weight_hh, layer.get_parameter("bias_ih_l0"), layer.get_parameter("bias_hh_l0")


def rnn_weights(layer: nn.RNN) -> RNNWeights:
    """The weights of a PyTorch layer by the text's names; its two biases only ever act as their sum."""
    weight_ih, weight_hh, bias_ih, bias_hh = layer_parameters(layer)
    return RNNWeights(weight_ih, weight_hh, bias_ih + bias_hh)


def lstm_weights(layer: nn.LSTM) -> LSTMWeights:
    """The weights of a PyTorch layer, which stacks the gates in the order input, forget, candidate, output."""
    weight_ih, weight_hh, bias_ih, bias_hh = layer_parameters(layer)
    (W_xi, W_xf, W_xc, W_xo), (W_hi, W_hf, W_hc, W_ho) = weight_ih.chunk(4), weight_hh.chunk(4)
    b_i, b_f, b_c, b_o = (bias_ih + bias_hh).chunk(4)
    return LSTMWeights(W_xf, W_hf, b_f, W_xi, W_hi, b_i, W_xc, W_hc, b_c, W_xo, W_ho, b_o)


def gru_weights(layer: nn.GRU) -> GRUWeights:
    """The weights of a PyTorch layer, which stacks reset gate, update gate and candidate."""
    (W_xr, W_xz, W_xn), (W_hr, W_hz, W_hn), (b_xr, b_xz, b_xn), (b_hr, b_hz, b_hn) = (
        stacked.chunk(3) for stacked in layer_parameters(layer)
    )
    return GRUWeights(W_xr, W_hr, b_xr + b_hr, W_xz, W_hz, b_xz + b_hz, W_xn, W_hn, b_xn, b_hn)
