"""Windows are read as streams or drawn at random, and the loss is a mean or the chapter's sum over their steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from unroll.config import AnyConfig
from unroll.data.batching import StreamBatch
from unroll.data.encoded import EncodedCorpus
from unroll.training.checkpoint import weights_sha256
from unroll.training.problem import Batch, CarriedState
from unroll.training.trainer import Trainer

MakeTrainer = Callable[[AnyConfig, Path], Trainer]
MakeLanguageModel = Callable[..., Trainer]
PLAIN = {"dropout": 0.0, "embedding_dropout": 0.0}


@pytest.fixture
def language_model(
    small_config: Callable[..., AnyConfig], make_trainer: MakeTrainer, tmp_path_factory: pytest.TempPathFactory
) -> MakeLanguageModel:
    """language_model(loss_reduction="sum", …): a trainer without dropout, always with the same first weights."""

    def make(**training: Any) -> Trainer:
        config = small_config("language_model", model=PLAIN, training={"clip": "none", "log_every": 1, **training})
        return make_trainer(config, tmp_path_factory.mktemp("run"))

    return make


def gradients(training: Trainer, batch: Batch) -> dict[str, Tensor]:
    """Of the first weights, as the trainer takes them."""
    training.model.zero_grad()
    loss, _carried = training.problem.loss(batch, None)
    (loss * training.problem.loss_weight(batch)).backward()
    return {name: parameter.grad for name, parameter in training.model.named_parameters() if parameter.grad is not None}


def curve(training: Trainer, name: str) -> list[float]:
    return [point[name] for point in training.history.read() if name in point]


# random windows


def test_random_windows_carry_no_state(language_model: MakeLanguageModel) -> None:
    training = language_model(windows="random")
    loss, carried_in = training.problem.loss, []

    def recording(batch: Batch, carried: CarriedState) -> tuple[Tensor, CarriedState]:
        carried_in.append(carried)
        value, carried_out = loss(batch, carried)
        assert carried_out is None
        return value, carried_out

    training.problem.loss = recording  # type: ignore[method-assign]
    training.fit()
    assert carried_in == [None] * 2 * training.problem.steps_per_epoch
    assert training.carried is None
    latest = training.checkpoints.newest("latest")
    assert latest is not None
    state = torch.load(latest / "state.pt", weights_only=True)
    assert state["carried"] is None
    assert state["optimizers"][0]["state"]


def test_a_random_windows_loss_starts_from_zeros(language_model: MakeLanguageModel) -> None:
    training = language_model(windows="random")
    batch = next(iter(training.problem.batches(0, 0)))
    assert isinstance(batch, StreamBatch)
    model: Any = training.model
    zeros = tuple((torch.zeros(1, 6, 8), torch.zeros(1, 6, 8)) for _ in range(2))
    logits, _state = model(batch.inputs, zeros)
    expected = functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
    torch.testing.assert_close(training.problem.loss(batch, None)[0], expected)


def test_every_epoch_draws_windows_of_its_own_and_goes_on_from_any_place(
    language_model: MakeLanguageModel, encoded_text: EncodedCorpus
) -> None:
    problem = language_model(windows="random", window=10).problem
    assert problem.steps_per_epoch == 10  # 599 characters to predict, 60 in a batch
    first, second = (list(problem.batches(epoch, 0)) for epoch in (0, 1))
    assert len(first) == len(second) == 10
    drawn = {tuple(batch.inputs.flatten().tolist()) for batch in first + second}
    assert len(drawn) == 20
    for start in (1, 9, 10):
        rest = list(problem.batches(1, start))
        assert [batch.inputs.tolist() for batch in rest] == [batch.inputs.tolist() for batch in second[start:]]
    text = bytes(np.asarray(encoded_text.split("train").tokens, np.uint8))
    for batch in first:
        rows = torch.cat([batch.inputs, batch.targets[:, -1:]], dim=1).tolist()
        assert all(bytes(row) in text for row in rows), "pieces of the training split"


# the sum over steps


@pytest.mark.parametrize("windows", ["streams", "random"])
def test_a_summed_loss_has_exactly_window_times_the_gradients(windows: str, language_model: MakeLanguageModel) -> None:
    # a power of two times a float is exact
    mean, summed = (language_model(windows=windows, window=16, loss_reduction=how) for how in ("mean", "sum"))
    batch = next(iter(mean.problem.batches(0, 0)))
    assert (mean.problem.loss_weight(batch), summed.problem.loss_weight(batch)) == (1.0, 16.0)
    assert mean.problem.loss(batch, None)[0].item() == summed.problem.loss(batch, None)[0].item()
    of_mean, of_sum = gradients(mean, batch), gradients(summed, batch)
    assert len(of_mean) == len(list(mean.model.parameters()))
    for name, gradient in of_mean.items():
        assert gradient.abs().sum() > 0
        assert torch.equal(of_sum[name], 16 * gradient), name


def test_a_shorter_window_is_summed_over_the_steps_it_has(language_model: MakeLanguageModel) -> None:
    problem = language_model(windows="streams", window=16, loss_reduction="sum").problem
    # 599 characters to predict in 6 streams: 99 steps
    assert [problem.loss_weight(batch) for batch in problem.batches(0, 0)] == [16.0] * 6 + [3.0]


def test_the_sum_is_the_chapters_loop_over_steps(language_model: MakeLanguageModel) -> None:
    training = language_model(windows="random", window=12, loss_reduction="sum")
    batch = next(iter(training.problem.batches(0, 0)))
    assert isinstance(batch, StreamBatch)
    ours = gradients(training, batch)

    model: Any = training.model
    model.zero_grad()
    loss, state = torch.zeros(()), None
    for step in range(12):
        logits, state = model(batch.inputs[:, step : step + 1], state)
        loss = loss + functional.cross_entropy(logits[:, 0], batch.targets[:, step])
    loss.backward()
    torch.testing.assert_close(training.problem.loss(batch, None)[0], loss / 12)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_training_on_the_sum_logs_the_mean_and_the_larger_norms(language_model: MakeLanguageModel) -> None:
    # plain SGD at a sixteenth of the learning rate takes the very same steps on sixteen times the gradients
    common = {"windows": "random", "window": 16, "optimizer": "sgd", "betas": (0.0, 0.0), "schedule": "constant"}
    mean = language_model(**common, learning_rate=0.5, loss_reduction="mean")
    summed = language_model(**common, learning_rate=0.5 / 16, loss_reduction="sum")
    for training in (mean, summed):
        training.fit()
    assert weights_sha256(dict(mean.model.state_dict())) == weights_sha256(dict(summed.model.state_dict()))
    losses = curve(mean, "train/loss")
    assert len(losses) == 2 * mean.problem.steps_per_epoch
    assert curve(summed, "train/loss") == losses
    assert losses[-1] < losses[0]
    norms = curve(mean, "train/gradient_norm")
    assert curve(summed, "train/gradient_norm") == [16 * norm for norm in norms]
