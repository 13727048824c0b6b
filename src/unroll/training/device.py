"""Where and in what precision arithmetic runs."""

from __future__ import annotations

import torch

from unroll.errors import ConfigError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_device(name: str) -> torch.device:
    """`auto` is a GPU where there is one, else the CPU. Raises ConfigError for a device that is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device).item()  # fails where a device holds no values, as `meta` does
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].partition(". ")[0][:200]
        raise ConfigError(f"training.device={name} is not to be had here ({reason}); use auto or cpu.") from error
    return device


def check_precision(precision: str, device: torch.device) -> None:
    """Raises ConfigError for float16 without a GPU: CPUs have no fast kernels for it."""
    if precision == "float16" and device.type != "cuda":
        raise ConfigError("training.precision=float16 needs a GPU; use bfloat16 or float32 on a CPU.")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """A context in which matrix products run in ``precision`` and the weights stay float32."""
    enabled = precision != "float32"
    return torch.autocast(device.type, dtype=DTYPES[precision] if enabled else torch.bfloat16, enabled=enabled)
