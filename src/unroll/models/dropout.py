"""Dropout whose masks may be drawn from a generator of the calling thread's own.

PyTorch's dropout draws from one generator that all threads share, so threads that train together would get masks in
the order in which they happen to run.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

_of_thread = threading.local()


@contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Within the block, this thread's dropout draws from ``generator``, and not from PyTorch's own."""
    _of_thread.generator = generator
    try:
        yield
    finally:
        _of_thread.generator = None


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` (Srivastava et al. 2014); see `drawing_from`."""

    def forward(self, input: Tensor) -> Tensor:
        """Zero each value with probability p and scale the others by 1 / (1 - p), while training."""
        generator = _generator()
        if generator is None or not self.training or self.p == 0:
            return super().forward(input)
        kept = torch.empty_like(input).bernoulli_(1 - self.p, generator=generator)
        return input * kept.div_(max(1 - self.p, 1e-30))  # p = 1 keeps nothing


def random_mask(like: Tensor, probability: float) -> Tensor:
    """Bool of the shape of ``like``, each True with ``probability``; drawn as dropout draws."""
    return torch.rand(like.shape, device=like.device, generator=_generator()) < probability


def _generator() -> torch.Generator | None:
    return getattr(_of_thread, "generator", None)
