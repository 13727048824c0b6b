"""Seeding, and the generator states that a checkpoint holds."""

from __future__ import annotations

import torch
from torch import Tensor


def seed_torch(seed: int) -> None:
    """Seed PyTorch's generators, on every device. Data order has generators of its own (`unroll.data.batching`)."""
    torch.manual_seed(seed)


def generator_states(device: torch.device) -> dict[str, Tensor]:
    """The states that decide the next dropout mask, on the CPU and on the training device."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_generators(states: dict[str, Tensor], device: torch.device) -> None:
    """Put back what `generator_states` returned. A checkpoint of another kind of device restores what it has."""
    torch.set_rng_state(states["cpu"].cpu())
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"].cpu(), device)
