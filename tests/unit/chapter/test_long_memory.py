"""The two tasks of long memory: their answers, what truncation leaves out, and how a memory begins."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unroll.chapter.long_memory import (
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


def test_answers_that_know_nothing_cost_what_the_docstrings_say() -> None:
    adding, copying = make("adding"), make("copy")
    items = adding.validation_items()
    said = torch.ones(len(items.targets), 24, 1)
    assert adding.judge(said, items.targets)["loss"] == pytest.approx(1 / 6, abs=0.02)
    items = copying.validation_items()
    judged = copying.judge(torch.zeros(len(items.targets), 24, 4), items.targets)
    assert judged["loss"] == pytest.approx(np.log(4))


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
