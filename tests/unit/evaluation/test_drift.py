"""Drift: samples of one distribution are rarely told apart, however small; real changes are, and are named."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unroll.config import DriftConfig
from unroll.evaluation.drift import compare, population_stability_index
from unroll.evaluation.drift_plot import drift_bars
from unroll.evaluation.plots import save
from unroll.sample_statistics import (
    SampleStatistics,
    add_up,
    count_passages,
    count_reviews,
)

CONFIG = DriftConfig()
NAMES = ("negative", "positive")


def draw_reviews(
    chance: np.random.Generator, count: int, unknown: float = 0.01, longer: float = 1.0, surer: float = 0.0
) -> SampleStatistics:
    """Reviews as they come: log-normal lengths, unknown words that crowd in some texts, answers near 0 and 1."""
    lengths = np.clip(np.round(longer * chance.lognormal(4.5, 0.6, count)), 1, 400).astype(np.int64)
    missing = chance.binomial(lengths, chance.beta(1, 1 / unknown - 1, count))
    logits = chance.choice([-1, 1], count) * chance.normal(4, 2.5, count) + surer
    probs = 1 / (1 + np.exp(-logits))
    return count_reviews(lengths, missing, np.stack([1 - probs, probs], axis=1), NAMES)


def draw_passages(
    chance: np.random.Generator, count: int, harder: float = 1.0, unknown: float = 0.001
) -> SampleStatistics:
    sizes = np.full(count, 500)
    return count_passages(500 * harder * chance.normal(1.9, 0.25, count), sizes, chance.binomial(500, unknown, count))


@pytest.mark.parametrize("draw", [draw_reviews, draw_passages])
@pytest.mark.parametrize(("reference", "count"), [(50, 50), (50, 5_000), (600, 50), (600, 600), (2_500, 100)])
def test_samples_of_one_distribution_alarm_rarely(draw, reference: int, count: int) -> None:  # type: ignore[no-untyped-def]
    chance = np.random.default_rng(reference + count)
    alarms = [compare(draw(chance, reference), draw(chance, count), CONFIG).verdict == "drifted" for _ in range(150)]
    # three measures at one in a thousand each: five or more of 150 would come about once in 10,000 runs
    assert sum(alarms) < 5


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"unknown": 0.06}, "unknown tokens"),
        ({"longer": 2.0}, "length"),
        ({"surer": 3.0}, "score of positive"),
    ],
)
def test_what_changed_is_named_and_nothing_else(changed: dict[str, float], named: str) -> None:
    chance = np.random.default_rng(3)
    report = compare(draw_reviews(chance, 600), draw_reviews(chance, 1_000, **changed), CONFIG)
    assert report.verdict == "drifted"
    assert [measure.name for measure in report.measures if measure.drifted] == [named]
    assert named in report.reason


def test_a_harder_text_drifts_by_its_bits_and_foreign_letters_by_their_share() -> None:
    chance = np.random.default_rng(4)
    reference = draw_passages(chance, 100)
    harder = compare(reference, draw_passages(chance, 200, harder=1.2), CONFIG)
    assert [measure.name for measure in harder.measures if measure.drifted] == ["bits per character"]
    assert compare(reference, draw_passages(chance, 200, harder=1.03), CONFIG).verdict == "none"
    assert compare(reference, draw_passages(chance, 200, harder=0.7), CONFIG).verdict == "none"  # easier is no harm
    foreign = compare(reference, draw_passages(chance, 200, unknown=0.05), CONFIG)
    assert [measure.name for measure in foreign.measures if measure.drifted] == ["unknown characters"]


def test_without_a_reference_or_with_too_few_texts_drift_is_not_known_in_words() -> None:
    chance = np.random.default_rng(5)
    many, few = draw_reviews(chance, 600), draw_reviews(chance, 49, unknown=0.5)
    assert compare(None, many, CONFIG).verdict == "not known"
    assert "without a reference" in compare(None, many, CONFIG).reason
    for report in (compare(many, few, CONFIG), compare(few, many, CONFIG), compare(many, SampleStatistics(), CONFIG)):
        assert report.verdict == "not known"
        assert "least_count is 50" in report.reason
    assert "49 texts were scored" in compare(many, few, CONFIG).reason
    assert "49 texts stand behind" in compare(few, many, CONFIG).reason


def test_bounds_are_the_settings() -> None:
    chance = np.random.default_rng(6)
    reference, found = draw_reviews(chance, 2_000), draw_reviews(chance, 2_000, longer=1.4)
    value = next(measure.value for measure in compare(reference, found, CONFIG).measures if measure.name == "length")
    for bound, verdict in ((value * 0.9, "drifted"), (value * 1.1, "none")):
        assert compare(reference, found, DriftConfig(stability_index=bound)).verdict == verdict


def test_the_index_is_zero_of_equals_and_symmetric() -> None:
    counts, others = np.array([10, 20, 30]), np.array([30, 20, 10])
    assert population_stability_index(counts, counts) == 0
    assert population_stability_index(counts, others) == pytest.approx(population_stability_index(others, counts))
    shares = (counts + 0.5) / 61.5, (others + 0.5) / 61.5
    by_hand = float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
    assert population_stability_index(counts, others) == pytest.approx(by_hand)


@given(cuts=st.lists(st.integers(0, 200), max_size=5), seed=st.integers(0, 1_000))
def test_parts_add_up_to_the_whole(cuts: list[int], seed: int) -> None:
    chance = np.random.default_rng(seed)
    lengths = chance.integers(1, 3_000_000, 200)
    unknown = chance.binomial(lengths, 0.01)
    probs = chance.dirichlet(np.ones(3), 200)
    names = ("a", "b", "c")
    edges = [0, *sorted(cuts), 200]
    parts = [
        count_reviews(lengths[start:stop], unknown[start:stop], probs[start:stop], names)
        for start, stop in itertools.pairwise(edges)
    ]
    whole = count_reviews(lengths, unknown, probs, names)
    total = add_up(SampleStatistics.from_dict(json.loads(part.to_json())) for part in parts)
    assert total.histograms == whole.histograms
    assert total.count == whole.count == 200
    assert total.ratios["unknown"].value == pytest.approx(whole.ratios["unknown"].value)
    assert total.ratios["unknown"].standard_error == pytest.approx(whole.ratios["unknown"].standard_error)


def test_the_error_of_a_ratio_is_that_of_texts_not_of_tokens() -> None:
    chance = np.random.default_rng(7)
    values, errors = [], []
    for _ in range(400):
        ratio = draw_reviews(chance, 200).ratios["unknown"]
        values.append(ratio.value)
        errors.append(ratio.standard_error)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.15)
    assert math.isinf(replace(ratio, count=1).standard_error)


def test_a_foreign_format_is_refused() -> None:
    with pytest.raises(ValueError, match="format 99"):
        SampleStatistics.from_dict({**SampleStatistics().to_dict(), "format": 99})


def test_the_figure_has_a_panel_for_each_distribution(tmp_path: Path) -> None:
    chance = np.random.default_rng(8)
    report = compare(draw_reviews(chance, 600), draw_reviews(chance, 1_000, longer=2), CONFIG)
    figure = drift_bars(report)
    assert [axes.get_title().split(":")[0] for axes in figure.axes] == ["length", "score of positive"]
    assert "drifted" in figure.axes[0].get_title()
    save(figure, tmp_path / "drift.png")
    assert (tmp_path / "drift.png").stat().st_size > 5_000
