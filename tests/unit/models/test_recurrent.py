"""The stack equals PyTorch's packed layers, for every cell, depth, direction and length."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from unroll.models.recurrent import Recurrent, detach_state

CELLS = ["rnn_tanh", "rnn_relu", "lstm", "gru"]


def packed_twin(stack: Recurrent, input_size: int, num_layers: int) -> nn.RNNBase:
    """PyTorch's own multi-layer module with the stack's weights."""
    options = {"batch_first": True, "num_layers": num_layers, "bidirectional": stack.bidirectional}
    if stack.cell.startswith("rnn_"):
        twin: nn.RNNBase = nn.RNN(
            input_size, stack.hidden_size, nonlinearity=stack.cell.removeprefix("rnn_"), **options
        )
    else:
        twin = {"lstm": nn.LSTM, "gru": nn.GRU}[stack.cell](input_size, stack.hidden_size, **options)
    with torch.no_grad():
        for suffix, layers in (("", stack.forward_layers), ("_reverse", stack.backward_layers)):
            for depth, layer in enumerate(layers):
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                    getattr(twin, f"{name}_l{depth}{suffix}").copy_(getattr(layer, f"{name}_l0"))
    return twin


def packed_outputs(twin: nn.RNNBase, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
    sequence, final = twin(packed)
    hidden = final[0] if isinstance(final, tuple) else final
    directions = 2 if twin.bidirectional else 1
    padded, _ = pad_packed_sequence(sequence, batch_first=True, total_length=inputs.size(1))
    return padded, hidden[-directions:].transpose(0, 1).flatten(1)


@settings(max_examples=60, deadline=None)
@given(
    cell=st.sampled_from(CELLS),
    num_layers=st.integers(1, 3),
    bidirectional=st.booleans(),
    lengths=st.lists(st.integers(1, 17), min_size=1, max_size=7),
    seed=st.integers(0, 10_000),
)
def test_outputs_and_gradients_equal_packed_sequences(
    cell: str, num_layers: int, bidirectional: bool, lengths: list[int], seed: int
) -> None:
    torch.manual_seed(seed)
    stack = Recurrent(5, 6, num_layers, cell, bidirectional)
    twin = packed_twin(stack, 5, num_layers)
    length_tensor = torch.tensor(lengths)
    inputs = torch.randn(len(lengths), max(lengths), 5)
    ours_inputs, twin_inputs = inputs.clone().requires_grad_(), inputs.clone().requires_grad_()

    ours = stack(ours_inputs, length_tensor)
    sequence, last_hidden = packed_outputs(twin, twin_inputs, length_tensor)
    torch.testing.assert_close(ours.sequence, sequence, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.last_hidden, last_hidden, atol=1e-5, rtol=1e-5)

    weight, hidden_weight = torch.randn_like(sequence), torch.randn_like(last_hidden)
    ((ours.sequence * weight).sum() + (ours.last_hidden * hidden_weight).sum()).backward()
    ((sequence * weight).sum() + (last_hidden * hidden_weight).sum()).backward()
    assert ours_inputs.grad is not None
    assert twin_inputs.grad is not None
    torch.testing.assert_close(ours_inputs.grad, twin_inputs.grad, atol=1e-5, rtol=1e-5)
    for suffix, layers in (("", stack.forward_layers), ("_reverse", stack.backward_layers)):
        for depth, layer in enumerate(layers):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                expected = getattr(twin, f"{name}_l{depth}{suffix}").grad
                torch.testing.assert_close(getattr(layer, f"{name}_l0").grad, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_padding_never_reaches_a_real_position(cell: str) -> None:
    torch.manual_seed(0)
    stack = Recurrent(3, 4, 2, cell, bidirectional=True)
    lengths = torch.tensor([4, 7, 2])
    inputs = torch.randn(3, 7, 3)
    changed = inputs.clone()
    changed[0, 4:], changed[2, 2:] = 1e3, -1e3
    before, after = stack(inputs, lengths), stack(changed, lengths)
    assert torch.equal(before.sequence, after.sequence)
    assert torch.equal(before.last_hidden, after.last_hidden)


@pytest.mark.parametrize("cell", CELLS)
def test_two_windows_with_a_carried_state_equal_one_long_window(cell: str) -> None:
    torch.manual_seed(0)
    stack = Recurrent(3, 4, 2, cell)
    inputs = torch.randn(2, 10, 3)
    whole = stack(inputs)
    first = stack(inputs[:, :6])
    second = stack(inputs[:, 6:], state=detach_state(first.state))
    torch.testing.assert_close(torch.cat([first.sequence, second.sequence], 1), whole.sequence, atol=1e-6, rtol=1e-6)


def test_a_detached_state_ends_the_gradient() -> None:
    stack = Recurrent(3, 4)
    inputs = torch.randn(1, 5, 3, requires_grad=True)
    state = detach_state(stack(inputs).state)
    stack(torch.randn(1, 5, 3), state=state).sequence.sum().backward()
    assert inputs.grad is None


def test_a_state_with_lengths_is_refused() -> None:
    stack = Recurrent(3, 4)
    state = stack(torch.randn(2, 3, 3)).state
    with pytest.raises(ValueError, match="one direction and full rows"):
        stack(torch.randn(2, 3, 3), torch.tensor([3, 2]), state)
