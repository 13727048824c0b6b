"""Whether scored texts are still like those that the model was validated on.

A measure has drifted where it is past its bound *and* past what chance alone would give for so many texts:

- The distributions of lengths and scores by the population stability index, sum (q - p) ln(q / p) over bins that hold
  about a tenth of the reference each. Of two samples of one distribution it is about (1/n + 1/m) times a chi-squared
  variable of bins - 1 degrees of freedom (Yurdakul 2018, Statistical Properties of Population Stability Index), so
  few texts make it large by themselves.
- The unknown tokens per token and the bits per character by how much they rose, against Welch's interval with texts
  (passages), not tokens, as what is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unroll.config import DriftConfig
from unroll.sample_statistics import (
    BITS,
    LENGTH,
    LENGTH_EDGES,
    SCORE,
    SCORE_EDGES,
    UNKNOWN,
    RatioSums,
    SampleStatistics,
)

Verdict = Literal["none", "drifted", "not known"]

MOST_BINS = 10
SHARE = "share"
"""The unit of what is a share of all tokens or characters."""


@dataclass(frozen=True)
class Bins:
    """One distribution beside the reference's: shares of the texts, (B,) each."""

    upper: tuple[float | None, ...]
    """Where each bin ends: tokens, or a probability; None where it has no end."""
    reference: tuple[float, ...]
    found: tuple[float, ...]


@dataclass(frozen=True)
class Measure:
    """One thing that was compared."""

    name: str
    unit: str
    value: float
    """How far it is from the reference."""
    bound: float
    """The setting's."""
    chance: float
    """What chance alone passes as rarely as ``drift.false_alarms`` says, for so many texts."""
    found: float | None = None
    reference: float | None = None
    """Of a ratio: its values, which `value` is made of."""
    bins: Bins | None = None

    @property
    def drifted(self) -> bool:
        """Whether it is past its bound and past chance."""
        return bool(self.value > max(self.bound, self.chance))

    def in_words(self) -> str:
        """Such as ``stability index of length 0.43 (bound 0.2)``."""
        number = "{:.2%}" if self.unit == SHARE else "{:.3g}"
        bound = f"bound {number.format(self.bound)}"
        if self.chance > self.bound:
            bound += f", {number.format(self.chance)} for so few"
        if self.found is None or self.reference is None:
            return f"{self.unit} of {self.name} {self.value:.3f} ({bound})"
        found, reference = number.format(self.found), number.format(self.reference)
        return f"{self.name} {found}, in validation {reference} ({bound} more)"


@dataclass(frozen=True)
class DriftReport:
    """What the comparison found."""

    verdict: Verdict
    reason: str
    """One sentence."""
    count: int
    """Texts or passages that were scored."""
    reference_count: int
    measures: tuple[Measure, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        measures = [asdict(measure) | {"drifted": measure.drifted} for measure in self.measures]
        return asdict(self) | {"measures": measures}


def compare(reference: SampleStatistics | None, found: SampleStatistics, config: DriftConfig) -> DriftReport:
    """Hold what was scored against a model's reference; ``reference`` is None for a model that has none."""
    if reference is None or not reference.count:
        reason = "the model was registered without a reference (made before there were any); train it anew to have one"
        return DriftReport("not known", reason, found.count, 0)
    least = min(reference.count, found.count)
    if least < config.least_count:
        whose = "were scored" if found.count == least else "stand behind the model's reference"
        reason = f"only {least:,} {_unit(found)} {whose}, and drift.least_count is {config.least_count:,}"
        return DriftReport("not known", reason, found.count, reference.count)
    measures = tuple(_measures(reference, found, config))
    drifted = [measure for measure in measures if measure.drifted]
    said = "; ".join(measure.in_words() for measure in drifted or measures)
    reason = f"{'past the bound: ' if drifted else 'within the bounds: '}{said}"
    return DriftReport("drifted" if drifted else "none", reason, found.count, reference.count, measures)


def _measures(reference: SampleStatistics, found: SampleStatistics, config: DriftConfig) -> list[Measure]:
    measures = []
    for name, theirs in reference.ratios.items():
        ours = found.ratios[name]
        if name == BITS:
            bound = config.bits_rise * theirs.value
            measures.append(_rise("bits per character", "bits", theirs, ours, bound, config.false_alarms))
        elif name == UNKNOWN:
            what = "unknown characters" if BITS in reference.ratios else "unknown tokens"
            measures.append(_rise(what, SHARE, theirs, ours, config.unknown_rise, config.false_alarms))
    for name, expected in reference.histograms.items():
        measures.append(_stability(name, expected, found.histograms[name], config))
    return measures


def _rise(name: str, unit: str, reference: RatioSums, found: RatioSums, bound: float, false_alarms: float) -> Measure:
    from scipy import stats

    variances = np.array([reference.standard_error**2, found.standard_error**2])
    chance = 0.0
    if variances.sum() > 0:
        # Welch and Satterthwaite's degrees of freedom
        freedom = variances.sum() ** 2 / (variances**2 / (np.array([reference.count, found.count]) - 1)).sum()
        chance = float(stats.t.isf(false_alarms, freedom)) * math.sqrt(float(variances.sum()))
    return Measure(name, unit, found.value - reference.value, bound, chance, found.value, reference.value)


def _stability(name: str, reference: Mapping[int, int], found: Mapping[int, int], config: DriftConfig) -> Measure:
    from scipy import stats

    last_bins = _choose_bins(reference)
    expected, observed = _counts(reference, last_bins), _counts(found, last_bins)
    freedom = max(len(last_bins) - 1, 1)
    chance = float(stats.chi2.isf(config.false_alarms, freedom) * (1 / expected.sum() + 1 / observed.sum()))
    bins = Bins(
        _upper_edges(name, last_bins),
        tuple(float(share) for share in expected / expected.sum()),
        tuple(float(share) for share in observed / observed.sum()),
    )
    words = f"score of {name.removeprefix(SCORE)}" if name.startswith(SCORE) else name
    value = population_stability_index(expected, observed)
    return Measure(words, "stability index", value, config.stability_index, chance, bins=bins)


def population_stability_index(expected: NDArray[np.int64], observed: NDArray[np.int64]) -> float:
    """Of counts in the same bins, (B,) each; half a text is added to every bin, so that an empty one stays finite."""
    from scipy.special import rel_entr

    p, q = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (expected, observed))
    return float((rel_entr(p, q) + rel_entr(q, p)).sum())


def _choose_bins(reference: Mapping[int, int]) -> list[int]:
    """The last fine bin of each bin that holds a MOST_BINS-th of the reference or more; the last one is open."""
    total, held, last_bins = sum(reference.values()), 0, list[int]()
    for fine, count in sorted(reference.items()):
        held += count
        if held * MOST_BINS >= total:
            last_bins.append(fine)
            held = 0
    if held and last_bins:  # what is left over is too little for a bin of its own
        last_bins[-1] = max(reference)
    return last_bins


def _counts(histogram: Mapping[int, int], last_bins: list[int]) -> NDArray[np.int64]:
    counts = np.zeros(len(last_bins), np.int64)
    for fine, count in histogram.items():
        counts[min(int(np.searchsorted(last_bins, fine)), len(last_bins) - 1)] += count
    return counts


def _upper_edges(name: str, last_bins: list[int]) -> tuple[float | None, ...]:
    ends = [(LENGTH_EDGES if name == LENGTH else SCORE_EDGES)[last + 1] for last in last_bins[:-1]]
    if name != LENGTH:
        ends = [1.0 / (1.0 + math.exp(-end)) for end in ends]
    return (*map(float, ends), None)


def _unit(found: SampleStatistics) -> str:
    return "passages" if BITS in found.ratios else "texts"
