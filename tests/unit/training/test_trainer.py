"""Training learns, ends where it should, survives non-finite losses, and resumes to the bit."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from unroll import files
from unroll.config import AnyConfig, TrainingConfig
from unroll.data.batching import StreamBatch
from unroll.errors import ConfigError, DivergedError, InterruptedTraining, StoreError
from unroll.training import checkpoint, optim, trainer
from unroll.training.backward import ShardedBackward
from unroll.training.checkpoint import weights_sha256
from unroll.training.lazy_adam import LazyAdam
from unroll.training.metrics import History, SilentLogger
from unroll.training.problem import Batch, CarriedState, Score
from unroll.training.run_state import Progress
from unroll.training.trainer import Trainer

PROJECTS = ["sentiment", "language_model"]
MakeTrainer = Callable[[AnyConfig, Path], Trainer]
SmallConfig = Callable[..., AnyConfig]
HardConfig = Callable[[str, float], AnyConfig]


class Killed(BaseException):
    """Stands for a kill: nothing in the code under test may catch it."""


class ToyProblem:
    """Learns w towards 1 from constant batches. `losses` replaces single losses, `scores` the validation's."""

    unit = "characters"
    score = Score("cost", higher_is_better=False)

    def __init__(self, steps_per_epoch: int = 4) -> None:
        self.model: nn.Module = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(next(self.model.parameters()))
        self.steps_per_epoch = steps_per_epoch
        self.bad_batches: Callable[[int, int, int], bool] = lambda epoch, batch, read: False
        self.scores: list[float] | None = None
        self.read = 0
        self.validations = 0
        self.weight_of_loss = 1.0
        self._place = (0, 0)

    def batches(self, epoch: int, start: int) -> Iterator[StreamBatch]:
        for index in range(start, self.steps_per_epoch):
            self._place = (epoch, index)
            yield StreamBatch(torch.ones(1, 1, dtype=torch.int64), torch.ones(1, 1, dtype=torch.int64))

    def loss(self, batch: Batch, carried: CarriedState) -> tuple[Tensor, CarriedState]:
        self.read += 1
        loss = (self.model(torch.ones(1, 1)) - 1).square().mean()
        if self.bad_batches(*self._place, self.read):
            loss = loss * math.nan
        return loss, None

    def loss_weight(self, batch: Batch) -> float:
        return self.weight_of_loss

    def validate(self, device: torch.device, precision: str) -> dict[str, float]:
        self.validations += 1
        if self.scores is not None:
            return {"cost": self.scores[min(self.validations, len(self.scores)) - 1]}
        weight = next(self.model.parameters()).item()
        return {"cost": (weight - 1) ** 2}

    def sample(self, device: torch.device) -> None:
        return None

    @property
    def weight(self) -> float:
        return next(self.model.parameters()).item()


@pytest.fixture(autouse=True, scope="module")
def no_waiting_for_the_disk() -> Iterator[None]:
    """A kill is only played here, and what fsync guards against is a power cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files.os, "fsync", lambda descriptor: None)
        yield


def toy_config(**training: Any) -> TrainingConfig:
    defaults: dict[str, Any] = {
        "optimizer": "sgd",
        "betas": (0.0, 0.0),
        "learning_rate": 0.1,
        "schedule": "constant",
        "clip": "none",
        "device": "cpu",
        "log_every": 1,
        "checkpoint_seconds": 3600,
    }
    return TrainingConfig.model_validate(defaults | training)


def toy(problem: ToyProblem, folder: Path, **training: Any) -> Trainer:
    return Trainer(problem, toy_config(**training), folder, SilentLogger())


def final_sha(trainer: Trainer) -> str:
    return weights_sha256(dict(trainer.model.state_dict()))


def kept_weights(trainer: Trainer) -> bytes:
    return (trainer.kept_checkpoint() / checkpoint.WEIGHTS_FILE).read_bytes()


def curve_of(trainer: Trainer) -> list[dict[str, float]]:
    """The whole curve but for what clocks measure."""
    points = trainer.history.read() + trainer.samples.read()
    return [{name: value for name, value in point.items() if "per_second" not in name} for point in points]


# learning


@pytest.mark.parametrize("project", PROJECTS)
def test_one_batch_can_be_overfitted(
    project: str, small_config: SmallConfig, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    quiet = {"dropout": 0.0, "embedding_dropout": 0.0, "hidden_size": 16, "embedding_dim": 16, "num_layers": 1}
    model = {**quiet, "word_dropout": 0.0} if project == "sentiment" else quiet
    config = small_config(project, model=model)
    training = make_trainer(config, tmp_path)
    batch = next(iter(training.problem.batches(0, 0)))
    optimizer = torch.optim.Adam(training.model.parameters(), lr=0.05)
    for _ in range(50):
        loss, _state = training.problem.loss(batch, None)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


@pytest.mark.parametrize("project", PROJECTS)
def test_training_lowers_the_loss(
    project: str, small_config: SmallConfig, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    training = make_trainer(small_config(project, training={"epochs": 8, "log_every": 4}), tmp_path)
    training.fit()
    losses = [point["train/loss"] for point in training.history.read() if "train/loss" in point]
    assert losses[-1] < 0.95 * losses[0]


def test_float16_without_a_gpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="float16 needs a GPU; use bfloat16 or float32"):
        toy(ToyProblem(), tmp_path, precision="float16")


# where a run ends


def test_a_run_reads_every_batch_of_every_epoch(tmp_path: Path) -> None:
    problem = ToyProblem(steps_per_epoch=5)
    progress = toy(problem, tmp_path, epochs=3).fit()
    assert (progress.step, progress.epoch, progress.batch, problem.read) == (15, 2, 5, 15)
    assert progress.finished


@pytest.mark.parametrize("max_steps", [1, 4, 6, 11])
def test_max_steps_ends_a_run_with_an_evaluation(max_steps: int, tmp_path: Path) -> None:
    problem = ToyProblem(steps_per_epoch=4)
    progress = toy(problem, tmp_path, epochs=3, max_steps=max_steps).fit()
    assert progress.step == max_steps == progress.evaluated_step == progress.best_step


def test_max_minutes_ends_a_run_with_an_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr(trainer.time, "perf_counter", lambda: float(next(clock)))
    progress = toy(ToyProblem(steps_per_epoch=50), tmp_path, epochs=9, max_minutes=0.5).fit()
    assert 3 <= progress.step < 50
    assert progress.evaluated_step == progress.step
    assert progress.seconds >= 30


def test_patience_ends_a_run_after_so_many_evaluations_without_gain(tmp_path: Path) -> None:
    problem = ToyProblem(steps_per_epoch=2)
    problem.scores = [3.0, 2.0, 2.0, 2.5, 1.0]
    progress = toy(problem, tmp_path, epochs=9, patience=2).fit()
    assert (problem.validations, progress.step, progress.best_value, progress.best_step) == (4, 8, 2.0, 4)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.integers(1, 40), parts=st.integers(1, 50))
def test_evaluations_are_as_many_as_asked_and_evenly_spaced(steps: int, parts: int) -> None:
    from unroll.training.budget import Budget

    budget = Budget(toy_config(evaluations_per_epoch=parts), steps)
    due = [batch for batch in range(1, steps + 1) if budget.evaluation_due(Progress(batch=batch))]
    gaps = {after - before for before, after in zip([0, *due], due, strict=False)}
    assert len(due) == min(parts, steps)
    assert due[-1] == steps
    assert max(gaps) - min(gaps) <= 1


def test_the_best_checkpoint_is_the_best_validation(tmp_path: Path) -> None:
    problem = ToyProblem(steps_per_epoch=2)
    problem.scores = [5.0, 1.0, 3.0, 1.0]
    training = toy(problem, tmp_path, epochs=4)
    progress = training.fit()
    best = training.checkpoints.newest("best")
    assert best is not None
    twin = ToyProblem().model
    checkpoint.load_weights(twin, best / checkpoint.WEIGHTS_FILE)
    # w after n steps of w += 0.2 (1 - w)
    assert next(twin.parameters()).item() == pytest.approx(1 - 0.8**4)
    assert problem.weight == pytest.approx(1 - 0.8**8)
    assert (progress.best_step, progress.best_value) == (4, 1.0)


@pytest.mark.parametrize(("keep", "steps_of_kept"), [("best", 4), ("last", 8)])
def test_the_weights_kept_are_the_best_evaluations_or_the_last_steps(
    keep: str, steps_of_kept: int, tmp_path: Path
) -> None:
    problem = ToyProblem(steps_per_epoch=2)
    problem.scores = [5.0, 1.0, 3.0, 2.0]
    training = toy(problem, tmp_path, epochs=4, keep=keep)
    progress = training.fit()
    twin = ToyProblem()
    checkpoint.load_weights(twin.model, training.kept_checkpoint() / checkpoint.WEIGHTS_FILE)
    assert twin.weight == pytest.approx(1 - 0.8**steps_of_kept)
    assert (progress.best_step, progress.best_value, progress.last_value) == (4, 1.0, 2.0)


@pytest.mark.parametrize("max_steps", [1, 3, 5])
def test_the_last_steps_weights_are_kept_where_a_run_ends_between_two_evaluations(
    max_steps: int, tmp_path: Path
) -> None:
    problem = ToyProblem(steps_per_epoch=4)
    training = toy(problem, tmp_path, epochs=2, max_steps=max_steps, keep="last")
    training.fit()
    twin = ToyProblem()
    checkpoint.load_weights(twin.model, training.kept_checkpoint() / checkpoint.WEIGHTS_FILE)
    assert twin.weight == problem.weight == pytest.approx(1 - 0.8**max_steps)


# clipping in the loop


def test_the_curve_tells_the_norm_before_clipping(tmp_path: Path) -> None:
    training = toy(ToyProblem(), tmp_path, epochs=1, clip="norm", max_gradient_norm=0.5)
    progress = training.fit()
    first = training.history.read()[0]
    assert first["train/gradient_norm"] == pytest.approx(2.0)
    assert first["train/clipped_fraction"] == 1.0
    assert progress.clipped_steps == 4


@pytest.mark.parametrize("weight_of_loss", [1.0, 3.0, 40.0])
def test_a_weighted_loss_has_larger_gradients_and_is_logged_as_it_was(weight_of_loss: float, tmp_path: Path) -> None:
    problem = ToyProblem(steps_per_epoch=3)
    problem.weight_of_loss = weight_of_loss
    toy_rate = 0.1 / weight_of_loss
    training = toy(problem, tmp_path, epochs=1, learning_rate=toy_rate)
    training.fit()
    points = [point for point in training.history.read() if "train/loss" in point]
    # w is 0, 0.2, 0.36; the loss (1 - w)², its gradient's size 2 (1 - w)
    assert [point["train/loss"] for point in points] == pytest.approx([1.0, 0.64, 0.4096])
    norms = [point["train/gradient_norm"] for point in points]
    assert norms == pytest.approx([weight_of_loss * size for size in (2.0, 1.6, 1.28)])
    assert problem.weight == pytest.approx(1 - 0.8**3)


def test_the_weighted_gradient_is_what_is_clipped(tmp_path: Path) -> None:
    problem = ToyProblem(steps_per_epoch=1)
    problem.weight_of_loss = 10.0
    training = toy(problem, tmp_path, epochs=1, clip="norm", max_gradient_norm=5.0)
    assert training.fit().clipped_steps == 1
    assert training.history.read()[0]["train/gradient_norm"] == pytest.approx(20.0)
    assert problem.weight == pytest.approx(0.1 * 5.0, rel=1e-5)


# non-finite losses


def test_a_non_finite_loss_skips_the_step(tmp_path: Path) -> None:
    problem = ToyProblem(steps_per_epoch=4)
    problem.bad_batches = lambda epoch, batch, read: (epoch, batch) == (0, 1)
    training = toy(problem, tmp_path, epochs=2)
    progress = training.fit()
    assert (progress.step, progress.skipped_steps, progress.rollbacks) == (7, 1, 0)
    assert problem.weight == pytest.approx(1 - 0.8**7)


def test_several_in_a_row_roll_back_at_half_the_learning_rate(tmp_path: Path) -> None:
    problem = ToyProblem(steps_per_epoch=4)
    # the second epoch's first three batches are bad the first time they are read
    problem.bad_batches = lambda epoch, batch, read: 5 <= read <= 7
    training = toy(problem, tmp_path, epochs=2, max_bad_steps=3)
    progress = training.fit()
    assert (progress.skipped_steps, progress.rollbacks, progress.learning_rate_scale) == (3, 1, 0.5)
    assert (progress.step, progress.epoch, progress.batch) == (8, 1, 4)
    assert problem.weight == pytest.approx(1 - 0.8**4 * 0.9**4)
    counted = [point for point in training.history.read() if "train/rollbacks" in point]
    assert [point["step"] for point in counted] == [4]


def test_rolling_back_before_the_first_evaluation_starts_from_the_first_weights(tmp_path: Path) -> None:
    problem = ToyProblem(steps_per_epoch=6)
    problem.bad_batches = lambda epoch, batch, read: 3 <= read <= 4
    progress = toy(problem, tmp_path, epochs=1, max_bad_steps=2).fit()
    assert (progress.step, progress.rollbacks) == (6, 1)
    assert problem.weight == pytest.approx(1 - 0.9**6)
    assert problem.validations == 1


def test_after_max_rollbacks_training_has_diverged(tmp_path: Path) -> None:
    problem = ToyProblem(steps_per_epoch=4)
    problem.bad_batches = lambda epoch, batch, read: epoch == 1
    with pytest.raises(
        DivergedError, match=r"after 2 roll-backs.*learning rate x 0\.25.*Lower training\.learning_rate"
    ):
        toy(problem, tmp_path, epochs=2, max_bad_steps=3, max_rollbacks=2).fit()


def test_a_run_without_any_finite_evaluation_has_diverged(tmp_path: Path) -> None:
    problem = ToyProblem(steps_per_epoch=2)
    problem.scores = [math.nan]
    with pytest.raises(DivergedError, match="No evaluation in 4 steps gave a finite cost"):
        toy(problem, tmp_path, epochs=2).fit()


def test_where_the_last_weights_are_kept_the_last_evaluation_must_be_finite(tmp_path: Path) -> None:
    def make(scores: list[float]) -> Trainer:
        problem = ToyProblem(steps_per_epoch=2)
        problem.scores = scores
        return toy(problem, tmp_path / str(scores), epochs=2, keep="last")

    message = r"The last evaluation, after 4 steps, gave no finite cost\. Lower training\.learning_rate"
    for bad in (math.nan, math.inf):
        with pytest.raises(DivergedError, match=message):
            make([1.0, bad]).fit()
        again = make([1.0, bad])
        with pytest.raises(DivergedError, match=message):
            again.fit()  # nor does the same command, started again, pass it
        assert again.problem.validations == 0  # type: ignore[attr-defined]
    recovered = make([math.nan, 1.0])
    assert recovered.fit().finished
    assert recovered.progress.last_value == 1.0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_where_the_best_weights_are_kept_the_last_evaluation_need_not_be_finite(bad: float, tmp_path: Path) -> None:
    problem = ToyProblem(steps_per_epoch=2)
    problem.scores = [1.0, bad]
    training = toy(problem, tmp_path, epochs=2, keep="best")
    progress = training.fit()
    assert progress.finished
    assert (progress.best_step, progress.best_value) == (2, 1.0)
    twin = ToyProblem()
    checkpoint.load_weights(twin.model, training.kept_checkpoint() / checkpoint.WEIGHTS_FILE)
    assert twin.weight == pytest.approx(1 - 0.8**2)


def test_an_exploding_run_that_recovers_ends_well(tmp_path: Path) -> None:
    problem = ToyProblem(steps_per_epoch=10)
    # w goes 0, 2.2, -1.4, … ever farther from 1 until the square overflows; at half the rate it converges
    training = toy(problem, tmp_path, epochs=1, learning_rate=10, max_bad_steps=1, evaluations_per_epoch=1)
    problem.steps_per_epoch = training.budget.steps_per_epoch = 60
    progress = training.fit()
    assert progress.rollbacks >= 1
    assert math.isfinite(problem.weight)
    assert progress.finished


def test_a_classifier_whose_probabilities_are_not_numbers_has_no_accuracy(
    small_config: SmallConfig, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    training = make_trainer(small_config("sentiment"), tmp_path)
    with torch.no_grad():
        next(iter(training.model.parameters())).fill_(math.inf)
    assert math.isnan(training.problem.validate(torch.device("cpu"), "float32")["accuracy"])


# resuming


def fit_through_kills(
    make: Callable[[], Trainer], kill: Callable[[pytest.MonkeyPatch, Trainer, int], None]
) -> tuple[Trainer, int]:
    """Train, killed where `kill` says for each attempt, until an attempt ends; returns it and the number of kills."""
    for attempt in range(200):
        training = make()
        with pytest.MonkeyPatch.context() as patch:
            kill(patch, training, attempt)
            try:
                training.fit()
            except Killed:
                continue
            return training, attempt
    raise AssertionError("never ended")


def kill_at_call(patch: pytest.MonkeyPatch, owner: Any, name: str, call: int, after: bool = False) -> None:
    """Raise Killed at the call-th call of a function from now, before or after it has done its work."""
    original = getattr(owner, name)
    calls = 0

    def killing(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and not after:
            raise Killed
        result = original(*args, **kwargs)
        if calls == call:
            raise Killed
        return result

    patch.setattr(owner, name, killing)


HARD: dict[str, dict[str, Any]] = {
    "sentiment": {"epochs": 2, "evaluations_per_epoch": 2, "patience": 3, "schedule": "one_cycle", "log_every": 3},
    "language_model": {"epochs": 2, "evaluations_per_epoch": 3, "patience": 4, "schedule": "one_cycle", "log_every": 3},
    "random windows": {
        **{"windows": "random", "loss_reduction": "sum", "clip": "none", "keep": "last"},
        **{"epochs": 2, "window": 15, "evaluations_per_epoch": 2, "log_every": 3},
    },
    "read late": {"epochs": 2, "evaluations_per_epoch": 2, "log_every": 3, "max_steps": 15},
    "lazy and sharded": {"epochs": 2, "evaluations_per_epoch": 2, "shards": 2, "batch_tokens": 200, "log_every": 3},
}
LAZY = {"embedding_dim": 24}
"""Makes the small corpus's embedding so large that its rows are moved lazily, see `small_embeddings_are_lazy`."""


@pytest.fixture(scope="session", autouse=True)
def small_embeddings_are_lazy() -> Iterator[None]:
    """Lower the size from which an embedding's rows are moved lazily."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optim, "LEAST_LAZY_WEIGHTS", 5_000)
        yield


@pytest.fixture(scope="session")
def hard_config(small_config: SmallConfig) -> Callable[[str, float], AnyConfig]:
    """hard_config(run, checkpoint_seconds): settings under which a run of `HARD` is hard to resume."""

    def make(run: str, checkpoint_seconds: float) -> AnyConfig:
        project = run if run in PROJECTS else "sentiment" if "sharded" in run else "language_model"
        model = LAZY if "lazy" in run else {}
        training = {**HARD[run], "checkpoint_seconds": checkpoint_seconds}
        return small_config(project, model=model, training=training)

    return make


@pytest.fixture(scope="session")
def straight(
    hard_config: HardConfig, make_trainer: MakeTrainer, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Trainer]:
    """Every run of `HARD`, trained without an interruption."""
    trainers = {}
    for run in HARD:
        trainers[run] = hard_trainer(make_trainer, run, hard_config(run, 1e-9), tmp_path_factory.mktemp("straight"))
        trainers[run].fit()
    return trainers


def test_the_run_called_lazy_is_lazy_and_the_others_are_not(straight: dict[str, Trainer]) -> None:
    for run, training in straight.items():
        assert any(isinstance(each, LazyAdam) for each in training.optimizers) == ("lazy" in run)
        assert isinstance(training.backward, ShardedBackward) == ("sharded" in run)


def hard_trainer(make_trainer: MakeTrainer, run: str, config: AnyConfig, folder: Path) -> Trainer:
    """A trainer for a run of `HARD`; "read late" reads its numbers a step later, as on a GPU."""
    training = make_trainer(config, folder)
    training.reads_late = run == "read late"
    return training


def places(training: Trainer) -> dict[str, tuple[Any, str, bool]]:
    """Every kind of place in which a kill can hit."""
    return {
        "before a loss": (training.problem, "loss", False),
        "after a step": (training.optimizers[0], "step", True),
        "before an evaluation": (training.problem, "validate", False),
        "after an evaluation": (training.problem, "validate", True),
        "after a point of the curve": (training.history, "append", True),
        "before a checkpoint": (training.checkpoints, "save", False),
        "in a checkpoint": (checkpoint, "publish_folder", False),
        "before an old checkpoint goes": (checkpoint, "publish_folder", True),
        "after a checkpoint": (training.checkpoints, "save", True),
    }


PLACES = [
    "before a loss",
    "after a step",
    "before an evaluation",
    "after an evaluation",
    "after a point of the curve",
    "before a checkpoint",
    "in a checkpoint",
    "before an old checkpoint goes",
    "after a checkpoint",
]


@pytest.mark.parametrize("run", HARD)
@pytest.mark.parametrize("place", PLACES)
@settings(max_examples=2, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(calls=st.lists(st.integers(1, 14), min_size=1, max_size=4), frequent=st.booleans())
def test_resuming_equals_training_straight_through(
    place: str,
    run: str,
    straight: dict[str, Trainer],
    hard_config: HardConfig,
    make_trainer: MakeTrainer,
    tmp_path_factory: pytest.TempPathFactory,
    calls: list[int],
    frequent: bool,
) -> None:
    folder = tmp_path_factory.mktemp("run")
    config = hard_config(run, 1e-9 if frequent else 3600)

    def kill(patch: pytest.MonkeyPatch, training: Trainer, attempt: int) -> None:
        if attempt < len(calls):
            owner, name, after = places(training)[place]
            kill_at_call(patch, owner, name, calls[attempt], after)

    training, _kills = fit_through_kills(lambda: hard_trainer(make_trainer, run, config, folder), kill)
    expected = straight[run]
    assert final_sha(training) == final_sha(expected)
    assert curve_of(training) == curve_of(expected)
    assert training.progress.best_step == expected.progress.best_step
    assert training.progress.last_value == expected.progress.last_value
    assert kept_weights(training) == kept_weights(expected)


@pytest.mark.parametrize("run", HARD)
def test_a_run_killed_after_every_single_checkpoint_still_ends_in_the_same_bits(
    run: str, straight: dict[str, Trainer], hard_config: HardConfig, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    config = hard_config(run, 1e-9)

    def kill(patch: pytest.MonkeyPatch, training: Trainer, attempt: int) -> None:
        kill_at_call(patch, training, "_save", 1, after=True)

    def kill_unless_over(patch: pytest.MonkeyPatch, training: Trainer, attempt: int) -> None:
        newest = training.checkpoints.newest("latest")
        if newest is None or not checkpoint.read_progress(newest)["finished"]:
            kill(patch, training, attempt)

    training, kills = fit_through_kills(lambda: hard_trainer(make_trainer, run, config, tmp_path), kill_unless_over)
    assert kills >= 12
    assert final_sha(training) == final_sha(straight[run])
    assert curve_of(training) == curve_of(straight[run])


@pytest.mark.parametrize("call", range(1, 9))
def test_a_kill_around_a_roll_back_changes_nothing(call: int, tmp_path: Path) -> None:
    def make(folder: Path) -> Trainer:
        problem = ToyProblem(steps_per_epoch=4)
        # bad by place and by weight, so that what a restart reads does not depend on what was read before
        problem.bad_batches = lambda epoch, batch, read: epoch == 1 and batch < 3 and training.progress.rollbacks == 0
        training = toy(problem, folder, epochs=2, max_bad_steps=3, checkpoint_seconds=1e-9)
        return training

    expected = make(tmp_path / "straight")
    expected.fit()
    assert expected.progress.rollbacks == 1
    for place in ("publish_folder before", "publish_folder after", "append"):
        folder = tmp_path / place

        def kill(patch: pytest.MonkeyPatch, training: Trainer, attempt: int, place: str = place) -> None:
            if attempt == 0:
                owner = training.history if place == "append" else checkpoint
                kill_at_call(patch, owner, place.split()[0], call + 2, place.endswith(("after", "append")))

        training, _kills = fit_through_kills(lambda folder=folder: make(folder), kill)
        assert final_sha(training) == final_sha(expected)
        assert curve_of(training) == curve_of(expected)


class Disk:
    """Knows how much of each curve a power cut would leave."""

    def __init__(self) -> None:
        self._safe: dict[int, int] = {}

    def fsync(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self._safe[status.st_ino] = status.st_size

    def cut_power(self, folder: Path, rng: random.Random) -> None:
        for path in folder.glob("*.jsonl"):
            status = path.stat()
            safe = min(self._safe.get(status.st_ino, 0), status.st_size)
            os.truncate(path, rng.randint(safe, status.st_size) if rng.random() < 0.5 else safe)


class TalkingProblem(ToyProblem):
    """Leaves a sample at every evaluation, and dies when it has read so many batches."""

    dies_at = 0

    def sample(self, device: torch.device) -> str:  # type: ignore[override]
        return f"weight {self.weight:.6f}"

    def loss(self, batch: Batch, carried: CarriedState) -> tuple[Tensor, CarriedState]:
        made = super().loss(batch, carried)
        if self.read == self.dies_at:
            raise Killed
        return made


@pytest.mark.parametrize("seed", range(8))
def test_a_power_cut_at_any_moment_takes_no_point_that_a_checkpoint_counts(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, disk = random.Random(seed), Disk()
    monkeypatch.setattr(files.os, "fsync", disk.fsync)
    often = rng.choice([1e-9, 3600])

    def make(folder: Path) -> Trainer:
        return toy(TalkingProblem(steps_per_epoch=5), folder, epochs=6, checkpoint_seconds=often)

    expected = make(tmp_path / "straight")
    expected.fit()
    while True:
        training = make(tmp_path / "cut")
        training.problem.dies_at = rng.randint(1, 20)  # type: ignore[attr-defined]
        try:
            training.fit()
            break
        except Killed:
            disk.cut_power(tmp_path / "cut", rng)
    assert len(curve_of(expected)) > 30
    assert curve_of(training) == curve_of(expected)


def test_a_checkpoint_that_cannot_be_written_leaves_the_older_one_usable(
    small_config: SmallConfig, make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config("sentiment", training={"checkpoint_seconds": 1e-9})
    training = make_trainer(config, tmp_path)

    def full_disk(partial: Path, target: Path) -> None:
        if target.name.startswith("latest"):
            raise OSError(28, "No space left on device")
        publish(partial, target)

    publish = checkpoint.publish_folder
    monkeypatch.setattr(checkpoint, "publish_folder", full_disk)
    with pytest.raises(StoreError, match="disk is full"):
        training.fit()
    monkeypatch.setattr(checkpoint, "publish_folder", publish)
    assert not list(tmp_path.glob("*.partial"))
    again = make_trainer(config, tmp_path)
    again.fit()
    assert again.resumed_from_step == 0
    assert again.progress.finished


def test_a_finished_run_is_not_trained_again(
    small_config: SmallConfig, make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_config("language_model")
    first = make_trainer(config, tmp_path)
    first.fit()
    again = make_trainer(config, tmp_path)
    monkeypatch.setattr(again.problem, "loss", lambda *_: pytest.fail("trained on"))
    progress = again.fit()
    assert progress.step == first.progress.step
    assert final_sha(again) == final_sha(first)
    assert curve_of(again) == curve_of(first)


# being asked to stop


@pytest.mark.parametrize("run", HARD)
@pytest.mark.parametrize("step", [1, 5, 10])
def test_a_stopped_run_saves_its_state_and_goes_on_to_the_same_bits(
    run: str,
    step: int,
    straight: dict[str, Trainer],
    hard_config: HardConfig,
    make_trainer: MakeTrainer,
    tmp_path: Path,
) -> None:
    import signal

    config = hard_config(run, 3600)
    training = hard_trainer(make_trainer, run, config, tmp_path)
    backward = training.backward

    def signal_and_backward(batch: Batch, carried: CarriedState, place: tuple[int, int]) -> tuple[Tensor, CarriedState]:
        epoch, index = place
        if epoch * training.problem.steps_per_epoch + index == step - 1:
            signal.raise_signal(signal.SIGTERM)
        return backward(batch, carried, place)

    training.backward = signal_and_backward
    with pytest.raises(InterruptedTraining, match=f"SIGTERM at step {step}; the state is saved") as stopped:
        training.fit()
    assert stopped.value.exit_code == 143
    again = hard_trainer(make_trainer, run, config, tmp_path)
    again.fit()
    assert again.resumed_from_step == step
    assert final_sha(again) == final_sha(straight[run])
    assert curve_of(again) == curve_of(straight[run])


# truncated back-propagation through time


def test_the_state_carried_between_windows_changes_the_loss_and_ends_the_gradient(
    small_config: SmallConfig, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    config = small_config("language_model", model={"dropout": 0.0, "embedding_dropout": 0.0})
    problem = make_trainer(config, tmp_path).problem
    first, second = list(problem.batches(0, 0))[:2]
    _loss, carried = problem.loss(first, None)
    assert carried is not None
    assert all(not part.requires_grad for layer in carried for part in layer)
    fresh, _ = problem.loss(second, None)
    continued, _ = problem.loss(second, carried)
    assert fresh.item() != continued.item()


def test_the_trainer_carries_the_state_and_drops_it_at_an_epochs_start(
    small_config: SmallConfig, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    training = make_trainer(small_config("language_model"), tmp_path)
    loss, fresh = training.problem.loss, []

    def recording(batch: Batch, carried: CarriedState) -> tuple[Tensor, CarriedState]:
        fresh.append(carried is None)
        return loss(batch, carried)

    training.problem.loss = recording  # type: ignore[method-assign]
    training.fit()
    steps = training.problem.steps_per_epoch
    assert steps > 2
    assert [index for index, was_fresh in enumerate(fresh) if was_fresh] == [0, steps]


def test_a_history_rewound_keeps_what_was_written_before(tmp_path: Path) -> None:
    history = History(tmp_path / "history.jsonl")
    history.append({"loss": 1.0}, 1)
    size = history.size()
    history.append({"skipped": 1.0}, 1)
    with history.path.open("a") as file:
        file.write('{"step": 2, "lo')  # cut short by a kill
    assert [point["step"] for point in history.read()] == [1, 1]
    history.rewind(size)
    assert history.read() == [{"step": 1, "loss": 1.0}]


# reading a step's numbers after the next one was begun, as on a GPU


def late(problem: ToyProblem, folder: Path, **training: Any) -> Trainer:
    made = toy(problem, folder, optimizer="adam", betas=(0.9, 0.999), **training)
    made.reads_late = True
    return made


def twins(tmp_path: Path, problem: Callable[[Trainer | None], ToyProblem], **training: Any) -> list[Trainer]:
    """The same run, its numbers read at once and late."""
    trainers = [
        toy(ToyProblem(), tmp_path / "at once", optimizer="adam", betas=(0.9, 0.999), **training),
        late(ToyProblem(), tmp_path / "late", **training),
    ]
    for training_of_one in trainers:
        toy_problem = problem(training_of_one)
        toy_problem.model = training_of_one.model
        training_of_one.problem = training_of_one.backward._problem = toy_problem  # type: ignore[union-attr]
        training_of_one.fit()
    return trainers


def test_reading_late_changes_no_bit_and_no_count(
    small_config: SmallConfig, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    config = small_config("language_model", training=HARD["language_model"])
    at_once = make_trainer(config, tmp_path / "at once")
    at_once.fit()
    later = make_trainer(config, tmp_path / "late")
    later.reads_late = True
    later.fit()
    assert final_sha(later) == final_sha(at_once)
    assert curve_of(later) == curve_of(at_once)
    assert (later.progress.step, later.progress.tokens) == (at_once.progress.step, at_once.progress.tokens)


@pytest.mark.parametrize("bad", [{(0, 1)}, {(0, 3)}, {(1, 0), (1, 1)}, {(1, 3)}])
def test_a_step_that_is_not_finite_is_skipped_though_it_is_read_late(bad: set[tuple[int, int]], tmp_path: Path) -> None:
    def problem(training: Trainer | None) -> ToyProblem:
        made = ToyProblem(steps_per_epoch=4)
        made.bad_batches = lambda epoch, batch, read: (epoch, batch) in bad
        return made

    at_once, later = twins(tmp_path, problem, epochs=2, max_bad_steps=3)
    assert final_sha(later) == final_sha(at_once)
    assert curve_of(later) == curve_of(at_once)
    assert later.progress.skipped_steps == at_once.progress.skipped_steps == len(bad)
    assert later.progress.step == 8 - len(bad)


def test_a_run_that_reads_late_rolls_back_to_the_same_weights(tmp_path: Path) -> None:
    def problem(training: Trainer | None) -> ToyProblem:
        assert training is not None
        made = ToyProblem(steps_per_epoch=6)
        made.bad_batches = lambda epoch, batch, read: (
            epoch == 1 and 1 <= batch <= 3 and training.progress.rollbacks == 0
        )
        return made

    at_once, later = twins(tmp_path, problem, epochs=2, max_bad_steps=3)
    assert later.progress.rollbacks == at_once.progress.rollbacks == 1
    assert final_sha(later) == final_sha(at_once)


@pytest.mark.parametrize("max_steps", [1, 3, 4, 5])
def test_reading_late_takes_no_step_too_many(max_steps: int, tmp_path: Path) -> None:
    trainers = twins(tmp_path, lambda training: ToyProblem(steps_per_epoch=4), epochs=3, max_steps=max_steps)
    assert [training.progress.step for training in trainers] == [max_steps, max_steps]
    assert final_sha(trainers[0]) == final_sha(trainers[1])
