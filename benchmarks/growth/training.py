"""Seconds of a step of our trainer, and of the parts of it that explain how it grows."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from benchmarks.growth.curves import Point
from benchmarks.growth.settings import CLOCK_GRAIN
from benchmarks.measure import Stopwatch
from benchmarks.products import Product, TrainingProducts, total_flops
from benchmarks.timed_problem import time_training
from unroll.config import TrainingConfig
from unroll.training.gradients import clip_gradients
from unroll.training.optim import make_optimizers
from unroll.training.problem import Problem

SECONDS = 4.0
"""About as long the steps are timed."""
FEWEST_STEPS, MOST_STEPS = 3, 100
WARM_UP_STEPS = 2
UPDATES = 5


def measure_steps(point: Point, problem: Problem, config: TrainingConfig) -> dict[str, Any]:
    """Time some steps after a few that are not counted: seconds and CPU seconds of one, and how many there were."""
    _, warm_up = time_training(problem, config.model_copy(update={"max_steps": WARM_UP_STEPS}))
    affordable = int(SECONDS * WARM_UP_STEPS / warm_up.seconds)
    steps = FEWEST_STEPS if point.quick else min(max(affordable, FEWEST_STEPS), MOST_STEPS)
    timed, lap = time_training(problem, config.model_copy(update={"max_steps": steps}))
    return {
        "seconds": lap.seconds / steps,
        "cpu_seconds": max(lap.cpu_seconds, CLOCK_GRAIN) / steps,
        "elsewhere_cores": None if lap.elsewhere_seconds is None else lap.elsewhere_seconds / lap.seconds,
        "steps": steps,
        "steps_per_epoch": problem.steps_per_epoch,
        "tokens_per_second": timed.num_tokens / lap.seconds,
        "update_seconds": _update_seconds(problem, config),
    }


def measure_products(products: tuple[Product, ...], step_seconds: float) -> dict[str, Any]:
    """The matrix products of a step alone: their operations, and the seconds they take."""
    runner = TrainingProducts(products, torch.float32)
    repeats = max(1, min(10, int(1.0 / step_seconds)))
    runner.run(1)
    watch = Stopwatch()
    runner.run(repeats)
    return {"flops": total_flops(products), "products_seconds": watch.lap().seconds / repeats}


def _update_seconds(problem: Problem, config: TrainingConfig) -> float:
    """Seconds to clip the gradients and update the weights: what a step costs however few tokens it reads.

    Rows of an embedding that is moved lazily are not among them: their number is that of the words read.
    """
    parameters = list(problem.model.parameters())
    optimizers = make_optimizers(problem.model, config)
    lazy = {
        id(module.weight) for module in problem.model.modules() if isinstance(module, nn.Embedding) and module.sparse
    }
    dense = [parameter for parameter in parameters if id(parameter) not in lazy]
    for parameter in dense:
        parameter.grad = torch.zeros_like(parameter)
    for optimizer in optimizers:
        optimizer.step()  # makes its state
    watch = Stopwatch()
    for _ in range(UPDATES):
        clip_gradients(dense, config)
        for optimizer in optimizers:
            optimizer.step()
    return watch.lap().seconds / UPDATES
