"""Gradient clipping (chapter 15, the exploding gradient; Pascanu, Mikolov and Bengio 2013, section 3.2)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from unroll.config import TrainingConfig


def clip_gradients(parameters: Iterable[nn.Parameter], config: TrainingConfig) -> tuple[Tensor, Tensor]:
    """Clip in place as ``config.clip`` asks.

    Returns the norm over all gradients before clipping and whether clipping changed them, scalar tensors that stay on
    the device: reading them would make the host wait for a GPU.
    Gradients of a scaled loss must be unscaled first, or the threshold means nothing. Sparse ones are left coalesced.
    """
    holders = [_dense_holder(parameter) for parameter in parameters if parameter.grad is not None]
    gradients = [holder.grad for holder in holders if holder.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if config.clip == "norm":
        torch.nn.utils.clip_grads_with_norm_(holders, config.max_gradient_norm, norm)
        return norm, norm > config.max_gradient_norm
    if config.clip == "value":
        largest = torch.stack([gradient.abs().max() if gradient.numel() else norm * 0 for gradient in gradients]).max()
        torch.nn.utils.clip_grad_value_(holders, config.max_gradient_value)
        return norm, largest > config.max_gradient_value
    return norm, torch.zeros_like(norm, dtype=torch.bool)


def _dense_holder(parameter: Tensor) -> Tensor:
    """The parameter itself; of a sparse gradient, a tensor whose gradient is that one's values, sharing memory."""
    assert parameter.grad is not None
    if not parameter.grad.is_sparse:
        return parameter
    parameter.grad = coalesce_rows(parameter.grad)
    values = parameter.grad.values()
    holder = torch.empty_like(values)
    holder.grad = values
    return holder


def coalesce_rows(gradient: Tensor) -> Tensor:
    """The same sparse gradient of a matrix, each row once, rows in ascending order; twice as fast as `coalesce`.

    gradient: (rows, columns), the rows sparse and the columns dense, as an embedding of ``sparse=True`` yields it.
    """
    if gradient.is_coalesced():
        return gradient
    rows, values = gradient._indices()[0], gradient._values()
    places = torch.zeros(len(gradient), dtype=torch.int64, device=rows.device)
    places[rows] = 1
    distinct = places.nonzero().squeeze(1)
    places[distinct] = torch.arange(len(distinct), device=rows.device)
    sums = values.new_zeros(len(distinct), values.size(1)).index_add_(0, places[rows], values)
    return torch.sparse_coo_tensor(
        distinct.unsqueeze(0), sums, gradient.shape, is_coalesced=True, check_invariants=False
    )
