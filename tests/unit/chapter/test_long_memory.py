"""The two tasks of long memory: their answers, what truncation leaves out, and how a memory begins."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from unroll.chapter.long_memory import (
    ADDING_TOLERANCE,
    ASK,
    BLANK,
    COPIED,
    MEMORY_TASKS,
    Adding,
    Copying,
    MemoryModel,
    MemoryProblem,
    MemorySettings,
    TaskName,
)
from unroll.chapter.synthetic import SequenceBatch

CPU = torch.device("cpu")


def make(task: TaskName, **settings: object) -> MemoryProblem:
    return MEMORY_TASKS[task](MemorySettings(**{"length": 24, "hidden_size": 8, **settings}), 1, 16, 2)  # type: ignore[arg-type]


def test_the_sum_is_of_one_marked_number_from_each_half() -> None:
    batch = make("adding").draw(np.random.default_rng(0), 300)
    for rows, total in zip(batch.inputs, batch.targets.tolist(), strict=True):
        (first, second) = rows[:, 1].nonzero().flatten().tolist()
        assert first < 12 <= second
        assert total == pytest.approx(float(rows[first, 0] + rows[second, 0]))


def test_what_is_to_be_copied_stands_at_the_start_and_is_asked_for_at_the_end() -> None:
    batch = make("copy").draw(np.random.default_rng(0), 50)
    tokens = batch.inputs.argmax(dim=-1)
    assert torch.equal(tokens[:, :COPIED], batch.targets)
    assert (tokens[:, COPIED:-COPIED] == BLANK).all()
    assert (tokens[:, -COPIED:] == ASK).all()


@given(length=st.integers(2, 40), seed=st.integers(0, 2**32 - 1))
def test_each_half_of_any_list_has_one_mark(length: int, seed: int) -> None:
    batch = make("adding", length=length).draw(np.random.default_rng(seed), 4)
    assert batch.inputs.shape == (4, length, 2)
    for rows, total in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        places = [step for step, (_, mark) in enumerate(rows) if mark == 1]
        assert [mark for _, mark in rows] == [float(step in places) for step in range(length)]
        assert [place < length // 2 for place in places] == [True, False]
        assert all(0 <= number < 1 for number, _ in rows)
        assert total == pytest.approx(sum(rows[place][0] for place in places))


def test_every_place_may_hold_the_numbers_to_be_added() -> None:
    marks = make("adding", length=7).draw(np.random.default_rng(0), 400).inputs[:, :, 1]
    assert (marks.sum(dim=0) > 0).all()


@given(length=st.integers(2 * COPIED, 40), seed=st.integers(0, 2**32 - 1))
def test_a_silence_of_any_length_says_nothing_of_the_symbols(length: int, seed: int) -> None:
    batch = make("copy", length=length).draw(np.random.default_rng(seed), 4)
    for rows, symbols in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        assert all(sorted(row) == [0.0] * 5 + [1.0] for row in rows)
        read = [row.index(1.0) for row in rows]
        assert read == [*symbols, *[BLANK] * (length - 2 * COPIED), *[ASK] * COPIED]
        assert all(0 <= symbol < 4 for symbol in symbols)


def test_answers_that_know_nothing_cost_what_the_docstrings_say() -> None:
    adding, copying = make("adding"), make("copy")
    items = adding.validation_items()
    said = torch.ones(len(items.targets), 24, 1)
    assert adding.judge(said, items.targets)["loss"] == pytest.approx(1 / 6, abs=0.02)
    items = copying.validation_items()
    judged = copying.judge(torch.zeros(len(items.targets), 24, 4), items.targets)
    assert judged["loss"] == pytest.approx(np.log(4))


def silent(problem: MemoryProblem, always: float) -> MemoryProblem:
    """The same problem with a model that says one thing always."""
    output = problem.model.get_submodule("output")
    nn.init.zeros_(output.get_parameter("weight"))
    nn.init.constant_(output.get_parameter("bias"), always)
    return problem


def test_training_starts_from_those_costs_too() -> None:
    adding = silent(make("adding"), 1.0)
    batch = adding.draw(np.random.default_rng(0), 4_000)
    assert adding.loss(batch, None)[0].item() == pytest.approx(1 / 6, abs=0.01)
    copying = silent(make("copy"), 0.3)
    batch = copying.draw(np.random.default_rng(0), 20)
    assert copying.loss(batch, None)[0].item() == pytest.approx(np.log(4), rel=1e-6)


def test_a_sum_within_the_tolerance_is_right() -> None:
    targets = torch.tensor([0.5, 1.0, 1.5, 0.25])
    said = torch.full((4, 24, 1), 9.0)
    errors = ADDING_TOLERANCE * torch.tensor([0.9, -0.9, 1.1, -1.1])
    said[:, -1, 0] = targets + errors
    judged = make("adding").judge(said, targets)
    assert judged["accuracy"] == 0.5
    assert judged["loss"] == pytest.approx(float(errors.square().mean()), rel=1e-4)


def test_only_what_is_said_when_asked_counts() -> None:
    problem = make("copy")
    items = problem.draw(np.random.default_rng(0), 10)
    right = torch.nn.functional.one_hot(items.targets, 4).float() * 50
    said = torch.cat([-50 * torch.ones(10, 24 - COPIED, 4), right], dim=1)
    assert problem.judge(said, items.targets) == {"accuracy": 1.0, "loss": pytest.approx(0.0, abs=1e-6)}
    said[:5, -1] = -right[:5, -1]
    assert problem.judge(said, items.targets)["accuracy"] == pytest.approx(1 - 1 / (2 * COPIED))


@pytest.mark.parametrize("cell", ["rnn_tanh", "rnn_relu", "lstm", "gru"])
def test_truncation_keeps_the_values_and_ends_the_gradient(cell: str) -> None:
    whole, cut = make("adding", cell=cell), make("adding", cell=cell, truncate_at=10)
    cut.model.load_state_dict(whole.model.state_dict())
    inputs = whole.draw(np.random.default_rng(0), 6).inputs

    def gradient(problem: MemoryProblem) -> tuple[Tensor, Tensor]:
        leaf = inputs.clone().requires_grad_()
        said = problem.model(leaf)[:, -1].sum()
        return said, torch.autograd.grad(said, leaf)[0]

    (value, all_the_way), (same, some_of_it) = gradient(whole), gradient(cut)
    torch.testing.assert_close(same, value)
    # windows of 10, 10 and 4 steps: only the last one is left
    assert torch.equal(some_of_it[:, :20], torch.zeros(6, 20, 2))
    assert (all_the_way[:, :20] != 0).any()
    assert (some_of_it[:, 20:] != 0).any()


@given(
    task=st.sampled_from(["adding", "copy"]),
    cell=st.sampled_from(["rnn_tanh", "rnn_relu", "lstm", "gru"]),
    length=st.integers(2 * COPIED, 30),
    window=st.integers(1, 35),
)
def test_the_loss_is_the_same_and_its_gradient_ends_where_the_window_begins(
    task: TaskName, cell: str, length: int, window: int
) -> None:
    whole = make(task, cell=cell, length=length)
    cut = make(task, cell=cell, length=length, truncate_at=window)
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), cut.model.parameters(), strict=True))
    items = whole.draw(np.random.default_rng(0), 3)
    answers = 1 if task == "adding" else COPIED  # the last steps, whose losses count
    leaf = items.inputs.clone().requires_grad_()
    batch = SequenceBatch(leaf, items.targets)
    torch.testing.assert_close(cut.loss(batch, None)[0], whole.loss(batch, None)[0])
    gradient = torch.autograd.grad(cut.loss(batch, None)[0], leaf)[0]
    begins = (length - answers) // window * window
    assert not gradient[:, :begins].any()
    assert gradient[:, begins:].any()


def layer_of(cell: str, length: int = 200) -> nn.Module:
    torch.manual_seed(0)
    settings = MemorySettings(length, cell, hidden_size=500)  # type: ignore[arg-type]
    return MemoryModel(settings, 2, 1).recurrent.forward_layers[0]


def test_a_rectified_rnn_begins_with_the_identity() -> None:
    assert torch.equal(layer_of("rnn_relu").get_parameter("weight_hh_l0"), torch.eye(500))


@pytest.mark.parametrize(("cell", "gate", "gates"), [("lstm", 1, 4), ("gru", 1, 3)])
def test_gates_begin_with_memories_of_up_to_the_sequences_length(cell: str, gate: int, gates: int) -> None:
    layer = layer_of(cell)
    bias = (layer.get_parameter("bias_ih_l0") + layer.get_parameter("bias_hh_l0")).detach().chunk(gates)[gate]
    memories = 1 / (1 - torch.sigmoid(bias.double()))  # steps
    assert 1.9 < memories.min() < 4
    assert 190 < memories.max() <= 200.1
    assert 85 < memories.mean() < 115


def test_both_tasks_have_their_own_name() -> None:
    assert {"adding": Adding, "copy": Copying} == MEMORY_TASKS


@torch.no_grad()
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_unit_that_reads_nothing_keeps_its_value_for_the_time_its_gate_says(cell: str) -> None:
    layer = layer_of(cell, length=40)
    assert isinstance(layer, nn.LSTM | nn.GRU)
    for name in ("weight_ih_l0", "weight_hh_l0"):
        nn.init.zeros_(layer.get_parameter(name))
    gates = 4 if cell == "lstm" else 3
    memories = 1 / (1 - torch.sigmoid(layer.get_parameter("bias_ih_l0").chunk(gates)[1]))
    kept = torch.ones(1, 1, 500)
    state = (torch.zeros(1, 1, 500), kept) if cell == "lstm" else kept
    left = [kept[0, 0]]
    for _ in range(40):
        state = layer(torch.zeros(1, 1, 2), state)[1]
        left.append((state[1] if isinstance(state, tuple) else state)[0, 0])
    after_its_time = torch.stack(left).gather(0, memories.round().long().unsqueeze(0))[0]
    # (1 - 1/t)^t, which is 1/4 for t = 2 and comes near 1/e
    assert 0.2 < after_its_time.min() < after_its_time.max() < 0.4


@pytest.mark.parametrize(("cell", "gates"), [("lstm", 4), ("gru", 3)])
def test_an_lstm_that_keeps_long_writes_little_and_the_other_gates_begin_in_the_middle(cell: str, gates: int) -> None:
    layer = layer_of(cell)
    bias = (layer.get_parameter("bias_ih_l0") + layer.get_parameter("bias_hh_l0")).chunk(gates)
    if cell == "lstm":
        assert torch.equal(bias[0], -bias[1])
    others = bias[2:] if cell == "lstm" else (bias[0], bias[2])
    assert not any(other.any() for other in others)


def test_a_tanh_rnn_begins_as_pytorch_makes_it() -> None:
    layer = layer_of("rnn_tanh")
    torch.manual_seed(0)
    plain = nn.RNN(2, 500)
    assert torch.equal(layer.get_parameter("weight_hh_l0"), plain.weight_hh_l0)
