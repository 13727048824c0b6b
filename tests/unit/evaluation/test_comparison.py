from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import binom

from unroll.errors import DataError, RegistryError, UnrollError
from unroll.evaluation.comparison import compare_classifiers, compare_language_models

NUM_GATES = 400
# three standard errors of a share of 400 trials about 0.05
MOST_PASSED = 0.05 + 3 * np.sqrt(0.05 * 0.95 / NUM_GATES)


def make_correctness(champion: float, challenger: float, generator: np.random.Generator) -> tuple:
    """2,000 items; both models find the same ones hard, as trained models do."""
    hardness = generator.random(2_000)
    noise = generator.normal(scale=0.1, size=(2, 2_000))
    return hardness + noise[0] < champion, hardness + noise[1] < challenger


def make_nats(saving: float, generator: np.random.Generator, size: int = 6_000) -> tuple[np.ndarray, np.ndarray]:
    """Losses whose differences hang together over some 20 characters."""
    text = generator.gamma(1.3, size=size)
    drift = np.convolve(generator.normal(scale=0.5, size=size), np.ones(20) / 20, mode="same")
    return text + drift, text - saving


def test_an_equal_classifier_passes_the_gate_no_more_often_than_alpha() -> None:
    generator = np.random.default_rng(0)
    pairs = (make_correctness(0.9, 0.9, generator) for _ in range(NUM_GATES))
    passed = [compare_classifiers(*pair, alpha=0.05, bootstrap_samples=50).passed for pair in pairs]
    assert 0 < np.mean(passed) <= MOST_PASSED


def test_an_equal_language_model_passes_the_gate_no_more_often_than_alpha() -> None:
    generator = np.random.default_rng(0)
    pairs = (make_nats(0.0, generator) for _ in range(NUM_GATES))
    passed = [compare_language_models(*pair, alpha=0.05, bootstrap_samples=300).passed for pair in pairs]
    assert 0 < np.mean(passed) <= MOST_PASSED


def test_a_clearly_better_classifier_passes_and_the_worse_one_does_not() -> None:
    champion, challenger = make_correctness(0.85, 0.90, np.random.default_rng(0))
    forward, backward = compare_classifiers(champion, challenger), compare_classifiers(challenger, champion)
    assert forward.passed
    assert forward.low > 0
    assert not backward.passed
    assert backward.p_value > 0.99
    assert backward.difference == pytest.approx(-forward.difference)


def test_a_clearly_better_language_model_passes_and_the_worse_one_does_not() -> None:
    champion, challenger = make_nats(0.05, np.random.default_rng(0))
    forward, backward = compare_language_models(champion, challenger), compare_language_models(challenger, champion)
    assert forward.passed
    assert forward.difference == pytest.approx(0.05 / np.log(2), abs=0.03)
    assert forward.low < forward.difference < forward.high
    assert not backward.passed
    assert backward.p_value > 0.99


def test_the_p_value_is_the_binomial_tail_over_discordant_items() -> None:
    champion = np.asarray([True] * 50 + [False] * 9 + [True] * 3)
    challenger = np.asarray([True] * 50 + [True] * 9 + [False] * 3)
    comparison = compare_classifiers(champion, challenger)
    assert comparison.p_value == pytest.approx(binom.sf(8, 12, 0.5))
    assert comparison.difference == pytest.approx(6 / 62)


@pytest.mark.parametrize("bar", [0.0, 0.01])
def test_the_champion_itself_never_passes_where_a_better_model_is_asked_for(bar: float) -> None:
    right, nats = make_correctness(0.9, 0.9, np.random.default_rng(0))[0], make_nats(0.0, np.random.default_rng(0))[0]
    for comparison in (
        compare_classifiers(right, right, bar=bar),
        compare_language_models(nats, nats, bar=bar),
    ):
        assert not comparison.passed
        assert comparison.p_value == 1.0
        assert comparison.difference == comparison.low == comparison.high == 0.0


def test_the_champion_scored_again_with_other_rounding_never_passes() -> None:
    for seed in range(20):
        nats, _ = make_nats(0.0, np.random.default_rng(seed), 3_000)
        rounded = nats.astype(np.float32)
        assert compare_language_models(nats, rounded, bootstrap_samples=100).p_value == 1.0
        assert compare_language_models(rounded, nats, bootstrap_samples=100).p_value == 1.0


def test_a_real_gain_below_the_least_one_asked_for_does_not_pass() -> None:
    champion, challenger = make_correctness(0.85, 0.90, np.random.default_rng(0))
    assert compare_classifiers(champion, challenger, bar=0.02).passed
    held = compare_classifiers(champion, challenger, bar=0.048)
    assert compare_classifiers(champion, challenger).p_value < 0.05
    assert not held.passed
    assert "not shown to be better than the champion by more than 4.8 points" in held.sentence

    champion_nats, challenger_nats = make_nats(0.05, np.random.default_rng(0))
    assert compare_language_models(champion_nats, challenger_nats, bar=0.02).passed
    assert not compare_language_models(champion_nats, challenger_nats, bar=0.08).passed


def test_a_slightly_worse_model_passes_a_wide_margin_and_no_narrow_one() -> None:
    champion, challenger = make_correctness(0.90, 0.895, np.random.default_rng(3))
    assert compare_classifiers(champion, challenger, bar=-0.03).passed
    assert not compare_classifiers(champion, challenger, bar=-0.002).passed
    assert "no worse than the champion, but for a margin of 3 points" in (
        compare_classifiers(champion, challenger, bar=-0.03).sentence
    )
    champion_nats, challenger_nats = make_nats(-0.01, np.random.default_rng(3))
    assert compare_language_models(champion_nats, challenger_nats, bar=-0.05).passed
    assert not compare_language_models(champion_nats, challenger_nats, bar=-0.01).passed


@pytest.mark.parametrize("bar", [-0.01, 0.0, 0.01])
def test_a_clearly_worse_model_is_told_from_one_without_evidence(bar: float) -> None:
    worse = compare_classifiers(*make_correctness(0.90, 0.80, np.random.default_rng(0)), bar=bar)
    assert worse.failed
    assert "is shown" in worse.sentence
    alike = compare_classifiers(*make_correctness(0.9, 0.9 + bar, np.random.default_rng(1)), bar=bar)
    assert not alike.failed
    assert compare_language_models(*make_nats(-0.1, np.random.default_rng(0)), bar=bar).failed


def test_a_comparison_turned_round_answers_the_other_question() -> None:
    for bar in (-0.01, 0.0, 0.02):
        champion, challenger = make_correctness(0.88, 0.89, np.random.default_rng(2))
        there, back = (
            compare_classifiers(champion, challenger, bar=bar),
            compare_classifiers(challenger, champion, bar=-bar),
        )
        assert (there.p_value, there.p_short) == (back.p_short, back.p_value)


def test_held_says_how_many_items_it_would_take() -> None:
    held = compare_classifiers(*make_correctness(0.9, 0.905, np.random.default_rng(0)))
    assert not held.passed
    assert held.items_needed is not None
    assert held.items_needed > held.num_items
    assert "with a power of 0.8" in held.sentence

    below = compare_classifiers(*make_correctness(0.9, 0.9, np.random.default_rng(5)), bar=0.01)
    assert below.difference <= 0.01
    assert below.items_needed is None
    assert below.failed or "no number of test items would show it" in below.sentence

    text = compare_language_models(*make_nats(0.001, np.random.default_rng(4)))
    assert (text.items_needed is None) == (text.difference < 1e-6)


def test_the_interval_and_the_p_value_of_a_text_agree_about_the_gain() -> None:
    generator = np.random.default_rng(1)
    for saving in np.linspace(0.0, 0.04, 12):
        comparison = compare_language_models(*make_nats(saving, generator), alpha=0.025, bar=0.01)
        assert comparison.passed == (comparison.low > 0.01)


@pytest.mark.parametrize("compare", [compare_classifiers, compare_language_models])
@pytest.mark.parametrize("sizes", [(10, 9), (0, 0), (1, 1), (1, 10)])
def test_items_that_cannot_be_paired_raise(compare, sizes: tuple[int, int]) -> None:
    with pytest.raises(RegistryError, match="frozen test items differ") as caught:
        compare(np.ones(sizes[0]), np.ones(sizes[1]))
    assert isinstance(caught.value, UnrollError)


def test_losses_that_are_not_finite_raise_rather_than_decide() -> None:
    good, bad = np.ones(100), np.ones(100)
    bad[3] = np.nan
    for champion, challenger in ((good, bad), (bad, good)):
        with pytest.raises(DataError, match="not finite"):
            compare_language_models(champion, challenger)


def test_labels_in_place_of_correctness_raise() -> None:
    with pytest.raises(RegistryError, match="whether it was right"):
        compare_classifiers([0, 1, 2], [0, 1, 2])


def test_the_sentence_holds_the_decision_and_its_evidence() -> None:
    comparison = compare_classifiers(*make_correctness(0.85, 0.90, np.random.default_rng(0)))
    for part in ("is better than the champion", "2,000 items", "McNemar", "alpha = 0.05", "95 % interval"):
        assert part in comparison.sentence
    held = compare_language_models(*make_nats(-0.05, np.random.default_rng(0)))
    assert "is shown not to be better" in held.sentence
    assert "bits per character" in held.sentence
    assert json.loads(json.dumps(held.to_dict()))["sentence"] == held.sentence
