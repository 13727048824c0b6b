"""The chapter's three remedies for gradients that vanish or explode, side by side on tasks that need a long memory.

Clipping (by norm, by value), truncation, and gated cells; each trains through `unroll.training.trainer` with the same
batches, steps and seed. Chapter 15, the challenges of learning long-range interactions.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unroll.chapter.long_memory import MEMORY_TASKS, MemoryProblem, MemorySettings, TaskName
from unroll.config import Cell, TrainingConfig
from unroll.errors import DivergedError
from unroll.training.metrics import SilentLogger
from unroll.training.trainer import Trainer

LENGTHS = (50, 100, 200, 400)
STEPS = 2_000
BATCH_SIZE = 32
MAX_GRADIENT_NORM = 1.0
MAX_GRADIENT_VALUE = 0.1
TRUNCATE_AT = 20
"""The chapter's own example: of a hundred steps, a gradient goes back through the last twenty."""


@dataclass(frozen=True)
class Remedy:
    """One way of training. The simple RNN is rectified and starts at |w| = 1: there gradients are at their wildest."""

    name: str
    cell: Cell = "rnn_relu"
    clip: str = "none"
    truncate_at: int | None = None
    optimizer: str = "adam"
    learning_rate: float = 1e-3


REMEDIES = (
    Remedy("RNN, no remedy"),
    Remedy("RNN, clipped by value", clip="value"),
    Remedy("RNN, clipped by norm", clip="norm"),
    Remedy(f"RNN, clipped by norm, truncated at {TRUNCATE_AT}", clip="norm", truncate_at=TRUNCATE_AT),
    Remedy("LSTM, clipped by norm", cell="lstm", clip="norm", learning_rate=1e-2),
    Remedy("GRU, clipped by norm", cell="gru", clip="norm", learning_rate=1e-2),
)


@dataclass(frozen=True)
class Trial:
    """One training run of the comparison: everything that decides its bits on a CPU."""

    task: TaskName
    length: int
    remedy: Remedy
    steps: int = STEPS
    hidden_size: int = 64
    looks: int = 10
    """Evaluations on the way, the last one at the end."""
    seed: int = 1

    def __str__(self) -> str:
        return f"{self.task}, {self.length} steps, {self.remedy.name}"

    def make_problem(self) -> MemoryProblem:
        """A new network and its batches. Raises ValueError where the steps cannot be shared out among the looks."""
        if self.steps % self.looks:
            raise ValueError(f"A trial's steps must be a multiple of its looks, got {self.steps} and {self.looks}.")
        settings = MemorySettings(self.length, self.remedy.cell, self.hidden_size, self.remedy.truncate_at)
        return MEMORY_TASKS[self.task](settings, self.seed, BATCH_SIZE, self.steps // self.looks)

    def training_config(self) -> TrainingConfig:
        """The settings of the training loop."""
        return TrainingConfig.model_validate(
            {
                "epochs": self.looks,
                "optimizer": self.remedy.optimizer,
                "betas": (0.9 if self.remedy.optimizer == "adam" else 0.0, 0.999),
                "learning_rate": self.remedy.learning_rate,
                "schedule": "constant",
                "batch_size": BATCH_SIZE,
                "clip": self.remedy.clip,
                "max_gradient_norm": MAX_GRADIENT_NORM,
                "max_gradient_value": MAX_GRADIENT_VALUE,
                "device": "cpu",
                "max_rollbacks": 0,  # rolling back is a remedy of its own, and none of the three
                "log_every": max(self.steps // 200, 1),
            }
        )


@dataclass(frozen=True)
class Outcome:
    """What a trial came to."""

    accuracy: float
    """Of the last evaluation: share of right sums, or of right symbols; 0 where training diverged."""
    diverged: bool
    history: Sequence[Mapping[str, Any]]
    """The curves, as `unroll.training.metrics.History` keeps them."""

    def largest(self, metric: str) -> float:
        """The largest finite value of a metric over the run; 0 where there is none."""
        values = (float(point[metric]) for point in self.history if metric in point)
        return max((value for value in values if math.isfinite(value)), default=0.0)


def run_trial(trial: Trial, problem: MemoryProblem | None = None) -> Outcome:
    """Train from the start; seconds to minutes on one core, in proportion to the length.

    problem: `Trial.make_problem`'s, for those who want to keep the trained network.
    """
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(problem or trial.make_problem(), trial.training_config(), Path(folder), SilentLogger())
        diverged = False
        try:
            trainer.fit()
        except DivergedError:
            diverged = True
        history = trainer.history.read()
    looks = [float(point["validation/accuracy"]) for point in history if "validation/accuracy" in point]
    return Outcome(0.0 if diverged or not looks else looks[-1], diverged, history)
