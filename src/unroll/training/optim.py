"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import math
from collections import Counter

import torch
from torch import nn

from unroll.config import TrainingConfig
from unroll.training.lazy_adam import LazyAdam

FINAL_FRACTION = 0.01
"""Learning rate at the end of `cosine` and `one_cycle`, as a share of the peak."""
INITIAL_FRACTION = 0.04
"""Learning rate at the start of `one_cycle`, as a share of the peak (Smith and Topin 2018 start at 1/25)."""
LEAST_LAZY_WEIGHTS = 500_000
"""Weights of an embedding from which its rows are moved lazily on a CPU. Smaller ones fit into a core's cache, and are
touched as a whole in the time that choosing rows takes."""


def make_optimizers(model: nn.Module, config: TrainingConfig) -> list[torch.optim.Optimizer]:
    """One optimizer for all parameters, but that a large embedding on a CPU gets a `LazyAdam` of its own.

    Such an embedding is made to yield sparse gradients. Results are the same to rounding.
    """
    lazy = _lazy_embeddings(model, config)
    for embedding in lazy:
        embedding.sparse = True
    lazy_weights = {id(embedding.weight) for embedding in lazy}
    dense = [p for p in model.parameters() if p.requires_grad and id(p) not in lazy_weights]
    optimizers = [_make_optimizer(dense, config)]
    if lazy:
        decay = config.weight_decay
        weights = [embedding.weight for embedding in lazy]
        optimizers.append(LazyAdam(weights, config.learning_rate, config.betas, weight_decay=decay))
    return optimizers


def settle(optimizers: list[torch.optim.Optimizer]) -> None:
    """Bring all weights up to date, before the model is used as a whole."""
    for optimizer in optimizers:
        if isinstance(optimizer, LazyAdam):
            optimizer.settle()


def _lazy_embeddings(model: nn.Module, config: TrainingConfig) -> list[nn.Embedding]:
    # Adam's own decay is part of the gradient, so it leaves no row's gradient at zero
    if config.optimizer == "sgd" or (config.optimizer == "adam" and config.weight_decay > 0):
        return []
    owners = Counter(id(p) for module in model.modules() for p in module.parameters(recurse=False))
    return [
        module
        for module in model.modules()
        if isinstance(module, nn.Embedding)
        and module.weight.requires_grad
        and module.weight.device.type == "cpu"
        and module.weight.numel() >= LEAST_LAZY_WEIGHTS
        and owners[id(module.weight)] == 1  # weights tied to an output layer have dense gradients
    ]


def _make_optimizer(parameters: list[nn.Parameter], config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimizer of ``config``, with weight decay on matrices and none on biases."""
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
