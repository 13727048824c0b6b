"""The chapter's kinds of sequence task, each as a made problem that the one training loop learns in seconds.

Chapter 15, categories of sequence modelling (figure 15.2). A third project would be one more line here, or, with data
and a flow of its own, a class like `unroll.training.sentiment.SentimentProblem`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unroll.chapter.kinds.encoder_decoder import Reversal
from unroll.chapter.kinds.many_to_one import ManyToOne
from unroll.chapter.kinds.one_to_many import OneToMany
from unroll.chapter.kinds.tagging import Tagging
from unroll.chapter.synthetic import SyntheticProblem
from unroll.config import TrainingConfig
from unroll.training.metrics import SilentLogger
from unroll.training.trainer import Trainer

STEPS_PER_LOOK = 25


@dataclass(frozen=True)
class SequenceTask:
    """A kind of task, an example of it, and how long it is trained."""

    kind: str
    example: str
    problem: type[SyntheticProblem]
    steps: int


SEQUENCE_TASKS = (
    SequenceTask("many to one", "which of two letters came first?", ManyToOne, 100),
    SequenceTask("one to many", "describe a picture given by its features", OneToMany, 200),
    SequenceTask("many to many, in step", "who is speaking, at every word", Tagging, 150),
    SequenceTask("many to many, delayed", "say a list of digits backwards", Reversal, 400),
)


@dataclass(frozen=True)
class LearnedTask:
    """How well a task was learned, and how fast."""

    task: SequenceTask
    accuracy: float
    """Share of right predictions on items never trained on."""
    seconds: float
    history: Sequence[Mapping[str, Any]]
    """The curves, as `unroll.training.metrics.History` keeps them."""


def learn(task: SequenceTask, seed: int = 1) -> LearnedTask:
    """Train a task from the start; a second or two on one core."""
    config = TrainingConfig(
        epochs=task.steps // STEPS_PER_LOOK, optimizer="adam", learning_rate=1e-2, batch_size=64, device="cpu"
    )
    problem = task.problem(seed, config.batch_size, STEPS_PER_LOOK)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(problem, config, Path(folder), SilentLogger())
        trainer.fit()
        history = trainer.history.read()
    looks = [float(point["validation/accuracy"]) for point in history if "validation/accuracy" in point]
    return LearnedTask(task, looks[-1], time.perf_counter() - started, history)
