"""What paired measurements say: rates, their ratios within a round, medians and quartiles. No PyTorch in here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median, quantiles


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of some values, in their unit."""

    median: float
    low: float
    """Lower quartile."""
    high: float
    """Upper quartile."""

    def to_dict(self) -> dict[str, float]:
        """The three numbers by name, for JSON."""
        return asdict(self)


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles, the extremes counted as the 0 and 100 % points. Raises ValueError where there are none."""
    if not values:
        raise ValueError("There are no values to take a median of; expected one or more.")
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, _, high = quantiles(values, n=4, method="inclusive")
    return Spread(median(values), low, high)


def paired_ratios(values: Sequence[float], baseline: Sequence[float]) -> list[float]:
    """Each value over the baseline's of the same round: what both rounds share, a busy neighbour say, cancels.

    Raises ValueError where one has more rounds than the other.
    """
    return [value / base for value, base in zip(values, baseline, strict=True)]


@dataclass(frozen=True)
class Promise:
    """A ratio of two contestants, or a value of one, and what was asked of it."""

    what: str
    """The line in the table."""
    contestant: str
    against: str | None = None
    """The contestant it is divided by, within each round; None takes the contestant's own values."""
    at_least: float | None = None
    at_most: float | None = None

    def to_dict(self) -> dict[str, str | float | None]:
        """The fields by name, for JSON."""
        return asdict(self)

    def asked(self) -> str:
        """The bound in words; empty where nothing was asked."""
        bounds = (("at least", self.at_least), ("at most", self.at_most))
        return ", ".join(f"{word} {bound:g}" for word, bound in bounds if bound is not None)

    def kept_by(self, value: float) -> bool | None:
        """Whether a value is within the bounds; None where there are none."""
        if self.at_least is None and self.at_most is None:
            return None
        return not (
            (self.at_least is not None and value < self.at_least) or (self.at_most is not None and value > self.at_most)
        )
