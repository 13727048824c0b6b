from __future__ import annotations

import numpy as np
import pytest

from unroll.errors import DataError
from unroll.evaluation.intervals import (
    Interval,
    bootstrap_block_means,
    bootstrap_counts,
    bootstrap_items,
    choose_block_length,
    percentile_interval,
    require_finite,
)


def test_an_interval_covers_the_true_accuracy_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(400):
        right = generator.binomial(500, 0.85)
        resampled = bootstrap_counts([right, 500 - right], 400, seed=trial)[:, 0] / 500
        interval = percentile_interval(right / 500, resampled, confidence=0.9)
        covered += interval.low <= 0.85 <= interval.high
    assert 0.85 <= covered / 400 <= 0.95


def test_counts_and_items_give_the_same_spread() -> None:
    right = np.arange(800) < 600
    by_items = bootstrap_items(800, lambda items: right[items].mean(), 1_500, seed=1)
    by_counts = bootstrap_counts([600, 200], 1_500, seed=1)[:, 0] / 800
    exact = np.sqrt(0.75 * 0.25 / 800)
    assert by_items.std() == pytest.approx(exact, rel=0.08)
    assert by_counts.std() == pytest.approx(exact, rel=0.08)


def test_resampled_counts_keep_their_shape_and_their_sum() -> None:
    resampled = bootstrap_counts([[5, 0], [3, 4]], 50, seed=1)
    assert resampled.shape == (50, 2, 2)
    assert (resampled.sum(axis=(1, 2)) == 12).all()
    assert (resampled[:, 0, 1] == 0).all()


def test_blocks_see_the_dependence_that_single_characters_hide() -> None:
    noise = np.random.default_rng(0).normal(size=60_000)
    dependent = np.convolve(noise, np.ones(50) / 50, mode="same")
    as_blocks = bootstrap_block_means(dependent, 800, seed=1).std()
    as_if_independent = dependent.std() / np.sqrt(len(dependent))
    # the long-run standard error of a moving average is that of its noise
    assert as_blocks == pytest.approx(1 / np.sqrt(60_000), rel=0.35)
    assert as_blocks > 4 * as_if_independent


def test_block_means_centre_on_the_mean_and_keep_columns_paired() -> None:
    series = np.random.default_rng(0).gamma(2.0, size=9_000)
    means = bootstrap_block_means(np.stack([series, 2 * series], axis=1), 1_000, seed=1)
    assert means.shape == (1_000, 2)
    np.testing.assert_allclose(means[:, 1], 2 * means[:, 0])
    assert means[:, 0].mean() == pytest.approx(series.mean(), abs=4 * means[:, 0].std() / np.sqrt(1_000))


@pytest.mark.parametrize(("num_values", "length"), [(1, 1), (50, 1), (3_000, 100), (110_000, 1_000), (10**8, 5_000)])
def test_block_length_leaves_neither_too_few_nor_too_many_blocks(num_values: int, length: int) -> None:
    assert choose_block_length(num_values) == length


def test_the_same_seed_gives_the_same_resamples_and_another_gives_others() -> None:
    values = np.random.default_rng(0).normal(size=5_000)
    first, again, other = (bootstrap_block_means(values, 100, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_undefined_resamples_are_left_out() -> None:
    assert percentile_interval(0.5, [np.nan, 0.4, 0.6, np.nan], 0.9999).high == pytest.approx(0.6, abs=1e-3)
    assert percentile_interval(0.5, [np.nan], 0.95) == Interval(0.5, 0.5, 0.5)


@pytest.mark.parametrize("values", [[], [1.0, np.nan], [np.inf], [[1.0]]])
def test_values_that_are_no_row_of_numbers_are_refused(values: list[float]) -> None:
    with pytest.raises(DataError, match="nats"):
        require_finite("nats", values)
