from __future__ import annotations

import json
import math

import numpy as np
import pytest

from unroll.errors import DataError
from unroll.evaluation.language_modeling import evaluate_language_model, loss_per_position


def test_a_uniform_guess_over_eight_characters_costs_three_bits_exactly() -> None:
    report = evaluate_language_model(np.full(2_500, math.log(8), dtype=np.float32))
    assert report.num_characters == 2_500
    for name, value in (("nats_per_char", math.log(8)), ("bits_per_char", 3.0), ("perplexity", 8.0)):
        interval = report.metrics[name]
        assert interval.value == pytest.approx(value, rel=1e-6)
        assert interval.low == pytest.approx(value, rel=1e-6)
        assert interval.high == pytest.approx(value, rel=1e-6)


def test_the_three_scales_say_the_same() -> None:
    nats = np.random.default_rng(0).gamma(1.2, size=20_000)
    metrics = evaluate_language_model(nats).metrics
    for end in ("value", "low", "high"):
        in_nats = getattr(metrics["nats_per_char"], end)
        assert getattr(metrics["bits_per_char"], end) == pytest.approx(in_nats / math.log(2))
        # percentiles between two resamples are interpolated, and exp bends that line a little
        assert getattr(metrics["perplexity"], end) == pytest.approx(math.exp(in_nats), rel=1e-4)
    assert metrics["bits_per_char"].low < metrics["bits_per_char"].value < metrics["bits_per_char"].high


def test_the_excess_over_a_known_floor_is_paired() -> None:
    floor = np.random.default_rng(0).gamma(1.2, size=20_000)
    metrics = evaluate_language_model(1.1 * floor * math.log(2), exact_bits=floor).metrics
    excess = metrics["excess_over_floor"]
    assert metrics["floor_bits_per_char"].value == pytest.approx(floor.mean())
    assert [excess.low, excess.value, excess.high] == pytest.approx([0.1, 0.1, 0.1])


def test_without_a_known_floor_none_is_reported() -> None:
    assert set(evaluate_language_model([1.0, 2.0]).metrics) == {"nats_per_char", "bits_per_char", "perplexity"}


def test_a_hundred_thousand_characters_are_resampled_the_same_for_the_same_seed() -> None:
    nats = np.random.default_rng(0).gamma(1.2, size=110_000)
    first, again, other = (evaluate_language_model(nats, seed=seed).to_dict() for seed in (1, 1, 2))
    assert json.dumps(first, allow_nan=False) == json.dumps(again)
    assert first != other


@pytest.mark.parametrize("exact_bits", [[1.0], [0.0, 0.0], [-1.0, 2.0], [np.nan, 1.0]])
def test_a_floor_that_does_not_fit_the_text_is_refused(exact_bits: list[float]) -> None:
    with pytest.raises(DataError, match="exact_bits"):
        evaluate_language_model([1.0, 2.0], exact_bits=exact_bits)


@pytest.mark.parametrize("nats", [[], [np.inf, 1.0], [[1.0]]])
def test_losses_that_are_no_row_of_numbers_are_refused(nats: list[float]) -> None:
    with pytest.raises(DataError, match="nats_per_character"):
        evaluate_language_model(nats)


def test_the_cost_of_a_cold_start_shows_at_the_first_positions() -> None:
    generator = np.random.default_rng(0)
    cost = 1.2 + np.exp(-np.arange(40) / 5)
    losses = loss_per_position(cost * generator.gamma(4.0, 0.25, size=(500, 40)))
    assert losses.mean.shape == losses.low.shape == losses.high.shape == (40,)
    assert losses.low[0] > losses.high[20:].max()
    assert ((losses.low < cost) & (cost < losses.high)).mean() > 0.85


def test_a_single_window_has_a_mean_and_no_width() -> None:
    losses = loss_per_position([[1.0, 2.0]])
    assert losses.mean.tolist() == losses.low.tolist() == losses.high.tolist() == [1.0, 2.0]
