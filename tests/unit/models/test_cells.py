"""The chapter's equations, step by step, are PyTorch's layers: outputs and gradients, in float64 to 1e-10."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from unroll.models import cells
from unroll.models.cells import RNNWeights

BATCH, STEPS, INPUTS, HIDDEN, OUTPUTS = 3, 7, 4, 5, 2
TOLERANCE = 1e-10

State = tuple[Tensor, ...]
Step = Callable[[Tensor, State], State]


def step_by_step(step: Step, inputs: Tensor, state: State) -> Tensor:
    """h(t) of every step, (B, T, H)."""
    hidden = []
    for x in inputs.unbind(1):
        state = step(x, state)
        hidden.append(state[0])
    return torch.stack(hidden, dim=1)


def make_inputs(seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, a start state and a direction to differentiate along."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((BATCH, STEPS, INPUTS), (2, 1, BATCH, HIDDEN), (BATCH, STEPS, HIDDEN))
    inputs, state, direction = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return inputs.requires_grad_(), state.requires_grad_(), direction


def gradients(sequence: Tensor, direction: Tensor, layer: nn.Module, *others: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad((sequence * direction).sum(), [*layer.parameters(), *others]))


def assert_same(found: Tensor | list[Tensor], expected: Tensor | list[Tensor]) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCE)


def simple_rnn(layer: nn.RNN) -> Step:
    activation = torch.tanh if layer.nonlinearity == "tanh" else torch.relu
    return lambda x, state: (cells.rnn(x, state[0], cells.rnn_weights(layer), activation),)


def lstm(layer: nn.LSTM) -> Step:
    return lambda x, state: cells.lstm(x, *state, cells.lstm_weights(layer))


def gru(layer: nn.GRU) -> Step:
    return lambda x, state: (cells.gru(x, state[0], cells.gru_weights(layer)),)


@pytest.mark.parametrize(
    ("make_layer", "make_step"),
    [
        (lambda: nn.RNN(INPUTS, HIDDEN, batch_first=True), simple_rnn),
        (lambda: nn.RNN(INPUTS, HIDDEN, batch_first=True, nonlinearity="relu"), simple_rnn),
        (lambda: nn.LSTM(INPUTS, HIDDEN, batch_first=True), lstm),
        (lambda: nn.GRU(INPUTS, HIDDEN, batch_first=True), gru),
    ],
    ids=["rnn_tanh", "rnn_relu", "lstm", "gru"],
)
@pytest.mark.parametrize("seed", range(3))
def test_each_cell_is_pytorchs_layer_in_outputs_and_gradients(
    make_layer: Callable[[], nn.RNNBase], make_step: Callable[[nn.RNNBase], Step], seed: int
) -> None:
    torch.manual_seed(seed)
    layer = make_layer().double()
    inputs, state, direction = make_inputs(seed)
    parts = 2 if isinstance(layer, nn.LSTM) else 1
    initial = (state[0], state[1]) if parts == 2 else state[0]

    expected = layer(inputs, initial)[0]
    found = step_by_step(make_step(layer), inputs, tuple(state[:parts, 0]))

    assert_same(found, expected)
    assert_same(gradients(found, direction, layer, inputs, state), gradients(expected, direction, layer, inputs, state))


def test_concatenated_weights_give_the_same_hidden_units_to_rounding() -> None:
    layer = nn.RNN(INPUTS, HIDDEN, batch_first=True).double()
    inputs, state, _ = make_inputs()
    weights = cells.rnn_weights(layer)
    W_h = torch.cat([weights.W_xh, weights.W_hh], dim=1)  # noqa: N806 - the text's name
    x, h = inputs[:, 0], state[0, 0]
    assert_same(cells.rnn_concatenated(x, h, W_h, weights.b_h), cells.rnn(x, h, weights))


def test_the_output_activation_is_a_linear_layer_and_its_function() -> None:
    head = nn.Linear(HIDDEN, OUTPUTS).double()
    h = make_inputs()[1][0, 0]
    softmax = nn.Softmax(dim=-1)
    assert_same(cells.output(h, head.weight, head.bias, softmax), softmax(head(h)))


def test_the_lstm_of_1997_is_todays_with_its_forget_gate_held_open() -> None:
    torch.manual_seed(0)
    layer = nn.LSTM(INPUTS, HIDDEN, batch_first=True).double()
    forget = slice(HIDDEN, 2 * HIDDEN)
    with torch.no_grad():
        layer.weight_ih_l0[forget], layer.weight_hh_l0[forget] = 0.0, 0.0
        layer.bias_ih_l0[forget] = 1_000.0  # a sigmoid of exactly one
    inputs, state, direction = make_inputs()
    weights = cells.lstm_weights(layer)

    expected = layer(inputs, (state[0], state[1]))[0]
    found = step_by_step(lambda x, parts: cells.lstm_1997(x, *parts, weights), inputs, tuple(state[:, 0]))

    assert_same(found, expected)
    # the forget gate's own weights are no part of the older cell
    inputs_only = [torch.autograd.grad((s * direction).sum(), [inputs, state]) for s in (found, expected)]
    assert_same(list(inputs_only[0]), list(inputs_only[1]))


def test_without_a_forget_gate_the_cell_state_grows_without_bound() -> None:
    torch.manual_seed(0)
    weights = cells.lstm_weights(nn.LSTM(INPUTS, HIDDEN).double())
    x = torch.ones(1, INPUTS, dtype=torch.float64)
    h = old_h = torch.zeros(1, HIDDEN, dtype=torch.float64)
    C = old_C = torch.zeros(1, HIDDEN, dtype=torch.float64)  # noqa: N806 - the text's name
    for _ in range(1_000):
        h, C = cells.lstm(x, h, C, weights)  # noqa: N806
        old_h, old_C = cells.lstm_1997(x, old_h, old_C, weights)  # noqa: N806
    assert float(C.abs().max().detach()) < 5
    assert float(old_C.abs().max().detach()) > 100


def test_output_to_hidden_by_hand() -> None:
    one = torch.ones(1, 1)
    weights = RNNWeights(W_xh=2 * one, W_hh=3 * one, b_h=torch.tensor([1.0]))
    # h = relu(2 * 5 + 3 * 7 + 1) = 32, o = relu(-0.5 * 32 + 20) = 4
    o = cells.output_to_hidden(5 * one, 7 * one, weights, -0.5 * one, torch.tensor([20.0]), torch.relu)
    assert o.item() == 4.0


def test_output_to_output_by_hand() -> None:
    one = torch.ones(1, 1)
    # h = relu(2 * 5 + 1) = 11, o = relu(-0.5 * 11 + 3 * 7 + 20) = 35.5; no hidden unit sees the last output
    o = cells.output_to_output(
        5 * one, 7 * one, 2 * one, torch.tensor([1.0]), -0.5 * one, 3 * one, torch.tensor([20.0]), torch.relu
    )
    assert o.item() == 35.5
