"""Gradient clipping (chapter 15, the exploding gradient; Pascanu, Mikolov and Bengio 2013, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from unroll.config import TrainingConfig


def clip_gradients(parameters: Iterable[nn.Parameter], config: TrainingConfig) -> tuple[Tensor, bool]:
    """Clip in place as ``config.clip`` asks.

    Returns the norm over all gradients before clipping, a scalar tensor, and whether clipping changed them.
    Gradients of a scaled loss must be unscaled first, or the threshold means nothing.
    """
    parameters = list(parameters)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if config.clip == "norm":
        torch.nn.utils.clip_grads_with_norm_(parameters, config.max_gradient_norm, norm)
        return norm, bool(norm > config.max_gradient_norm)
    if config.clip == "value":
        largest = max(float(gradient.abs().max()) for gradient in gradients)
        torch.nn.utils.clip_grad_value_(parameters, config.max_gradient_value)
        return norm, largest > config.max_gradient_value
    return norm, False
