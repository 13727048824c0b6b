"""Exponents of measured curves. No PyTorch in here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The k of value ~ size^k: the slope of the least-squares line through the logarithms. At least two points."""
    slope, _ = np.polyfit(np.log(sizes), np.log(values), 1)
    return float(slope)


def step_exponents(sizes: Sequence[float], values: Sequence[float]) -> list[float]:
    """The exponent from each point to the next one, one fewer than there are points."""
    exponents: list[float] = (np.diff(np.log(values)) / np.diff(np.log(sizes))).tolist()
    return exponents


def fixed_part(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Where the straight line through the two smallest points meets the axis, in the values' unit."""
    slope = (values[1] - values[0]) / (sizes[1] - sizes[0])
    return values[0] - slope * sizes[0]
