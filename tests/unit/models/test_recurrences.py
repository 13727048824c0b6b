"""Layers that remember their output follow the chapter's equations, step by step, and are exact within the stack."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from unroll.config import CharModelConfig, SentimentModelConfig
from unroll.errors import ConfigError
from unroll.models.classifier import SentimentClassifier
from unroll.models.language_model import CharLanguageModel
from unroll.models.recurrences import OUTPUT_RECURRENCES, OutputToHidden, OutputToOutput
from unroll.models.recurrent import Recurrent, detach_state
from unroll.presets import make_config

RECURRENCES = ["output_to_hidden", "output_to_output"]
NONLINEARITIES = ["tanh", "relu"]
Layer = OutputToHidden | OutputToOutput

batches = {"batch_size": st.integers(1, 3), "num_steps": st.integers(1, 7), "seed": st.integers(0, 10_000)}


def make(
    recurrence: str, nonlinearity: str = "tanh", input_size: int = 3, hidden_size: int = 4, seed: int = 0
) -> Layer:
    """A layer with random weights in float64."""
    torch.manual_seed(seed)
    return OUTPUT_RECURRENCES[recurrence](input_size, hidden_size, nonlinearity).double()


def hand_made(recurrence: str) -> Layer:
    """One input feature, two units, relu, and weights so small that the steps can be done in the head."""
    layer = make(recurrence, "relu", input_size=1, hidden_size=2)
    weights = {
        "weight_xh": [[1.0], [2.0]],
        "bias_h": [0.0, -1.0],
        "weight_ho": [[1.0, 0.0], [1.0, 1.0]],
        "bias_o": [0.0, 1.0],
        "weight_recurrent": [[0.0, 1.0], [-1.0, 0.0]],
    }
    with torch.no_grad():
        for name, values in weights.items():
            getattr(layer, name).copy_(torch.tensor(values))
    return layer


class Steps(NamedTuple):
    """What the chapter's equations give."""

    outputs: Tensor
    """(B, T, H)"""
    net_inputs: Tensor
    """(2, B, T, H): of the hidden units, then of the output units."""


def by_the_equations(layer: Layer, inputs: Tensor, initial: Tensor | None = None) -> Steps:
    """Every product of every step written out, with the names that the chapter's code has."""
    w_xh, b_h, w_ho, b_o, sigma = layer.weight_xh, layer.bias_h, layer.weight_ho, layer.bias_o, layer.activation
    w_oh = layer.weight_recurrent if isinstance(layer, OutputToHidden) else None
    w_oo = layer.weight_recurrent if isinstance(layer, OutputToOutput) else None
    o = inputs.new_zeros(len(inputs), len(b_o)) if initial is None else initial[0]
    steps = []
    for x in inputs.unbind(1):
        z_h = x @ w_xh.T + b_h if w_oh is None else x @ w_xh.T + o @ w_oh.T + b_h
        h = sigma(z_h)
        z_o = h @ w_ho.T + b_o if w_oo is None else h @ w_ho.T + o @ w_oo.T + b_o
        o = sigma(z_o)
        steps.append((o, z_h, z_o))
    outputs, z_hidden, z_outputs = (torch.stack(parts, dim=1) for parts in zip(*steps, strict=True))
    return Steps(outputs, torch.stack([z_hidden, z_outputs]))


# one layer


@pytest.mark.parametrize(
    ("recurrence", "initial", "expected"),
    [
        # t=0: h = (1, 2-1) = (1, 1), o = (1, 1+1+1); t=1: h = (2+3, 4-1-1), o = (5, 5+2+1);
        # t=2: h = (-1+8, -2-5-1 < 0) = (7, 0), o = (7, 7+0+1)
        ("output_to_hidden", None, [[1, 3], [5, 8], [7, 8]]),
        # t=0: h = (1+1, 2-1-1) = (2, 0), o = (2, 2+0+1); t=1: h = (2+3, 4-2-1) = (5, 1), o = (5, 5+1+1);
        # t=2: h = (-1+7, -2-5-1 < 0) = (6, 0), o = (6, 6+0+1)
        ("output_to_hidden", [1, 1], [[2, 3], [5, 7], [6, 7]]),
        # t=0: h = (1, 1), o = (1, 1+1+1); t=1: h = (2, 3), o = (2+3, 2+3+1-1); t=2: h = (0, 0), o = (0+5, 1-5 < 0)
        ("output_to_output", None, [[1, 3], [5, 5], [5, 0]]),
        # t=0: h = (1, 1), o = (1+1, 3-1); t=1: h = (2, 3), o = (2+2, 6-2); t=2: h = (0, 0), o = (0+4, 1-4 < 0)
        ("output_to_output", [1, 1], [[2, 2], [4, 4], [4, 0]]),
    ],
)
def test_three_steps_worked_by_hand(recurrence: str, initial: list[int] | None, expected: list[list[int]]) -> None:
    inputs = torch.tensor([[[1.0], [2.0], [-1.0]]]).double()
    before = None if initial is None else torch.tensor([[initial]]).double()
    outputs, last = hand_made(recurrence)(inputs, before)
    assert outputs.tolist() == [expected]
    assert last.tolist() == [[expected[-1]]]


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
@pytest.mark.parametrize("recurrence", RECURRENCES)
@settings(max_examples=25)
@given(input_size=st.integers(1, 5), hidden_size=st.integers(1, 5), warm=st.booleans(), **batches)
def test_any_steps_equal_the_equations(
    recurrence: str,
    nonlinearity: str,
    input_size: int,
    hidden_size: int,
    warm: bool,
    batch_size: int,
    num_steps: int,
    seed: int,
) -> None:
    layer = make(recurrence, nonlinearity, input_size, hidden_size, seed)
    inputs = torch.randn(batch_size, num_steps, input_size).double()
    initial = torch.randn(1, batch_size, hidden_size).double() if warm else None
    outputs, last = layer(inputs, initial)
    expected = by_the_equations(layer, inputs, initial).outputs
    torch.testing.assert_close(outputs, expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(last, expected[:, -1].unsqueeze(0), atol=1e-12, rtol=0)


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_gradients_are_those_of_finite_differences(recurrence: str, nonlinearity: str) -> None:
    layer = make(recurrence, nonlinearity)
    inputs = torch.randn(2, 4, 3).double().requires_grad_()
    initial = torch.randn(1, 2, 4).double().requires_grad_()
    names, parameters = zip(*layer.named_parameters(), strict=True)
    assert len(names) == 5
    net_inputs = by_the_equations(layer, inputs, initial).net_inputs
    if nonlinearity == "relu":  # differences of 1e-6 do not cross a kink, and units of either kind are there
        assert net_inputs.abs().min() > 1e-3
        assert 0.2 < (net_inputs > 0).double().mean() < 0.8

    def outputs_of(inputs: Tensor, initial: Tensor, *values: Tensor) -> tuple[Tensor, Tensor]:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (inputs, initial))  # type: ignore[no-any-return]

    assert torch.autograd.gradcheck(outputs_of, (inputs, initial, *parameters), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("recurrence", RECURRENCES)
@settings(max_examples=25)
@given(cut=st.integers(1, 6), **batches)
def test_two_windows_with_the_last_output_carried_equal_one(
    recurrence: str, cut: int, batch_size: int, num_steps: int, seed: int
) -> None:
    layer = make(recurrence, seed=seed)
    inputs = torch.randn(batch_size, num_steps + cut, 3).double()
    whole, last = layer(inputs)
    first, carried = layer(inputs[:, :cut])
    second, last_of_second = layer(inputs[:, cut:], carried)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, atol=1e-12, rtol=0)
    torch.testing.assert_close(last_of_second, last, atol=1e-12, rtol=0)


def hidden_read_from_outputs(layer: Layer, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """(h, o), each (B, T, H), of a tanh layer with W_ho = 1 and b_o = 0: there o(t) betrays h(t)."""
    with torch.no_grad():
        layer.weight_ho.copy_(torch.eye(len(layer.bias_o)))
        layer.bias_o.zero_()
        outputs, _last = layer(inputs)
        hidden = torch.atanh(outputs)  # o(t) = tanh(h(t)), or tanh(h(t) + W_oo o(t-1))
        if isinstance(layer, OutputToOutput):
            before = torch.cat([torch.zeros_like(outputs[:, :1]), outputs[:, :-1]], dim=1)
            hidden = hidden - before @ layer.weight_recurrent.T
    return hidden, outputs


@pytest.mark.parametrize("recurrence", RECURRENCES)
@settings(max_examples=20)
@given(place=st.integers(0, 4), seed=st.integers(0, 10_000))
def test_only_output_to_hidden_lets_the_hidden_units_know_the_past(recurrence: str, place: int, seed: int) -> None:
    layer = make(recurrence, seed=seed)
    inputs = torch.randn(2, 6, 3).double()
    changed = inputs.clone()
    changed[:, place] += 1
    (hidden, outputs), (other_hidden, other_outputs) = (hidden_read_from_outputs(layer, x) for x in (inputs, changed))
    step_after = place + 1
    assert (outputs[:, step_after] - other_outputs[:, step_after]).abs().max() > 1e-9
    of_the_present_alone = torch.tanh(inputs @ layer.weight_xh.T + layer.bias_h)
    if recurrence == "output_to_output":
        torch.testing.assert_close(hidden, of_the_present_alone, atol=1e-11, rtol=0)
        torch.testing.assert_close(hidden[:, step_after:], other_hidden[:, step_after:], atol=1e-11, rtol=0)
    else:
        assert (hidden[:, step_after] - other_hidden[:, step_after]).abs().max() > 1e-9
        assert (hidden[:, 1:] - of_the_present_alone[:, 1:]).abs().max() > 1e-3


@pytest.mark.parametrize("place", [0, 3, 6])
@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_future_inputs_leave_past_outputs_unchanged(recurrence: str, place: int) -> None:
    layer = make(recurrence)
    inputs = torch.randn(2, 7, 3).double()
    changed = inputs.clone()
    changed[:, place:] += 1
    before, after = layer(inputs)[0], layer(changed)[0]
    assert torch.equal(before[:, :place], after[:, :place])
    assert ((before - after)[:, place:].abs().amax(dim=(0, 2)) > 1e-9).all()


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_first_weights_are_drawn_as_pytorchs_own(recurrence: str) -> None:
    layer, twin = make(recurrence, input_size=60, hidden_size=100), nn.RNN(60, 100)
    for parameter in [*layer.parameters(), *twin.parameters()]:
        assert parameter.abs().max() <= 0.1
        assert parameter.std().item() == pytest.approx(0.1 / math.sqrt(3), rel=0.2)


# within the stack


def make_stack(recurrence: str, num_layers: int = 2, cell: str = "rnn_tanh", bidirectional: bool = False) -> Recurrent:
    torch.manual_seed(0)
    return Recurrent(3, 4, num_layers, cell, bidirectional, recurrence=recurrence).double()  # type: ignore[arg-type]


def one_text(stack: Recurrent, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """A text without padding, (1, T, E), layer by layer by the equations: the sequence and the last states."""
    sequence = inputs
    for depth, layer in enumerate(stack.forward_layers):
        ahead = by_the_equations(layer, sequence).outputs  # type: ignore[arg-type]
        outputs, lasts = [ahead], [ahead[:, -1]]
        if stack.bidirectional:
            backward = by_the_equations(stack.backward_layers[depth], sequence.flip(1)).outputs  # type: ignore[arg-type]
            outputs.append(backward.flip(1))
            lasts.append(backward[:, -1])
        sequence, last = torch.cat(outputs, dim=-1), torch.cat(lasts, dim=-1)
    return sequence, last


@pytest.mark.parametrize("recurrence", RECURRENCES)
@settings(max_examples=40)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    num_layers=st.integers(1, 3),
    cell=st.sampled_from(["rnn_tanh", "rnn_relu"]),
    bidirectional=st.booleans(),
)
def test_a_padded_batch_equals_each_text_alone(
    recurrence: str, lengths: list[int], num_layers: int, cell: str, bidirectional: bool
) -> None:
    stack = make_stack(recurrence, num_layers, cell, bidirectional)
    inputs = torch.randn(len(lengths), max(lengths), 3).double()
    together = stack(inputs, torch.tensor(lengths))
    assert together.sequence.shape == (len(lengths), max(lengths), stack.output_size)
    assert together.state is None
    for row, length in enumerate(lengths):
        sequence, last = one_text(stack, inputs[row : row + 1, :length])
        torch.testing.assert_close(together.sequence[row, :length], sequence[0], atol=1e-12, rtol=0)
        torch.testing.assert_close(together.last_hidden[row], last[0], atol=1e-12, rtol=0)
        assert together.sequence[row, length:].abs().sum() == 0


@pytest.mark.parametrize("recurrence", RECURRENCES)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_never_reaches_a_real_position(recurrence: str, bidirectional: bool) -> None:
    stack, lengths = make_stack(recurrence, bidirectional=bidirectional), torch.tensor([4, 7, 2])
    inputs = torch.randn(3, 7, 3).double()
    changed = inputs.clone()
    changed[0, 4:], changed[2, 2:] = 1e3, -1e3
    before, after = stack(inputs, lengths), stack(changed, lengths)
    assert torch.equal(before.sequence, after.sequence)
    assert torch.equal(before.last_hidden, after.last_hidden)


@pytest.mark.parametrize("recurrence", RECURRENCES)
@pytest.mark.parametrize("cuts", [[1], [6], [2, 3, 9]])
def test_windows_through_two_layers_equal_one_pass(recurrence: str, cuts: list[int]) -> None:
    stack = make_stack(recurrence)
    inputs = torch.randn(2, 10, 3).double()
    whole = stack(inputs)
    state, parts = None, []
    for start, stop in zip([0, *cuts], [*cuts, 10], strict=True):
        window = stack(inputs[:, start:stop], state=state)
        state = detach_state(window.state)
        parts.append(window.sequence)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole.sequence, atol=1e-12, rtol=0)
    assert state is not None
    assert [tuple(part.shape for part in layer) for layer in state] == [((1, 2, 4),)] * 2
    torch.testing.assert_close(state, whole.state, atol=1e-12, rtol=0)


# the setting


@pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu"])
@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_the_setting_reaches_every_layer_of_both_models(recurrence: str, cell: str) -> None:
    small = {"embedding_dim": 4, "hidden_size": 3, "num_layers": 2, "cell": cell, "recurrence": recurrence}
    classifier = SentimentClassifier(SentimentModelConfig.model_validate({**small, "bidirectional": True}), 20, 2)
    writer = CharLanguageModel(CharModelConfig.model_validate(small), 20)
    layers = [*classifier.recurrent.forward_layers, *classifier.recurrent.backward_layers]
    layers += writer.recurrent.forward_layers
    assert len(layers) == 6
    for layer in layers:
        assert type(layer) is OUTPUT_RECURRENCES[recurrence]
        assert layer.activation(torch.tensor(-2.0)).item() == (0 if cell == "rnn_relu" else pytest.approx(-0.9640276))


@pytest.mark.parametrize("project", ["sentiment", "language_model"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_gated_cells_have_no_output_recurrence(recurrence: str, cell: str, project: str) -> None:
    message = rf"model: recurrence {recurrence} needs cell rnn_tanh or rnn_relu, got {cell}$"
    with pytest.raises(ConfigError, match=message):
        make_config(project, {"model": {"cell": cell, "recurrence": recurrence}})


def test_the_cell_that_stands_by_default_has_no_output_recurrence_either() -> None:
    with pytest.raises(ConfigError, match="needs cell rnn_tanh or rnn_relu, got lstm"):
        make_config("language_model", {"model": {"recurrence": "output_to_output"}})


@pytest.mark.parametrize("project", ["sentiment", "language_model"])
@pytest.mark.parametrize("recurrence", ["hidden_to_hidden", *RECURRENCES])
@pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu"])
def test_simple_cells_have_every_recurrence(cell: str, recurrence: str, project: str) -> None:
    assert make_config(project, {"model": {"cell": cell, "recurrence": recurrence}}).model.recurrence == recurrence
    with pytest.raises(ConfigError, match=r"model\.recurrence: .*'hidden_to_hidden', 'output_to_hidden'"):
        make_config(project, {"model": {"cell": cell, "recurrence": "hidden_to_output"}})
