"""Made problems are pure functions of seed, epoch and index, and the training loop can be killed on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from unroll.chapter.kinds.tagging import Tagging
from unroll.chapter.long_memory import Adding, Copying, MemorySettings
from unroll.chapter.synthetic import VALIDATION_ITEMS, SequenceBatch, SyntheticProblem
from unroll.config import TrainingConfig
from unroll.training.checkpoint import weights_sha256
from unroll.training.metrics import SilentLogger
from unroll.training.trainer import Trainer

CONFIG = TrainingConfig(epochs=3, batch_size=4, device="cpu", checkpoint_seconds=1e-9)


class Killed(BaseException):
    """Stands for a kill: nothing in the code under test may catch it."""


def make(kind: str, seed: int = 1) -> SyntheticProblem:
    if kind == "tagging":
        return Tagging(seed, 4, 5)
    return Copying(MemorySettings(12, hidden_size=6), seed, 4, 5)


@pytest.mark.parametrize("kind", ["tagging", "copying"])
def test_a_batch_depends_on_seed_epoch_and_index_alone(kind: str) -> None:
    problem = make(kind)
    whole = list(problem.batches(2, 0))
    assert len(whole) == 5
    for index, batch in enumerate(make(kind).batches(2, 3), start=3):
        assert torch.equal(batch.inputs, whole[index].inputs)
        assert torch.equal(batch.targets, whole[index].targets)
    others = [next(problem.batches(1, 2)), next(make(kind, seed=2).batches(2, 2)), whole[1]]
    assert not any(torch.equal(whole[2].inputs, other.inputs) for other in others)
    assert whole[0].num_tokens == whole[0].num_places == whole[0].targets.numel()


@pytest.mark.parametrize("kind", ["tagging", "copying"])
def test_every_look_is_at_the_same_items(kind: str) -> None:
    problem = make(kind)
    first = problem.validation_items()
    list(problem.batches(0, 0))
    assert torch.equal(problem.validation_items().inputs, first.inputs)
    cpu = torch.device("cpu")
    assert problem.validate(cpu, "float32") == problem.validate(cpu, "float32")


class Told(SyntheticProblem):
    """Items are random numbers; the model says what it is told."""

    def make_model(self) -> nn.Module:
        return nn.Identity()

    def draw(self, generator: np.random.Generator, count: int) -> SequenceBatch:
        logits = generator.normal(size=(count, 3, 4)).astype(np.float32)
        return SequenceBatch(torch.from_numpy(logits), torch.from_numpy(generator.integers(0, 4, (count, 3))))


places = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))


@given(place=places, other=places)
def test_two_batches_are_the_same_where_seed_epoch_and_index_are(
    place: tuple[int, int, int], other: tuple[int, int, int]
) -> None:
    def batch_at(seed: int, epoch: int, index: int) -> SequenceBatch:
        return next(Told(seed, 2, 10).batches(epoch, index))

    torch.rand(3)  # the global generator has no say
    assert torch.equal(batch_at(*place).inputs, batch_at(*other).inputs) == (place == other)


def test_an_epoch_has_its_batches_and_draws_from_no_global_generator() -> None:
    problem = make("copying")
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()  # type: ignore[index,union-attr]
    batches = list(problem.batches(0, 0))
    problem.validate(torch.device("cpu"), "float32")
    assert [len(batch.inputs) for batch in batches] == [4] * 5
    assert list(problem.batches(0, 5)) == []
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index,union-attr]


def test_validation_items_are_a_thousand_that_training_does_not_draw() -> None:
    problem = make("tagging")
    looked_at = {tuple(row) for row in problem.validation_items().inputs.tolist()}
    assert len(looked_at) == VALIDATION_ITEMS == 1_000
    trained_on = {tuple(row) for epoch in range(20) for b in problem.batches(epoch, 0) for row in b.inputs.tolist()}
    assert not looked_at & trained_on
    assert {tuple(row) for row in make("tagging", seed=2).validation_items().inputs.tolist()} != looked_at


def test_validation_has_a_stream_of_numbers_of_its_own() -> None:
    problem = Told(1, 8, 20)
    looked_at = {tuple(row) for row in problem.validation_items().inputs[:, 0].tolist()}
    first = [tuple(batch.inputs[0, 0].tolist()) for epoch in range(5) for batch in problem.batches(epoch, 0)]
    assert len(first) == 100
    assert looked_at.isdisjoint(first)


@pytest.mark.parametrize("kind", ["tagging", "copying"])
def test_the_first_weights_hang_on_the_seed_alone(kind: str) -> None:
    first, other = make(kind), make(kind, seed=2)
    torch.rand(3)
    again = make(kind)
    assert weights_sha256(first.model.state_dict()) == weights_sha256(again.model.state_dict())
    assert weights_sha256(first.model.state_dict()) != weights_sha256(other.model.state_dict())


@given(seed=st.integers(0, 2**32 - 1))
def test_the_loss_is_the_mean_cost_of_every_prediction_in_nats(seed: int) -> None:
    problem = Told(seed, 5, 1)
    batch = next(problem.batches(0, 0))
    costs = []
    for rows, targets in zip(batch.inputs.double().tolist(), batch.targets.tolist(), strict=True):
        for logits, target in zip(rows, targets, strict=True):
            costs.append(np.log(sum(np.exp(logit) for logit in logits)) - logits[target])
    loss, carried = problem.loss(batch, None)
    assert loss.item() == pytest.approx(np.mean(costs), rel=1e-5)
    assert carried is None
    right = np.argmax(batch.inputs.numpy(), axis=-1) == batch.targets.numpy()
    assert problem.judge(batch.inputs, batch.targets) == {"accuracy": pytest.approx(right.mean())}


def test_a_batch_moved_counts_its_predictions_as_before() -> None:
    batch = next(Adding(MemorySettings(12), 1, 4, 5).batches(0, 0)).to(torch.device("cpu"))
    assert isinstance(batch, SequenceBatch)
    assert batch.num_tokens == batch.num_places == 4  # one sum for each list


@pytest.mark.parametrize("kill_at", [1, 6, 14])
def test_a_killed_run_goes_on_to_the_same_bits(kill_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = Trainer(make("copying"), CONFIG, tmp_path / "straight", SilentLogger())
    straight.fit()

    killed = Trainer(make("copying"), CONFIG, tmp_path / "killed", SilentLogger())
    loss, read = killed.problem.loss, []

    def loss_or_kill(*arguments: Any) -> Any:
        read.append(1)
        if len(read) > kill_at:
            raise Killed
        return loss(*arguments)

    monkeypatch.setattr(killed.problem, "loss", loss_or_kill)
    with pytest.raises(Killed):
        killed.fit()
    resumed = Trainer(make("copying"), CONFIG, tmp_path / "killed", SilentLogger())
    resumed.fit()
    assert resumed.resumed_from_step is not None
    assert weights_sha256(resumed.model.state_dict()) == weights_sha256(straight.model.state_dict())
