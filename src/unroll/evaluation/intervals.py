"""How far a measured number would move on other items: seeded bootstrap percentile intervals.

Percentile bootstrap: Efron and Tibshirani, *An Introduction to the Bootstrap* (1993), chapter 13. Runs of dependent
values (the losses of neighbouring characters) are resampled in blocks: Künsch, "The jackknife and the bootstrap for
general stationary observations" (1989), with the ends joined to a circle (Politis and Romano, 1992), so that every
value is drawn equally often.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unroll.errors import DataError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

BLOCK_LENGTH = 1_000
"""Characters in a block: a few paragraphs. On a novel the standard error of the mean loss by such blocks is 2.7 times
that of independent characters; the paired difference of two models has settled by then."""
FEWEST_BLOCKS = 30
"""A shorter text is cut into shorter blocks, down to single characters, to keep this many."""
MOST_BLOCKS = 20_000
"""A longer text is cut into longer blocks, so that resampling does not grow with it."""
DRAWS_AT_ONCE = 1_000_000
"""Blocks drawn together; bounds the memory whatever the number of resamples."""


@dataclass(frozen=True)
class Interval:
    """A measured value and the ends of its interval, in the value's unit."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """The three numbers by name, for JSON."""
        return asdict(self)


def percentile_interval(value: float, resampled: ArrayLike, confidence: float) -> Interval:
    """The central `confidence` share of a statistic's resampled values.

    resampled: (S,). Undefined (NaN) resamples are left out; where all are, the interval is the value alone.
    """
    defined = np.asarray(resampled, dtype=np.float64)
    defined = defined[~np.isnan(defined)]
    if len(defined) == 0:
        return Interval(float(value), float(value), float(value))
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(defined, [tail, 1.0 - tail])
    return Interval(float(value), float(low), float(high))


def bootstrap_items(
    num_items: int, statistic: Callable[[IntArray], Any], bootstrap_samples: int, seed: int | list[int]
) -> FloatArray:
    """A statistic over resamples of independent items, drawn with replacement.

    statistic: from the (N,) drawn indices to a number or an array (M,). Returns (S,) or (S, M). Memory grows with N
    only: one resample is held at a time.
    """
    generator = np.random.default_rng(seed)
    draws = (generator.integers(0, num_items, num_items) for _ in range(bootstrap_samples))
    return np.asarray([statistic(indices) for indices in draws], dtype=np.float64)


def bootstrap_counts(counts: ArrayLike, bootstrap_samples: int, seed: int | list[int]) -> IntArray:
    """Resampled counts of items by kind: the item bootstrap for statistics that read nothing but these counts.

    counts: (...) whole numbers, at least one item in all. Returns (S, ...): drawing N items with replacement makes the
    counts multinomial, so this is exact.
    """
    cells = np.asarray(counts, dtype=np.int64)
    total = int(cells.sum())
    drawn = np.random.default_rng(seed).multinomial(total, cells.ravel() / total, size=bootstrap_samples)
    return drawn.reshape(bootstrap_samples, *cells.shape)


def choose_block_length(num_values: int) -> int:
    """Values in a block of a text of `num_values`: `BLOCK_LENGTH`, unless that makes too few or too many blocks."""
    return max(1, min(max(BLOCK_LENGTH, num_values // MOST_BLOCKS), num_values // FEWEST_BLOCKS))


def bootstrap_block_means(values: ArrayLike, bootstrap_samples: int, seed: int | list[int]) -> FloatArray:
    """Means over resamples of a dependent series, made of contiguous blocks that start anywhere.

    values: (N,) or (N, M); the M columns share their blocks, so their resamples are paired. Returns (S,) or (S, M).
    """
    series = np.asarray(values, dtype=np.float64)
    drawn = _drawn_blocks(series, choose_block_length(len(series)), bootstrap_samples, seed)
    return np.concatenate([blocks.mean(axis=1) for blocks in drawn])


def bootstrap_block_t(
    values: ArrayLike, block_length: int, bootstrap_samples: int, seed: int | list[int]
) -> tuple[float, FloatArray]:
    """Standard error of the mean of a dependent series (N,), and how its resampled means spread in their own.

    Returns the standard error and (S,): (resampled mean - mean) / standard error of that resample. A resample whose
    blocks are all alike has none; it counts as infinitely far, or as 0 where its mean is the mean.
    """
    series = np.asarray(values, dtype=np.float64)
    num_blocks = round(len(series) / block_length)
    # overlapping blocks about the mean of the same series spread too little, by (n - 1) / n
    standard_error = float(_block_means(series, block_length).std() / np.sqrt(num_blocks - 1))
    mean, ratios = series.mean(), []
    for blocks in _drawn_blocks(series, block_length, bootstrap_samples, seed):
        deviations = blocks.mean(axis=1) - mean
        with np.errstate(divide="ignore", invalid="ignore"):
            ratios.append(deviations / (blocks.std(axis=1, ddof=1) / np.sqrt(num_blocks)))
    return standard_error, np.nan_to_num(np.concatenate(ratios), nan=0.0, posinf=np.inf, neginf=-np.inf)


def _block_means(series: FloatArray, length: int) -> FloatArray:
    """Means of the blocks that start at each value of a series whose ends are joined; (N,) or (N, M)."""
    circle = np.concatenate([series, series[: length - 1]])
    running = np.concatenate([np.zeros((1, *series.shape[1:])), np.cumsum(circle, axis=0)])
    return np.asarray((running[length:] - running[:-length]) / length)


def _drawn_blocks(
    series: FloatArray, length: int, bootstrap_samples: int, seed: int | list[int]
) -> Iterator[FloatArray]:
    """(s, B) or (s, B, M), a part of the resamples at a time: the means of the blocks that make up each."""
    block_means, num_blocks = _block_means(series, length), round(len(series) / length)
    generator = np.random.default_rng(seed)
    rows = max(1, DRAWS_AT_ONCE // num_blocks)
    for first in range(0, bootstrap_samples, rows):
        shape = (min(rows, bootstrap_samples - first), num_blocks)
        yield block_means[generator.integers(0, len(series), shape)]


def require_finite(name: str, values: ArrayLike, ndim: int = 1) -> FloatArray:
    """The values as float64. Raises DataError where there are none, one is not finite, or the shape is another."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != ndim or array.size == 0:
        raise DataError(f"{name} has shape {array.shape}; expected {ndim} dimension(s) and at least one value.")
    num_bad = array.size - int(np.isfinite(array).sum())
    if num_bad:
        raise DataError(
            f"{num_bad:,} of {array.size:,} values of {name} are not finite; expected numbers. "
            "The model that gave them has diverged or was read wrongly: train it again."
        )
    return array
