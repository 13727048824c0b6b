"""What came of a step: its loss and gradient norm, read from the device when they are there."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class StepOutcome:
    """Numbers of one step. On a GPU they are on their way to the host while the next step is computed."""

    numbers: Tensor
    """(3,) float32 on the host: loss in nats, gradient norm before clipping, 1 where clipping changed the gradients."""
    arrived: torch.cuda.Event | None
    num_tokens: int
    num_places: int
    learning_rate: float

    @classmethod
    def send(
        cls, loss: Tensor, norm: Tensor, clipped: Tensor, num_tokens: int, num_places: int, learning_rate: float
    ) -> StepOutcome:
        """Begin the journey to the host; from a GPU without waiting for it."""
        numbers = torch.stack([loss.float(), norm.float(), clipped.float()])
        if numbers.device.type != "cuda":
            return cls(numbers.cpu(), None, num_tokens, num_places, learning_rate)
        on_host = torch.empty(3, pin_memory=True)
        on_host.copy_(numbers, non_blocking=True)
        arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
        arrived.record()
        return cls(on_host, arrived, num_tokens, num_places, learning_rate)

    def read(self) -> tuple[float, float, bool]:
        """Loss, norm, and whether clipping changed the gradients; waits until they are there."""
        if self.arrived is not None:
            self.arrived.synchronize()
        loss, norm, clipped = self.numbers.tolist()
        return loss, norm, clipped > 0

    @property
    def is_finite(self) -> bool:
        """Whether the step may change the weights."""
        loss, norm, _ = self.read()
        return math.isfinite(loss + norm)
