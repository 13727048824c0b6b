"""Our trainer on a clock: whole steps of `Trainer.fit`, without evaluations, first and last checkpoints."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.measure import NO_TIME, Bout, Lap, Stopwatch
from unroll.config import TrainingConfig
from unroll.training.metrics import MetricLogger, SilentLogger
from unroll.training.problem import Batch, CarriedState, Problem
from unroll.training.trainer import Trainer


class TimedProblem:
    """A problem for the trainer: the clock runs from an epoch's first batch until its evaluation, which is left out."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._watch: Stopwatch | None = None
        self.score = problem.score
        self.steps_per_epoch = problem.steps_per_epoch
        self.unit = problem.unit
        self.lap: Lap = NO_TIME
        self.num_tokens = 0
        self.num_places = 0

    @property
    def model(self) -> nn.Module:
        """What is trained."""
        return self._problem.model

    def batches(self, epoch: int, start: int) -> Iterator[Batch]:
        """The problem's batches, counted."""
        self._watch = self._watch or Stopwatch()
        for batch in self._problem.batches(epoch, start):
            self.num_tokens += batch.num_tokens
            self.num_places += batch.num_places
            yield batch

    def loss(self, batch: Batch, carried: CarriedState) -> tuple[Tensor, CarriedState]:
        """The problem's loss."""
        return self._problem.loss(batch, carried)

    def loss_weight(self, batch: Batch) -> float:
        """The problem's weight."""
        return self._problem.loss_weight(batch)

    def validate(self, device: torch.device, precision: str) -> dict[str, float]:
        """Stop the clock; no score is computed, any number does."""
        del device, precision
        if self._watch is not None:
            self.lap += self._watch.lap()
            self._watch = None
        return {self.score.name: 0.0}

    def sample(self, device: torch.device) -> None:
        """Nothing is generated."""
        del device


def time_training(
    problem: Problem, config: TrainingConfig, metric_logger: MetricLogger | None = None
) -> tuple[TimedProblem, Lap]:
    """Train as the config says, from the problem's present weights; what was read, and the time it took.

    metric_logger: gets the curves; None drops them.
    """
    timed = TimedProblem(problem)
    with tempfile.TemporaryDirectory() as folder:
        Trainer(timed, config, Path(folder), metric_logger or SilentLogger()).fit()
    return timed, timed.lap


def training_bout(problem: Problem, config: TrainingConfig) -> Bout:
    """The same, with tokens as the amount."""
    timed, lap = time_training(problem, config)
    return Bout(timed.num_tokens, lap)
