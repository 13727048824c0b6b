"""How a model does on parts of the test split: where a good mean hides a bad part, and on how few items it rests.

Shares get Wilson's interval (1927), which holds for few items and near 0 and 1; bits per character get a block
bootstrap of the ratio, since neighbouring losses hang together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from unroll.evaluation.intervals import Interval, bootstrap_block_means, percentile_interval
from unroll.evaluation.language_modeling import NATS_PER_BIT

UNKNOWN_SHARES = (0.0, 0.02, 0.05, 1.0)
"""Ends of the bins of a text's share of unknown words; the first bin holds texts without any."""


@dataclass(frozen=True)
class Slice:
    """One part of the test split. value: accuracy, or bits per character, with its interval."""

    group: str
    name: str
    num_items: int
    value: Interval


def slice_reviews(
    lengths: NDArray[np.int64],
    unknown_shares: NDArray[np.float64],
    labels: NDArray[np.int64],
    correct: NDArray[np.bool_],
    class_names: Sequence[str],
    confidence: float = 0.95,
) -> tuple[Slice, ...]:
    """Accuracy by quartile of length, by class and by share of unknown words. All arrays (N,); empty parts left out.

    lengths: tokens that the model read. unknown_shares: of these, the share that its vocabulary lacks.
    """
    found = []
    for members in _quartiles(lengths):
        name = f"{lengths[members].min():,} to {lengths[members].max():,} tokens"
        found.append(_share("length", name, correct[members], confidence))
    for index, name in enumerate(class_names):
        found.append(_share("class", name, correct[labels == index], confidence))
    for name, members in _by_unknown(unknown_shares):
        found.append(_share("unknown words", name, correct[members], confidence))
    return tuple(part for part in found if part.num_items)


def slice_text(
    text: str,
    nats: NDArray[np.float64],
    is_unknown: NDArray[np.bool_],
    confidence: float = 0.95,
    bootstrap_samples: int = 1_000,
    seed: int = 1,
) -> tuple[Slice, ...]:
    """Bits per character by kind of character, and of those that the vocabulary lacks. Arrays (N,), N = len(text)."""
    kinds = np.array([_kind(character) for character in text])
    masks = [("kind of character", kind, kinds == kind) for kind in dict.fromkeys(kinds)]
    masks.append(("vocabulary", "characters it lacks", is_unknown))
    found = []
    for group, name, mask in masks:
        if not mask.any():
            continue
        columns = np.stack([np.where(mask, nats, 0.0), mask.astype(np.float64)], axis=1)
        sums = bootstrap_block_means(columns, bootstrap_samples, seed)
        with np.errstate(invalid="ignore", divide="ignore"):
            resampled = sums[:, 0] / sums[:, 1] / NATS_PER_BIT
        value = float(nats[mask].mean()) / NATS_PER_BIT
        found.append(Slice(group, str(name), int(mask.sum()), percentile_interval(value, resampled, confidence)))
    return tuple(found)


def _share(group: str, name: str, correct: NDArray[np.bool_], confidence: float) -> Slice:
    from scipy.stats import binomtest

    if not len(correct):
        return Slice(group, name, 0, Interval(0.0, 0.0, 1.0))
    hits = int(correct.sum())
    ends = binomtest(hits, len(correct)).proportion_ci(confidence, method="wilson")
    return Slice(group, name, len(correct), Interval(hits / len(correct), float(ends.low), float(ends.high)))


def _quartiles(lengths: NDArray[np.int64]) -> Iterator[NDArray[np.bool_]]:
    """Masks of the four quarters; texts of one length stay together, so a quarter may be empty and is left out."""
    quarter = np.searchsorted(np.quantile(lengths, [0.25, 0.5, 0.75]), lengths)
    for index in range(4):
        if (quarter == index).any():
            yield quarter == index


def _by_unknown(shares: NDArray[np.float64]) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    yield "none", shares == 0
    for low, high in pairwise(UNKNOWN_SHARES):
        name = f"over {low:.0%} of them" if high == 1 else f"over {low:.0%}, up to {high:.0%}"
        yield name, (shares > low) & (shares <= high)


def _kind(character: str) -> str:
    if character.isalpha():
        return "capitals" if character.isupper() else "other letters"
    if character.isspace():
        return "white space"
    return "digits" if character.isdigit() else "punctuation and signs"
