"""What the gate asks of two models scored on the same frozen test items, and the answer with its evidence.

All tests are paired, one-sided, and fail closed: what cannot be compared raises. How they work: `paired_tests`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from unroll.errors import RegistryError
from unroll.evaluation.intervals import FloatArray, bootstrap_counts, percentile_interval, require_finite
from unroll.evaluation.language_modeling import NATS_PER_BIT
from unroll.evaluation.paired_tests import BlockTest, paired_difference_p, paired_items_needed

Opponent = Literal["champion", "rival"]

INTERVAL_CONFIDENCE = 0.95
POWER = 0.8
"""With which the number of items that would be needed is computed."""
LEAST_SAVING = 1e-6
"""Bits per character. One model scored twice, in other batches or rounded to float32, differs by less than this."""


@dataclass(frozen=True)
class Comparison:
    """An answer and its evidence. Differences are positive where the challenger does better.

    metric: `accuracy` (as a fraction) or `bits_per_char`. bar: what the difference is to exceed: 0, the least gain, or
    minus the non-inferiority margin. low, high: the difference's 95 % interval. p_value: for a difference of `bar` or
    less. p_short: for a difference of `bar` or more, by the same test turned round. items_needed: on how many items the
    test would have a power of 0.8, were the true difference the measured one; None where that is not above the bar.
    """

    test: str
    metric: str
    opponent: Opponent
    num_items: int
    reference: float
    """The opponent's score."""
    challenger: float
    difference: float
    low: float
    high: float
    p_value: float
    p_short: float
    alpha: float
    bar: float
    items_needed: int | None

    @property
    def passed(self) -> bool:
        """The difference is shown to be above the bar."""
        return self.p_value <= self.alpha and self.difference > self.bar

    @property
    def failed(self) -> bool:
        """The difference is shown to be below the bar."""
        return self.p_short <= self.alpha and self.difference < self.bar

    @property
    def sentence(self) -> str:
        """The answer in plain English, with the evidence."""
        return (
            f"The challenger {self._verdict()}: {self._values()} "
            f"({self.test}, p = {self.p_value:.2g}, alpha = {self.alpha:g}).{self._need()}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, the outcome of the test and the sentence, for JSON."""
        return asdict(self) | {"passed": self.passed, "failed": self.failed, "sentence": self.sentence}

    def _verdict(self) -> str:
        size = 100 * abs(self.bar) if self.metric == "accuracy" else abs(self.bar)
        unit = "point" if self.metric == "accuracy" else "bit"
        amount = f"{size:g} {unit}{'' if size == 1 else 's'}"
        if self.bar < 0 and self.failed:
            return f"is shown to be worse than the {self.opponent} by more than {amount}"
        verdict = "is" if self.passed else "is shown not to be" if self.failed else "is not shown to be"
        if self.bar < 0:
            return f"{verdict} no worse than the {self.opponent}, but for a margin of {amount}"
        return f"{verdict} better than the {self.opponent}" + (f" by more than {amount}" if self.bar else "")

    def _values(self) -> str:
        if self.metric == "accuracy":
            points = [100 * value for value in (self.difference, self.low, self.high)]
            return (
                f"accuracy {self.challenger:.2%} against {self.reference:.2%} on the same {self.num_items:,} items, "
                f"a difference of {points[0]:+.2f} points (95 % interval {points[1]:+.2f} to {points[2]:+.2f})"
            )
        return (
            f"{self.challenger:.4f} against {self.reference:.4f} bits per character on the same {self.num_items:,} "
            f"characters, a saving of {self.difference:+.4f} (95 % interval {self.low:+.4f} to {self.high:+.4f})"
        )

    def _need(self) -> str:
        if self.passed or self.failed:
            return ""
        if self.items_needed is None:
            return " The difference measured is not above what is asked for: no number of test items would show it."
        noun = "items" if self.metric == "accuracy" else "characters"
        return (
            f" To show a difference of this size with a power of {POWER:g} takes about {_rounded(self.items_needed):,} "
            f"test {noun}."
        )


def compare_classifiers(
    reference_correct: ArrayLike,
    challenger_correct: ArrayLike,
    alpha: float = 0.05,
    bar: float = 0.0,
    seed: int = 1,
    bootstrap_samples: int = 10_000,
    opponent: Opponent = "champion",
) -> Comparison:
    """Exact one-sided test on which items each classifier got right: McNemar's where `bar` is 0.

    Both (N,) bool, item by item. bar: a fraction of the items, as in `Comparison`. The interval is the bootstrap's.
    Raises RegistryError where the items are not the same.
    """
    reference, challenger = _paired(reference_correct, challenger_correct, opponent)
    _require_truth_values(reference, challenger)
    num_items = len(reference)
    gained, lost = int((challenger > reference).sum()), int((challenger < reference).sum())
    resampled = bootstrap_counts([gained, lost, num_items - gained - lost], bootstrap_samples, seed)
    differences = (resampled[:, 0] - resampled[:, 1]) / num_items
    interval = percentile_interval((gained - lost) / num_items, differences, INTERVAL_CONFIDENCE)
    return Comparison(
        test="exact McNemar test" if bar == 0 else "exact unconditional test of a paired difference",
        metric="accuracy",
        opponent=opponent,
        num_items=num_items,
        reference=float(reference.mean()),
        challenger=float(challenger.mean()),
        difference=interval.value,
        low=interval.low,
        high=interval.high,
        p_value=paired_difference_p(gained, lost, num_items, bar, alpha),
        p_short=paired_difference_p(lost, gained, num_items, -bar, alpha),
        alpha=alpha,
        bar=bar,
        items_needed=paired_items_needed((gained + lost) / num_items, interval.value, bar, alpha, POWER),
    )


def compare_language_models(
    reference_nats: ArrayLike,
    challenger_nats: ArrayLike,
    alpha: float = 0.05,
    bar: float = 0.0,
    seed: int = 1,
    bootstrap_samples: int = 10_000,
    opponent: Opponent = "champion",
) -> Comparison:
    """Paired block-bootstrap t test on the bits that the challenger saves at each character.

    Both (N,) nats, character by character. bar: bits per character, as in `Comparison`; a bar of 0 is raised to
    `LEAST_SAVING`. Raises RegistryError where the items are not the same, DataError where a loss is infinite or no
    number.
    """
    reference, challenger = _paired(reference_nats, challenger_nats, opponent)
    blocks = BlockTest.of((reference - challenger) / NATS_PER_BIT, bootstrap_samples, seed)
    to_show = bar or LEAST_SAVING
    low, high = blocks.interval(INTERVAL_CONFIDENCE) if blocks.standard_error else (blocks.mean, blocks.mean)
    return Comparison(
        test="paired block-bootstrap t test",
        metric="bits_per_char",
        opponent=opponent,
        num_items=len(reference),
        reference=float(reference.mean()) / NATS_PER_BIT,
        challenger=float(challenger.mean()) / NATS_PER_BIT,
        difference=blocks.mean,
        low=low,
        high=high,
        p_value=blocks.p_above(to_show),
        p_short=blocks.p_below(bar),
        alpha=alpha,
        bar=bar,
        items_needed=blocks.values_needed(to_show, alpha, POWER),
    )


def _paired(reference: ArrayLike, challenger: ArrayLike, opponent: Opponent) -> tuple[FloatArray, FloatArray]:
    num_reference, num_challenger = np.size(reference), np.size(challenger)
    if num_reference != num_challenger or num_reference < 2:
        raise RegistryError(
            f"The frozen test items differ: the {opponent} was scored on {num_reference:,}, the challenger on "
            f"{num_challenger:,}; expected the same items, two or more. Score both again on one test split."
        )
    return require_finite(f"the {opponent}'s scores", reference), require_finite("the challenger's scores", challenger)


def _require_truth_values(*correctness: FloatArray) -> None:
    if not set(np.unique(correctness)) <= {0.0, 1.0}:
        raise RegistryError(
            "Correctness holds values other than true and false; expected, for each item, whether it was right. "
            "Compare the predictions with the labels first."
        )


def _rounded(number: int) -> int:
    """To two significant figures, upwards: more would promise too much."""
    step = int(10 ** max(len(str(number)) - 2, 0))
    return -(-number // step) * step
