"""Back-propagation through time by hand finds autograd's gradients, and each term of its sum is the one it names."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from unroll.chapter.bptt import back_propagate, hidden_states, jacobian_product, squared_loss, step_jacobians
from unroll.models import cells
from unroll.models.cells import RNNWeights

TOLERANCE = 1e-10
sizes = st.integers(1, 5)
lengths = st.integers(1, 9)
seeds = st.integers(0, 2**32 - 1)


class Case:
    """A network, its inputs and its targets, in float64."""

    def __init__(self, num_inputs: int, num_hidden: int, num_outputs: int, num_steps: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        self.inputs, self.targets = draw(num_steps, num_inputs), draw(num_steps, num_outputs)
        self.weights = RNNWeights(draw(num_hidden, num_inputs), draw(num_hidden, num_hidden), draw(num_hidden))
        self.output_weights = draw(num_outputs, num_hidden), draw(num_outputs)
        self.num_steps = num_steps


cases = st.builds(Case, sizes, sizes, sizes, lengths, seeds)


def assert_same(found: object, expected: object) -> None:
    torch.testing.assert_close(found, expected, rtol=TOLERANCE, atol=TOLERANCE)


@given(case=cases)
def test_the_gradients_are_those_of_autograd(case: Case) -> None:
    by_hand = back_propagate(case.inputs, case.targets, case.weights, *case.output_weights)
    leaves = RNNWeights(*(weight.clone().requires_grad_() for weight in case.weights))
    loss = squared_loss(case.inputs, case.targets, leaves, *case.output_weights)
    assert_same(by_hand.loss, loss.detach())
    assert_same(tuple(by_hand.gradients), torch.autograd.grad(loss, leaves))


@given(case=cases)
def test_each_contribution_is_the_gradient_of_the_matrix_as_it_acts_in_one_step(case: Case) -> None:
    found = back_propagate(case.inputs, case.targets, case.weights, *case.output_weights).contributions
    # the same numbers in every step, but a matrix of its own for autograd to tell apart
    copies = [case.weights.W_hh.clone().requires_grad_() for _ in range(case.num_steps)]
    h = torch.zeros_like(case.weights.b_h)
    W_ho, b_o = case.output_weights  # noqa: N806
    expected = torch.zeros(case.num_steps, case.num_steps, dtype=torch.float64)
    for t, (x, target) in enumerate(zip(case.inputs, case.targets, strict=True)):
        h = cells.rnn(x, h, case.weights._replace(W_hh=copies[t]))
        loss = (W_ho @ h + b_o - target).square().sum() / 2
        terms = torch.autograd.grad(loss, copies[: t + 1], retain_graph=True)
        expected[t, : t + 1] = torch.stack([term.norm() for term in terms])
    assert_same(found, expected)


@given(case=cases)
def test_no_step_after_a_loss_contributes_to_it(case: Case) -> None:
    contributions = back_propagate(case.inputs, case.targets, case.weights, *case.output_weights).contributions
    assert contributions.shape == (case.num_steps, case.num_steps)
    assert torch.equal(contributions, contributions.tril())
    assert not contributions[:, 0].any()  # before the first step there is nothing for W_hh to act on


@given(case=cases, data=st.data())
def test_the_product_of_jacobians_is_the_jacobian_of_the_unrolled_network(case: Case, data: st.DataObject) -> None:
    t = data.draw(st.integers(1, case.num_steps))
    k = data.draw(st.integers(1, t))
    states = hidden_states(case.inputs, case.weights)

    def unrolled(h: Tensor) -> Tensor:
        for x in case.inputs[k:t]:
            h = cells.rnn(x, h, case.weights)
        return h

    jacobians = step_jacobians(states, case.weights)
    assert_same(unrolled(states[k]), states[t])
    assert_same(jacobian_product(jacobians, t, k), torch.autograd.functional.jacobian(unrolled, states[k]))


@given(case=cases)
def test_each_steps_jacobian_is_autograds(case: Case) -> None:
    states = hidden_states(case.inputs, case.weights)
    expected = [
        torch.autograd.functional.jacobian(lambda h, x=x: cells.rnn(x, h, case.weights), before)
        for x, before in zip(case.inputs, states[:-1], strict=True)
    ]
    assert_same(step_jacobians(states, case.weights), torch.stack(expected))


def test_the_jacobian_over_no_step_is_the_identity() -> None:
    case = Case(2, 3, 1, 4, seed=0)
    jacobians = step_jacobians(hidden_states(case.inputs, case.weights), case.weights)
    for t in range(1, 5):
        assert torch.equal(jacobian_product(jacobians, t, t), torch.eye(3, dtype=torch.float64))


@given(case=cases)
def test_the_states_begin_at_zero_and_are_those_of_pytorchs_layer(case: Case) -> None:
    layer = nn.RNN(case.inputs.size(1), len(case.weights.b_h), dtype=torch.float64)
    with torch.no_grad():
        for parameter, weight in zip(cells.layer_parameters(layer), (*case.weights, torch.zeros(1)), strict=True):
            parameter.copy_(weight)
        states = hidden_states(case.inputs, case.weights)
        assert_same(states[1:], layer(case.inputs)[0])
    assert not states[0].any()


def test_the_loss_is_half_of_the_squared_errors_summed_over_the_steps() -> None:
    one = torch.ones(1, 1, dtype=torch.float64)
    weights = RNNWeights(one, 0.5 * one, torch.tensor([0.25], dtype=torch.float64))
    inputs, targets = torch.tensor([[1.0], [-2.0]]).double(), torch.tensor([[0.5], [-1.0]]).double()
    loss = squared_loss(inputs, targets, weights, 3 * one, torch.tensor([0.125], dtype=torch.float64))
    first = math.tanh(1 + 0.25)
    second = math.tanh(-2 + 0.5 * first + 0.25)
    assert loss.item() == pytest.approx(((3 * first + 0.125 - 0.5) ** 2 + (3 * second + 0.125 + 1) ** 2) / 2)
