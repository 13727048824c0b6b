"""How many bits a language model needs for text it has not seen, with intervals, and against a known floor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from unroll.errors import DataError
from unroll.evaluation.intervals import (
    FloatArray,
    Interval,
    bootstrap_block_means,
    choose_block_length,
    percentile_interval,
    require_finite,
)

NATS_PER_BIT = math.log(2.0)


@dataclass(frozen=True)
class LanguageModelReport:
    """What `evaluate_language_model` found.

    metrics: `nats_per_char`, `bits_per_char`, `perplexity` (per character) and, where the text's own code length is
    known, `floor_bits_per_char` and `excess_over_floor` (0.05 is five per cent more bits than any model can reach).
    """

    num_characters: int
    block_length: int
    confidence: float
    metrics: Mapping[str, Interval]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class PositionLoss:
    """Mean loss in nats at each of the T positions of a window, with the ends of its interval; each (T,)."""

    mean: FloatArray
    low: FloatArray
    high: FloatArray
    num_windows: int


def evaluate_language_model(
    nats_per_character: ArrayLike,
    confidence: float = 0.95,
    bootstrap_samples: int = 1_000,
    seed: int = 1,
    exact_bits: ArrayLike | None = None,
) -> LanguageModelReport:
    """Mean code length of a text under a model, with block-bootstrap intervals.

    nats_per_character: (N,), minus the natural logarithm of each character's probability, in the text's order.
    exact_bits: (N,), the same under the generator that made the text, in bits; resampled along with the model's.
    The interval speaks of texts like this stretch; chapters differ among each other by more. Raises DataError.
    """
    bits = require_finite("nats_per_character", nats_per_character) / NATS_PER_BIT
    columns = [bits]
    if exact_bits is not None:
        columns.append(_check_floor(exact_bits, len(bits)))
    series = np.stack(columns, axis=1)
    resampled = bootstrap_block_means(series, bootstrap_samples, seed)

    def interval(value: float, samples: FloatArray) -> Interval:
        return percentile_interval(value, samples, confidence)

    measured, model = float(series[:, 0].mean()), resampled[:, 0]
    metrics = {
        "nats_per_char": interval(measured * NATS_PER_BIT, model * NATS_PER_BIT),
        "bits_per_char": interval(measured, model),
        "perplexity": interval(2.0**measured, np.exp2(model)),
    }
    if exact_bits is not None:
        floor, floors = float(series[:, 1].mean()), resampled[:, 1]
        metrics["floor_bits_per_char"] = interval(floor, floors)
        metrics["excess_over_floor"] = interval(measured / floor - 1.0, model / floors - 1.0)
    return LanguageModelReport(len(bits), choose_block_length(len(bits)), confidence, metrics)


def loss_per_position(nats: ArrayLike, confidence: float = 0.95) -> PositionLoss:
    """Mean loss at each position of a window: how much the state it started from, and then its own start, help.

    nats: (W, T), one row a window. The interval is the normal one over windows; a single window gives none, and its
    ends are the mean. Raises DataError.
    """
    losses = require_finite("nats", nats, ndim=2)
    num_windows = len(losses)
    mean = losses.mean(axis=0)
    spread = losses.std(axis=0, ddof=1) if num_windows > 1 else np.zeros_like(mean)
    margin = NormalDist().inv_cdf((1.0 + confidence) / 2.0) * spread / math.sqrt(num_windows)
    return PositionLoss(mean, mean - margin, mean + margin, num_windows)


def _check_floor(exact_bits: ArrayLike, num_characters: int) -> FloatArray:
    floor = require_finite("exact_bits", exact_bits)
    if len(floor) != num_characters:
        raise DataError(
            f"exact_bits has {len(floor):,} values for {num_characters:,} characters; expected one each. "
            "Score both over the same part of the text."
        )
    if floor.min() < 0 or floor.sum() == 0:
        raise DataError(
            f"exact_bits has a least value of {floor.min():.4g} and a sum of {floor.sum():.4g}; "
            "expected code lengths: none negative, not all zero."
        )
    return floor
