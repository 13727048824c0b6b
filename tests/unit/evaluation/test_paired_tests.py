from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, norm
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.power import TTestPower

from unroll.evaluation.paired_tests import (
    BlockTest,
    block_test_power,
    mcnemar_p,
    paired_difference_p,
    paired_difference_power,
    paired_items_needed,
)


@given(gained=st.integers(0, 400), lost=st.integers(0, 400))
def test_mcnemar_is_that_of_statsmodels(gained: int, lost: int) -> None:
    two_sided = float(mcnemar([[50, gained], [lost, 50]], exact=True).pvalue)
    smaller_tail = min(mcnemar_p(gained, lost), mcnemar_p(lost, gained))
    assert min(1.0, 2 * smaller_tail) == pytest.approx(two_sided)


@pytest.mark.parametrize("bar", [-0.03, -0.01, 0.01, 0.03])
def test_the_test_against_a_bar_is_the_score_test_where_items_are_many(bar: float) -> None:
    num_items, discordant = 20_000, 2_000
    for net_wins in (0, 150, 260, 320):
        difference, rate = net_wins / num_items, discordant / num_items
        score = (difference - bar) * np.sqrt(num_items / (rate - bar**2))
        p_value = paired_difference_p((discordant + net_wins) // 2, (discordant - net_wins) // 2, num_items, bar, 0.05)
        assert p_value == pytest.approx(norm.sf(score), abs=0.004)


@pytest.mark.parametrize(("num_items", "rate", "bar"), [(60, 0.2, 0.05), (60, 0.1, -0.05), (200, 0.05, -0.02)])
def test_at_the_bar_the_exact_chance_of_passing_is_at_most_alpha(num_items: int, rate: float, bar: float) -> None:
    # every outcome with its probability, not a simulation
    chance = 0.0
    for discordant in range(int(binom.isf(1e-6, num_items, rate)) + 1):
        passed = [
            paired_difference_p(gained, discordant - gained, num_items, bar, 0.05) <= 0.05
            for gained in range(discordant + 1)
        ]
        fewest = passed.index(True) if True in passed else discordant + 1
        wins = binom.sf(fewest - 1, discordant, (1 + bar / rate) / 2)
        chance += float(binom.pmf(discordant, num_items, rate) * wins)
    assert 0.01 < chance <= 0.05


@given(gained=st.integers(0, 60), lost=st.integers(1, 60), bar=st.sampled_from([-0.05, 0.05]))
@settings(max_examples=30)
def test_a_loss_turned_into_a_win_never_raises_the_p_value(gained: int, lost: int, bar: float) -> None:
    fewer = paired_difference_p(gained, lost, 200, bar, 0.05)
    more = paired_difference_p(gained + 1, lost - 1, 200, bar, 0.05)
    assert 0 <= more <= fewer <= 1


def test_models_that_agree_everywhere_are_shown_to_be_no_worse_only_on_enough_items() -> None:
    # a loss of one item in a hundred would have shown up among 600, but perhaps not among 100
    assert paired_difference_p(0, 0, 100, -0.01, 0.05) == pytest.approx(0.99**100, abs=1e-4)
    assert paired_difference_p(0, 0, 600, -0.01, 0.05) < 0.05
    assert paired_difference_p(0, 0, 600, 0.01, 0.05) == 1.0
    assert paired_difference_p(0, 0, 600, 0.0, 0.05) == 1.0


@pytest.mark.parametrize("bar", [-0.01, 0.0, 0.01])
def test_the_items_asked_for_have_the_power_and_hardly_more_than_needed(bar: float) -> None:
    needed = paired_items_needed(0.1, 0.02, bar, 0.05, 0.8)
    assert needed is not None
    assert 0.8 <= paired_difference_power(needed, 0.1, 0.02, bar, 0.05) < 0.81
    assert paired_difference_power(int(0.9 * needed), 0.1, 0.02, bar, 0.05) < 0.79
    # Connor's formula, of which the exact number is a few per cent above
    formula = (norm.isf(0.05) * np.sqrt(0.1 - bar**2) + norm.isf(0.2) * np.sqrt(0.1 - 0.02**2)) ** 2 / (0.02 - bar) ** 2
    assert needed == pytest.approx(formula, rel=0.06)


def test_no_number_of_items_shows_a_gain_that_is_not_there() -> None:
    assert paired_items_needed(0.1, 0.0, 0.0, 0.05, 0.8) is None
    assert paired_items_needed(0.1, 0.01, 0.01, 0.05, 0.8) is None
    assert paired_items_needed(0.1, -0.01, 0.0, 0.05, 0.8) is None
    assert paired_items_needed(0.1, -0.005, -0.01, 0.05, 0.8) is not None


def test_a_gain_too_small_to_sum_over_gets_the_normal_number() -> None:
    needed = paired_items_needed(0.1, 1e-5, 0.0, 0.05, 0.8)
    assert needed == pytest.approx(((norm.isf(0.05) + norm.isf(0.2)) / 1e-5) ** 2 * 0.1, rel=1e-4)


@pytest.mark.parametrize("effect", [0.05, 0.3, 1.5])
@pytest.mark.parametrize("num_blocks", [2, 30, 400])
def test_the_power_of_blocks_is_that_of_statsmodels(effect: float, num_blocks: int) -> None:
    expected = TTestPower().power(effect_size=effect, nobs=num_blocks, alpha=0.05, alternative="larger")
    assert block_test_power(effect * np.sqrt(num_blocks), num_blocks, 0.05) == pytest.approx(float(expected), abs=1e-6)


def test_the_characters_asked_for_are_those_of_statsmodels() -> None:
    blocks = BlockTest(mean=0.004, standard_error=0.003, t=np.zeros(1), num_values=50_000, num_blocks=30)
    effect = TTestPower().solve_power(nobs=30, alpha=0.05, power=0.8, alternative="larger")
    expected = 50_000 * (effect * np.sqrt(30) * 0.003 / 0.004) ** 2
    assert blocks.values_needed(0.0, 0.05, 0.8) == pytest.approx(expected, rel=1e-4)
    assert blocks.values_needed(0.004, 0.05, 0.8) is None
    assert blocks.values_needed(0.01, 0.05, 0.8) is None


def test_blocks_of_independent_values_spread_as_their_variance_says() -> None:
    values = np.random.default_rng(0).normal(loc=0.3, size=100_000)
    blocks = BlockTest.of(values, 2_000, seed=1)
    assert blocks.standard_error == pytest.approx(1 / np.sqrt(100_000), rel=0.5)
    low, high = blocks.interval(0.95)
    assert low < 0.3 < high
    assert (high - low) == pytest.approx(2 * 2.2 * blocks.standard_error, rel=0.1)
    assert blocks.p_above(0.25) < 0.01
    assert blocks.p_below(0.35) < 0.01
    assert blocks.p_above(blocks.mean) == pytest.approx(0.5, abs=0.06)


def test_a_series_without_any_spread_is_above_a_bar_or_is_not() -> None:
    blocks = BlockTest.of(np.zeros(5_000), 100, seed=1)
    assert blocks.standard_error == 0
    assert blocks.p_above(-0.1) == pytest.approx(1 / 101)
    assert blocks.p_above(0.0) == blocks.p_above(0.1) == 1.0
