"""What is counted of scored texts while they pass: sums and histograms over bins that are fixed once and for all.

They are made part by part, by whatever process, and added up; memory does not grow with the texts. `unroll.reference`
counts a model's validation split in this way, `unroll.bulk` what is scored; `unroll.evaluation.drift` compares the two.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

FORMAT = 1

UNKNOWN = "unknown"
"""Ratio: `<unk>` ids per token, or per character of a running text."""
BITS = "bits_per_char"
"""Ratio: bits per character."""
LENGTH = "length"
"""Histogram: tokens of a text as the model reads it, after it is cut to ``encoding.max_length``."""
SCORE = "score/"
"""Histogram, followed by a class name: the probability that the model gives to the class."""

LENGTH_EDGES = np.unique(np.round(2.0 ** (np.arange(0, 8 * 20 + 1) / 8)))
"""Eight bins to each doubling, from 1 to a million tokens; what is outside counts in the first or last bin."""
SCORE_EDGES = np.linspace(-12.0, 12.0, 193)
"""Of the logit of a probability, so that bins stay fine near 0 and 1, where a trained model's answers are."""
_LEAST_PROBABILITY = 1e-6


@dataclass(frozen=True)
class RatioSums:
    """Sums over N texts from which a ratio of totals, such as unknown tokens per token, has its value and error.

    top, bottom: (N,) of each text, such as its unknown tokens and its tokens.
    """

    count: int = 0
    top: float = 0.0
    bottom: float = 0.0
    top_squared: float = 0.0
    top_bottom: float = 0.0
    bottom_squared: float = 0.0

    @classmethod
    def of(cls, top: ArrayLike, bottom: ArrayLike) -> RatioSums:
        """The sums over texts; both (N,)."""
        tops, bottoms = np.asarray(top, np.float64), np.asarray(bottom, np.float64)
        products = (tops @ tops, tops @ bottoms, bottoms @ bottoms)
        return cls(len(tops), float(tops.sum()), float(bottoms.sum()), *map(float, products))

    def __add__(self, other: RatioSums) -> RatioSums:
        return RatioSums(*(ours + theirs for ours, theirs in zip(self._values(), other._values(), strict=True)))

    @property
    def value(self) -> float:
        """Total over total; NaN of nothing."""
        return self.top / self.bottom if self.bottom else math.nan

    @property
    def standard_error(self) -> float:
        """Of `value`, by linearisation (Cochran 1977, Sampling Techniques, section 6.4), texts taken as independent.

        Tokens of one text are alike, so that counting tokens instead of texts would make it far too small.
        """
        if self.count < 2 or not self.bottom:
            return math.inf
        ratio = self.value
        squares = self.top_squared - 2 * ratio * self.top_bottom + ratio**2 * self.bottom_squared
        return math.sqrt(max(squares, 0.0) * self.count / (self.count - 1)) / self.bottom

    def _values(self) -> tuple[Any, ...]:
        return (self.count, self.top, self.bottom, self.top_squared, self.top_bottom, self.bottom_squared)


@dataclass(frozen=True)
class SampleStatistics:
    """Ratios and histograms of a number of texts, or of passages of a text."""

    count: int = 0
    """Texts, or passages."""
    ratios: Mapping[str, RatioSums] = field(default_factory=dict)
    histograms: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    """By name: how many texts fell into each bin; bins without any are left out."""

    def __add__(self, other: SampleStatistics) -> SampleStatistics:
        ratios = {
            name: self.ratios.get(name, RatioSums()) + other.ratios.get(name, RatioSums())
            for name in sorted({*self.ratios, *other.ratios})
        }
        histograms = {}
        for name in sorted({*self.histograms, *other.histograms}):
            ours, theirs = self.histograms.get(name, {}), other.histograms.get(name, {})
            histograms[name] = {bin_: ours.get(bin_, 0) + theirs.get(bin_, 0) for bin_ in sorted({*ours, *theirs})}
        return SampleStatistics(self.count + other.count, ratios, histograms)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"format": FORMAT, **asdict(self)}

    def to_json(self) -> bytes:
        """The same in as few bytes as JSON takes."""
        return json.dumps(self.to_dict(), separators=(",", ":")).encode()

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> SampleStatistics:
        """What `to_dict` gave, also by way of JSON. Raises ValueError, KeyError or TypeError for anything else."""
        if plain["format"] != FORMAT:
            raise ValueError(f"format {plain['format']}, expected {FORMAT}")
        ratios = {str(name): RatioSums(**sums) for name, sums in plain["ratios"].items()}
        histograms = {
            str(name): {int(bin_): int(count) for bin_, count in bins.items()}
            for name, bins in plain["histograms"].items()
        }
        return cls(int(plain["count"]), ratios, histograms)


def add_up(parts: Iterable[SampleStatistics]) -> SampleStatistics:
    """The statistics of all parts together, in their order."""
    total = SampleStatistics()
    for part in parts:
        total = total + part
    return total


def count_reviews(
    lengths: ArrayLike, unknown: ArrayLike, probs: NDArray[np.float64], class_names: tuple[str, ...]
) -> SampleStatistics:
    """Of classified texts. lengths, unknown: (N,) tokens, and `<unk>` among them; probs: (N, K), of each class.

    Of two classes only the second is counted: the first is its mirror.
    """
    sizes = np.asarray(lengths)
    counted = list(enumerate(class_names))[1:] if len(class_names) == 2 else list(enumerate(class_names))
    histograms = {LENGTH: histogram(sizes, LENGTH_EDGES)}
    for column, name in counted:
        histograms[SCORE + name] = histogram(logits_of(probs[:, column]), SCORE_EDGES)
    return SampleStatistics(len(sizes), {UNKNOWN: RatioSums.of(unknown, sizes)}, histograms)


def count_passages(bits: ArrayLike, characters: ArrayLike, unknown: ArrayLike) -> SampleStatistics:
    """Of passages of a running text; each (N,): bits, characters, and characters that the vocabulary lacks."""
    sizes = np.asarray(characters)
    return SampleStatistics(len(sizes), {BITS: RatioSums.of(bits, sizes), UNKNOWN: RatioSums.of(unknown, sizes)})


def histogram(values: ArrayLike, edges: NDArray[np.float64]) -> dict[int, int]:
    """How many of the values (N,) lie in each bin between two edges; those outside count in the outermost bins."""
    places = np.clip(np.searchsorted(edges, np.asarray(values), side="right") - 1, 0, len(edges) - 2)
    bins, counts = np.unique(places, return_counts=True)
    return {int(bin_): int(count) for bin_, count in zip(bins, counts, strict=True)}


def logits_of(probs: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,): log(p / (1 - p)), probabilities of 0 and 1 taken as just beside them."""
    kept = np.clip(probs, _LEAST_PROBABILITY, 1.0 - _LEAST_PROBABILITY)
    logits: NDArray[np.float64] = np.log(kept) - np.log1p(-kept)
    return logits
