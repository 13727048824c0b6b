"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import math

import torch
from torch import nn

from unroll.config import TrainingConfig

FINAL_FRACTION = 0.01
"""Learning rate at the end of `cosine` and `one_cycle`, as a share of the peak."""
INITIAL_FRACTION = 0.04
"""Learning rate at the start of `one_cycle`, as a share of the peak (Smith and Topin 2018 start at 1/25)."""


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimizer of ``config``, with weight decay on matrices and none on biases."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        momentum = config.betas[0]
        return torch.optim.SGD(groups, lr=config.learning_rate, momentum=momentum, nesterov=momentum > 0)
    optimizer_class = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return optimizer_class(groups, lr=config.learning_rate, betas=config.betas, fused=True)


def learning_rate_at(progress: float, config: TrainingConfig) -> float:
    """Learning rate when ``progress``, from 0 to 1, of the run is done.

    `cosine` rises linearly from 0 and falls as half a cosine; `one_cycle` rises and falls as half cosines, from
    INITIAL_FRACTION of the peak to FINAL_FRACTION.
    """
    progress = min(max(progress, 0.0), 1.0)
    if config.schedule == "constant":
        return config.learning_rate
    warmup = config.warmup_fraction
    if progress < warmup:
        rise = progress / warmup
        if config.schedule == "one_cycle":
            rise = INITIAL_FRACTION + (1 - INITIAL_FRACTION) * (1 - math.cos(math.pi * rise)) / 2
        return config.learning_rate * rise
    fall = (progress - warmup) / (1 - warmup)
    return config.learning_rate * (FINAL_FRACTION + (1 - FINAL_FRACTION) * (1 + math.cos(math.pi * fall)) / 2)
