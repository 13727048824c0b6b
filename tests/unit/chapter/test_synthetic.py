"""Made problems are pure functions of seed, epoch and index, and the training loop can be killed on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from unroll.chapter.kinds.tagging import Tagging
from unroll.chapter.long_memory import Copying, MemorySettings
from unroll.chapter.synthetic import SyntheticProblem
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
