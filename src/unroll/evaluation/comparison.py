"""The gate's first question: is the challenger better than the champion on the same frozen test items?

Both tests are paired, one-sided, and fail closed: what cannot be compared raises.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from unroll.errors import RegistryError
from unroll.evaluation.intervals import (
    FloatArray,
    bootstrap_block_means,
    bootstrap_counts,
    choose_block_length,
    percentile_interval,
    require_finite,
)
from unroll.evaluation.language_modeling import NATS_PER_BIT

INTERVAL_CONFIDENCE = 0.95
LEAST_SAVING = 1e-6
"""Bits per character. One model scored twice, in other batches or rounded to float32, differs by less than this."""


@dataclass(frozen=True)
class Comparison:
    """A decision and its evidence. Differences are positive where the challenger does better.

    metric: `accuracy` (as a fraction) or `bits_per_char`. low, high: the difference's 95 % interval.
    lower_bound: what the difference exceeds at confidence 1 - alpha. p_value: one-sided, for no difference in
    accuracy, or for a saving of no more than `minimum_gain` bits.
    """

    test: str
    metric: str
    num_items: int
    champion: float
    challenger: float
    difference: float
    low: float
    high: float
    lower_bound: float
    p_value: float
    alpha: float
    minimum_gain: float
    better: bool

    @property
    def sentence(self) -> str:
        """The decision in plain English, with the evidence."""
        verdict = "is better than" if self.better else "is not shown to be better than"
        return (
            f"The challenger {verdict} the champion: {self._values()} "
            f"({self.test}, p = {self.p_value:.2g}, alpha = {self.alpha:g}{self._shortfall()})."
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values and the sentence, for JSON."""
        return asdict(self) | {"sentence": self.sentence}

    def _values(self) -> str:
        if self.metric == "accuracy":
            points = [100 * value for value in (self.difference, self.low, self.high)]
            return (
                f"accuracy {self.challenger:.2%} against {self.champion:.2%} on the same {self.num_items:,} items, "
                f"a difference of {points[0]:+.2f} points (95 % interval {points[1]:+.2f} to {points[2]:+.2f})"
            )
        return (
            f"{self.challenger:.4f} against {self.champion:.4f} bits per character on the same {self.num_items:,} "
            f"characters, a saving of {self.difference:+.4f} (95 % interval {self.low:+.4f} to {self.high:+.4f})"
        )

    def _shortfall(self) -> str:
        if self.minimum_gain == 0:
            return ""
        return f"; the gain exceeds {self.lower_bound:.4g} at that level, {self.minimum_gain:g} is asked for"


def compare_classifiers(
    champion_correct: ArrayLike,
    challenger_correct: ArrayLike,
    alpha: float = 0.05,
    minimum_gain: float = 0.0,
    seed: int = 1,
    bootstrap_samples: int = 10_000,
) -> Comparison:
    """Exact one-sided McNemar test on which items each classifier got right.

    Both (N,) bool, item by item. Only items that one got right and the other wrong speak; under equal models each
    falls to either side like a coin (McNemar 1947; exact form: the binomial test). Better means p <= alpha and, where
    `minimum_gain` (a fraction) is above 0, a lower confidence bound of the difference above it.
    Raises RegistryError where the items are not the same.
    """
    from scipy.stats import binomtest

    champion, challenger = _paired(champion_correct, challenger_correct)
    _require_truth_values(champion, challenger)
    gained, lost = int((challenger > champion).sum()), int((challenger < champion).sum())
    p_value = float(binomtest(gained, gained + lost, 0.5, alternative="greater").pvalue) if gained + lost else 1.0
    resampled = bootstrap_counts([gained, lost, len(champion) - gained - lost], bootstrap_samples, seed)
    differences = (resampled[:, 0] - resampled[:, 1]) / len(champion)
    interval = percentile_interval((gained - lost) / len(champion), differences, INTERVAL_CONFIDENCE)
    lower_bound = float(np.quantile(differences, alpha))
    return Comparison(
        test="exact one-sided McNemar test",
        metric="accuracy",
        num_items=len(champion),
        champion=float(champion.mean()),
        challenger=float(challenger.mean()),
        difference=interval.value,
        low=interval.low,
        high=interval.high,
        lower_bound=lower_bound,
        p_value=p_value,
        alpha=alpha,
        minimum_gain=minimum_gain,
        better=p_value <= alpha and gained > lost and (minimum_gain == 0 or lower_bound > minimum_gain),
    )


def compare_language_models(
    champion_nats: ArrayLike,
    challenger_nats: ArrayLike,
    alpha: float = 0.05,
    minimum_gain: float = 0.0,
    seed: int = 1,
    bootstrap_samples: int = 10_000,
) -> Comparison:
    """Paired block-bootstrap test on the bits that the challenger saves at each character.

    Both (N,) nats, character by character. The null says that the mean saving is `minimum_gain` bits or less; its
    distribution is that of the resampled means about the measured one (Efron and Tibshirani 1993, section 16.4).
    Better means p <= alpha. Raises RegistryError where the items are not the same, DataError where a loss is infinite
    or no number.
    """
    champion, challenger = _paired(champion_nats, challenger_nats)
    saved_bits = (champion - challenger) / NATS_PER_BIT
    difference = float(saved_bits.mean())
    deviations = _block_deviations(saved_bits, difference, bootstrap_samples, seed)
    gain_to_show = max(minimum_gain, LEAST_SAVING)
    reached = int((deviations >= difference - gain_to_show).sum())
    p_value = (1 + reached) / (1 + bootstrap_samples)
    interval = percentile_interval(difference, difference + deviations, INTERVAL_CONFIDENCE)
    return Comparison(
        test="one-sided paired block bootstrap",
        metric="bits_per_char",
        num_items=len(saved_bits),
        champion=float(champion.mean()) / NATS_PER_BIT,
        challenger=float(challenger.mean()) / NATS_PER_BIT,
        difference=difference,
        low=interval.low,
        high=interval.high,
        lower_bound=difference - float(np.quantile(deviations, 1.0 - alpha)),
        p_value=p_value,
        alpha=alpha,
        minimum_gain=minimum_gain,
        better=p_value <= alpha and difference > gain_to_show,
    )


def _block_deviations(saved_bits: FloatArray, mean: float, bootstrap_samples: int, seed: int) -> FloatArray:
    num_blocks = round(len(saved_bits) / choose_block_length(len(saved_bits)))
    # few blocks spread too little about their own mean, as n against n - 1 in a variance
    widening = np.sqrt(num_blocks / (num_blocks - 1))
    return np.asarray(bootstrap_block_means(saved_bits - mean, bootstrap_samples, seed) * widening)


def _paired(champion: ArrayLike, challenger: ArrayLike) -> tuple[FloatArray, FloatArray]:
    num_champion, num_challenger = np.size(champion), np.size(challenger)
    if num_champion != num_challenger or num_champion < 2:
        raise RegistryError(
            f"The frozen test items differ: the champion was scored on {num_champion:,}, the challenger on "
            f"{num_challenger:,}; expected the same items, two or more. Score both again on one test split."
        )
    return require_finite("the champion's scores", champion), require_finite("the challenger's scores", challenger)


def _require_truth_values(*correctness: FloatArray) -> None:
    if not set(np.unique(correctness)) <= {0.0, 1.0}:
        raise RegistryError(
            "Correctness holds values other than true and false; expected, for each item, whether it was right. "
            "Compare the predictions with the labels first."
        )
