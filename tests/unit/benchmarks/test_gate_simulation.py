"""Simulated gates whose truth is known. A share of G gates is known to 3 sqrt(p (1 - p) / G), its binomial error."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmarks.gate_simulation import RESULTS, Reviews, Row, TextLosses, Truth, simulate

# shorter than the benchmark's, with dependence that is shorter in the same measure
TEXT = TextLosses(num_characters=20_000, memory=0.985)


def at(truth: Truth, gain: float) -> Truth:
    return replace(truth, saving=gain) if isinstance(truth, TextLosses) else replace(truth, difference=gain)


def is_within_error(row: Row) -> bool:
    return abs(row.share - row.expected) <= 3 * row.standard_error


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("truth", [Reviews(), TEXT], ids=["reviews", "text"])
@pytest.mark.parametrize("bar", [0.0, 0.01, -0.01], ids=["equal", "minimum gain", "margin"])
def test_of_2000_gates_at_the_bar_no_more_than_alpha_promote(truth: Truth, bar: float) -> None:
    row = simulate("", at(truth, bar), bar, gates=2_000, seed=41)
    assert row.expected == 0.05
    assert 0.03 < row.share <= 0.05 + 3 * row.standard_error


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("bar", [0.0, 0.01, -0.01])
def test_simulated_power_is_the_computed_one(bar: float) -> None:
    for truth, excess in ((Reviews(), 0.015), (TEXT, 0.02)):
        row = simulate("", at(truth, bar + excess), bar, gates=600, seed=42)
        assert 0.2 < row.expected < 0.98
        assert is_within_error(row), row


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("bar", [0.0, 0.01, -0.01])
def test_as_many_items_as_held_asks_for_see_the_gain_four_times_in_five(bar: float) -> None:
    reviews, text = Reviews(difference=bar + 0.015), replace(TEXT, saving=bar + 0.03)
    for truth in (
        replace(reviews, num_items=reviews.items_needed(bar, 0.05)),
        replace(text, num_characters=text.items_needed(bar, 0.05)),
    ):
        row = simulate("", truth, bar, gates=600, seed=43)
        assert row.expected == pytest.approx(0.8, abs=0.01)
        assert is_within_error(row), row


def test_two_models_simulated_as_equal_are_equal() -> None:
    import numpy as np

    saved = TextLosses(num_characters=2_000_000).saved_bits(np.random.default_rng(0))
    assert abs(saved.mean()) < 4 * TextLosses(num_characters=2_000_000)._spread()


def test_the_recorded_simulation_keeps_its_promises() -> None:
    recorded = json.loads(RESULTS.read_text(encoding="utf-8"))
    at_the_bar = [Row(**row) for row in recorded["false_promotions"]]
    assert {(row.kind, row.case) for row in at_the_bar} == {
        (kind, case) for kind in ("reviews", "text") for case in ("equal", "minimum gain", "non-inferiority margin")
    }
    assert all(row.gates >= 2_000 and row.share <= row.alpha + 3 * row.standard_error for row in at_the_bar)
    assert all(is_within_error(Row(**row)) for name in ("power", "as_many_as_asked_for") for row in recorded[name])
