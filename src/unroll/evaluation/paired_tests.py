"""One-sided tests on paired outcomes, and the power that they have: pure functions of counts and series.

Each asks whether a mean difference is above a bar. `bar` is 0 for "better", positive for "better by more than this",
negative for "no worse than by this" (non-inferiority).

Right or wrong, item by item: only items that one classifier got right and the other wrong ("discordant") speak. With a
bar of 0 each of them falls to either side like a coin: McNemar's test, exact by the binomial distribution. With another
bar the coin's bias depends on how many items are discordant, which nobody knows: an exact unconditional test takes the
largest p-value over the rates that the data leave possible (Berger and Boos, "P values maximized over a confidence set
for the nuisance parameter", 1994).

Losses, character by character: they depend on their neighbours, so long blocks are resampled, and the mean is divided
by its own standard error in each resample (Götze and Künsch, "Second-order correctness of the blockwise bootstrap for
stationary observations", 1996). So the test knows that it judges by few blocks, and the blocks can be as long as the
text allows: dependence that fades within a block is accounted for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from unroll.evaluation.intervals import FloatArray, bootstrap_block_t

LEFT_OUT = 1 / 1_000
"""Share of alpha that is spent on discordant rates outside the confidence set."""
RATES_TRIED = 31
NUM_BLOCKS = 12
"""Of a text. Long blocks keep the level: of 2,181 simulated gates between equal models, whose losses depended on each
other over hundreds of 60,000 characters, 5.0 % passed at alpha = 0.05 with 12 blocks, 6.0 % with 30. They cost power:
Student's t with 11 degrees of freedom asks for 1.80 standard errors, with 29 for 1.70."""
MOST_SHIFT = 1e4
"""Standard errors at which any test has power; two blocks alone ask for thousands at a small alpha."""
NEGLIGIBLE = 1e-10
"""Probability of the numbers of discordant items that are not summed over."""
MOST_ITEMS_SUMMED = 100_000
"""For more items than this, their number comes from the normal approximation, by now as good."""


def mcnemar_p(gained: int, lost: int) -> float:
    """P-value of `gained` wins or more among the discordant items, were each a fair coin (McNemar 1947)."""
    from scipy.stats import binomtest

    return float(binomtest(gained, gained + lost, 0.5, alternative="greater").pvalue) if gained + lost else 1.0


def paired_difference_p(gained: int, lost: int, num_items: int, bar: float, alpha: float) -> float:
    """P-value of the null that the difference in accuracy is `bar` or less: exact for any number of items.

    gained, lost: items that only the challenger, only the reference got right. -1 < bar < 1. It is McNemar's where
    `bar` is 0, and else never below alpha / 1000, which a test at level `alpha` does not notice.
    """
    from scipy.stats import binomtest

    if bar == 0:
        return mcnemar_p(gained, lost)
    discordant = gained + lost
    statistic = float(_statistics(gained - lost, np.asarray([discordant]), num_items, bar)[0])
    left_out = alpha * LEFT_OUT
    bounds = binomtest(discordant, num_items).proportion_ci(1 - left_out, method="exact")
    # a loss of the margin or more takes that many discordant items
    low, high = (max(bound, -bar) for bound in bounds)
    tails = [
        _tail(num_items, rate, bar, lambda counts: _fewest_wins(counts, num_items, bar, statistic))
        for rate in np.linspace(low, high, RATES_TRIED)
    ]
    return min(1.0, max(tails) + left_out)


def paired_difference_power(
    num_items: int, discordant_rate: float, difference: float, bar: float, alpha: float
) -> float:
    """Probability that the test on `num_items` items finds p <= alpha.

    discordant_rate, difference: the true share of discordant items and the true difference, |difference| <= rate.
    Summed over the exact distribution of the counts; with a bar other than 0 the test's critical value is taken to be
    the normal one.
    """
    from scipy.stats import binom, norm

    def fewest_wins(counts: FloatArray) -> FloatArray:
        if bar == 0:
            return np.asarray(binom.isf(alpha, counts, 0.5) + 1)
        return _fewest_wins(counts, num_items, bar, float(norm.isf(alpha)))

    return _tail(num_items, discordant_rate, difference, fewest_wins)


def paired_items_needed(
    discordant_rate: float, difference: float, bar: float, alpha: float, power: float
) -> int | None:
    """Fewest items on which the test has this power; None where the difference is not above the bar.

    It starts from the normal approximation (Connor, "Sample size for testing differences in proportions for the
    paired-sample design", 1987) and goes on with the exact power.
    """
    from scipy.stats import norm

    excess = difference - bar
    if excess <= 0:
        return None
    spread_at_bar = math.sqrt(max(discordant_rate, abs(bar)) - bar**2)
    spread = math.sqrt(max(discordant_rate - difference**2, 0.0))
    deviations = float(norm.isf(alpha) * spread_at_bar + norm.isf(1 - power) * spread)
    approximation = math.ceil((deviations / excess) ** 2)
    if approximation > MOST_ITEMS_SUMMED:
        return approximation
    return _fewest(
        lambda number: paired_difference_power(number, discordant_rate, difference, bar, alpha) >= power, approximation
    )


@dataclass(frozen=True)
class BlockTest:
    """The mean of a dependent series against its own resamples."""

    mean: float
    standard_error: float
    t: FloatArray
    """(S,) resampled means less the mean, each in standard errors of its resample."""
    num_values: int
    num_blocks: int

    @classmethod
    def of(cls, values: FloatArray, bootstrap_samples: int, seed: int) -> BlockTest:
        """Resample a series (N,), N >= 2."""
        length = max(1, len(values) // NUM_BLOCKS)
        standard_error, t = bootstrap_block_t(values, length, bootstrap_samples, seed)
        return cls(float(values.mean()), standard_error, t, len(values), round(len(values) / length))

    def p_above(self, bar: float) -> float:
        """P-value of the null that the true mean is `bar` or less."""
        return self._p(self.mean - bar, self.t)

    def p_below(self, bar: float) -> float:
        """P-value of the null that the true mean is `bar` or more."""
        return self._p(bar - self.mean, -self.t)

    def interval(self, confidence: float) -> tuple[float, float]:
        """Ends of the bootstrap-t interval (Efron and Tibshirani 1993, section 12.5)."""
        tail = (1.0 - confidence) / 2.0
        low, high = np.quantile(self.t, [tail, 1.0 - tail])
        return float(self.mean - high * self.standard_error), float(self.mean - low * self.standard_error)

    def values_needed(self, bar: float, alpha: float, power: float) -> int | None:
        """Length of series at which the test has this power, were the true mean the measured one.

        The variance of the mean falls as the series grows. None where the mean is not above the bar.
        """
        from scipy.optimize import brentq

        if self.mean <= bar:
            return None
        enough = float(brentq(lambda shift: block_test_power(shift, self.num_blocks, alpha) - power, 0.0, MOST_SHIFT))
        return max(2, math.ceil(self.num_values * (enough * self.standard_error / (self.mean - bar)) ** 2))

    def _p(self, excess: float, t: FloatArray) -> float:
        if self.standard_error == 0:
            reached = 0 if excess > 0 else len(t)
        else:
            reached = int((t >= excess / self.standard_error).sum())
        return (1 + reached) / (1 + len(t))


def block_test_power(shift: float, num_blocks: int, alpha: float) -> float:
    """Probability that a one-sided t test on independent blocks finds p <= alpha.

    shift: the true mean's distance from the bar, in standard errors of the mean.
    """
    from scipy.stats import nct, t

    freedom = num_blocks - 1
    return float(nct.sf(t.isf(alpha, freedom), freedom, shift))


def _statistics(net_wins: int, discordant: FloatArray, num_items: int, bar: float) -> FloatArray:
    """Net wins less what the bar makes expected, in standard deviations under the bar."""
    return np.asarray((net_wins - num_items * bar) / _deviations(discordant, num_items, bar))


def _fewest_wins(discordant: FloatArray, num_items: int, bar: float, statistic: float) -> FloatArray:
    """For each number of discordant items, the fewest wins at which the statistic is reached."""
    net_wins = num_items * bar + statistic * _deviations(discordant, num_items, bar)
    return np.asarray(np.ceil((discordant + net_wins) / 2 - 1e-7))


def _deviations(discordant: FloatArray, num_items: int, bar: float) -> FloatArray:
    # no fewer items can be discordant than a difference of the bar makes so
    rates = np.maximum(discordant / num_items, abs(bar))
    return np.asarray(np.sqrt(num_items * (rates - bar**2)))


def _tail(
    num_items: int, discordant_rate: float, difference: float, fewest_wins: Callable[[FloatArray], FloatArray]
) -> float:
    """Probability of the fewest wins or more, summed over the numbers of discordant items."""
    from scipy.stats import binom

    first = binom.ppf(NEGLIGIBLE, num_items, discordant_rate)
    last = binom.isf(NEGLIGIBLE, num_items, discordant_rate)
    counts = np.arange(max(first, 0), last + 1)
    win_share = 0.5 if discordant_rate == 0 else min(1.0, max(0.0, (1 + difference / discordant_rate) / 2))
    chances = binom.pmf(counts, num_items, discordant_rate)
    return float(chances @ binom.sf(fewest_wins(counts) - 1, counts, win_share))


def _fewest(suffices: Callable[[int], bool], guess: int) -> int:
    """The number from which on something suffices, by bisection; `guess` is near it."""
    high = max(guess, 1)
    while not suffices(high):
        high *= 2
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high
