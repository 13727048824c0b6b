"""How far a gradient reaches is measured as autograd would find it, and vanishes or explodes as the chapter says."""

from __future__ import annotations

from itertools import accumulate, repeat
from operator import mul

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from unroll.chapter.gradient_flow import gradient_flow, one_unit_flow, state_jacobians

BATCH, STEPS, INPUTS, HIDDEN = 3, 6, 2, 4
LAYERS = ["rnn_tanh", "rnn_relu", "lstm", "gru"]
magnitudes = st.floats(0.01, 2.0)


def make_layer(name: str, hidden_size: int = HIDDEN, seed: int = 0) -> nn.RNNBase:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name.startswith("rnn_"):
            return nn.RNN(INPUTS, hidden_size, nonlinearity=name.removeprefix("rnn_"), batch_first=True)
        return {"lstm": nn.LSTM, "gru": nn.GRU}[name](INPUTS, hidden_size, batch_first=True)


def make_inputs(seed: int = 0, batch: int = BATCH, steps: int = STEPS) -> Tensor:
    return torch.randn(batch, steps, INPUTS, generator=torch.Generator().manual_seed(seed))


def run(layer: nn.RNNBase, inputs: Tensor, state: Tensor) -> Tensor:
    """The state after some steps of one sequence, by PyTorch's layer. inputs: (T, E), state: (S,); returns (S,)."""
    if not len(inputs):
        return state
    parts = tuple(part.unsqueeze(0) for part in state.split(layer.hidden_size))
    after = layer(inputs, parts if isinstance(layer, nn.LSTM) else parts[0])[1]
    return torch.cat([part.squeeze(0) for part in after]) if isinstance(after, tuple) else after.squeeze(0)


def jacobian_by_autograd(layer: nn.RNNBase, inputs: Tensor, first: int) -> Tensor:
    """∂s(T)/∂s(first) of one sequence, through PyTorch's layer. inputs: (T, E); returns (S, S)."""
    size = layer.hidden_size * (2 if isinstance(layer, nn.LSTM) else 1)
    with torch.no_grad():
        state = run(layer, inputs[:first], torch.zeros(size, dtype=torch.float64))
    jacobian: Tensor = torch.autograd.functional.jacobian(lambda s: run(layer, inputs[first:], s), state)
    return jacobian


# one unit


@given(magnitude=st.one_of(st.just(1.0), magnitudes), sign=st.sampled_from([1, -1]), num_steps=st.integers(1, 60))
def test_the_gradient_of_one_unit_is_the_power_of_its_weight(magnitude: float, sign: int, num_steps: int) -> None:
    flow = one_unit_flow(sign * magnitude, num_steps).tolist()
    # a factor for each step, so rounded as the chain rule rounds
    assert flow == list(accumulate(repeat(magnitude, num_steps - 1), mul, initial=1.0))
    assert flow == pytest.approx([magnitude**distance for distance in range(num_steps)], rel=1e-12)


def test_it_vanishes_below_one_stays_at_one_and_explodes_above() -> None:
    below, at, above = (one_unit_flow(weight, 60)[-1].item() for weight in (0.9, 1.0, 1.1))
    assert below < 0.003
    assert at == 1.0
    assert above > 250


# layers


@pytest.mark.parametrize("name", LAYERS)
@settings(max_examples=20)
@given(seed=st.integers(0, 1000), first=st.integers(1, STEPS))
def test_the_product_of_the_steps_jacobians_is_that_of_pytorchs_layer(name: str, seed: int, first: int) -> None:
    layer, inputs = make_layer(name, seed=seed), make_inputs(seed)
    jacobians = state_jacobians(layer, inputs)
    layer = layer.double()
    for sequence, each in zip(inputs.double(), jacobians, strict=True):
        product = torch.eye(each.size(-1), dtype=torch.float64)
        for jacobian in each[first:]:
            product = jacobian @ product
        torch.testing.assert_close(product, jacobian_by_autograd(layer, sequence, first), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", LAYERS)
def test_the_flow_is_the_median_of_the_largest_singular_values(name: str) -> None:
    layer, inputs = make_layer(name, seed=1), make_inputs(1)
    flow = gradient_flow(layer, inputs)
    layer = layer.double()
    hidden, cell = slice(0, HIDDEN), slice(HIDDEN, None)
    for distance in range(STEPS):
        jacobians = [jacobian_by_autograd(layer, sequence, STEPS - distance) for sequence in inputs.double()]
        for found, block in ((flow.hidden, hidden), (flow.cell, cell)):
            if found is not None:
                norms = [float(torch.linalg.svdvals(jacobian[block, block])[0]) for jacobian in jacobians]
                assert found[distance].item() == pytest.approx(sorted(norms)[1], rel=1e-9)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("num_steps", [1, STEPS])
def test_a_flow_has_a_value_for_each_distance_from_zero_where_it_is_one(name: str, num_steps: int) -> None:
    flow = gradient_flow(make_layer(name), make_inputs(steps=num_steps))
    for each in (flow.hidden, flow.cell if name == "lstm" else flow.hidden):
        assert each is not None
        assert each.shape == (num_steps,)
        assert each.dtype == torch.float64
        assert each[0].item() == 1.0
    assert (flow.cell is None) == (name != "lstm")


@pytest.mark.parametrize("name", LAYERS)
def test_measuring_leaves_the_layer_as_it_was(name: str) -> None:
    layer = make_layer(name)
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    gradient_flow(layer, make_inputs())
    after = layer.state_dict()
    assert all(torch.equal(after[key], before[key]) and after[key].dtype == torch.float32 for key in before)
    assert all(parameter.requires_grad for parameter in layer.parameters())


@pytest.mark.parametrize("name", ["rnn_tanh", "lstm", "gru"])
@pytest.mark.parametrize("seed", range(3))
def test_in_a_new_layer_gradients_vanish(name: str, seed: int) -> None:
    flow = gradient_flow(make_layer(name, 24, seed), make_inputs(seed, steps=41))
    for each in (flow.hidden, flow.cell):
        if each is not None:
            assert each[10] < 0.5
            assert each[20] < 0.1 * each[10]
            assert each[40] < 0.1 * each[20]


@pytest.mark.parametrize("gain", [0.9, 1.0, 1.1])
def test_where_tanh_is_straight_an_orthogonal_matrix_keeps_a_gradient_but_for_its_scale(gain: float) -> None:
    layer = make_layer("rnn_tanh", 16)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        nn.init.orthogonal_(layer.get_parameter("weight_hh_l0"), gain)
        nn.init.ones_(layer.get_parameter("weight_ih_l0"))
    flow = gradient_flow(layer, 1e-6 * make_inputs(steps=31)).hidden.tolist()
    assert flow == pytest.approx([gain**distance for distance in range(31)], rel=1e-4)


def test_where_tanh_bends_the_gradient_of_the_same_matrix_is_smaller() -> None:
    layer = make_layer("rnn_tanh", 16)
    nn.init.orthogonal_(layer.get_parameter("weight_hh_l0"))
    flow = gradient_flow(layer, 3 * make_inputs(steps=31)).hidden
    assert flow[-1] < 0.1
