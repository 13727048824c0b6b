from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unroll.evaluation.slices import slice_reviews, slice_text


def test_each_item_is_in_one_slice_of_each_group() -> None:
    lengths = np.array([1, 2, 3, 4, 5, 6, 7, 8])
    unknown = np.array([0, 0, 0.01, 0.02, 0.03, 0.05, 0.5, 1.0])
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    correct = np.array([1, 1, 1, 1, 0, 0, 0, 1], dtype=bool)
    slices = slice_reviews(lengths, unknown, labels, correct, ("negative", "positive"))
    table = {(part.group, part.name): (part.num_items, part.value.value) for part in slices}
    assert table == {
        ("length", "1 to 2 tokens"): (2, 1.0),
        ("length", "3 to 4 tokens"): (2, 1.0),
        ("length", "5 to 6 tokens"): (2, 0.0),
        ("length", "7 to 8 tokens"): (2, 0.5),
        ("class", "negative"): (6, pytest.approx(4 / 6)),
        ("class", "positive"): (2, 0.5),
        ("unknown words", "none"): (2, 1.0),
        ("unknown words", "over 0%, up to 2%"): (2, 1.0),
        ("unknown words", "over 2%, up to 5%"): (2, 0.0),
        ("unknown words", "over 5% of them"): (2, 0.5),
    }


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 2), st.booleans()), min_size=1, max_size=60))
def test_whatever_the_items_every_group_holds_them_all_within_intervals(rows: list[tuple[int, int, bool]]) -> None:
    lengths, labels, correct = (np.array(column) for column in zip(*rows, strict=True))
    unknown = np.minimum(labels / lengths, 1.0)
    slices = slice_reviews(lengths, unknown, labels, correct, ("a", "b", "c"))
    for group in ("length", "class", "unknown words"):
        assert sum(part.num_items for part in slices if part.group == group) == len(rows)
    assert all(0 <= part.value.low <= part.value.value <= part.value.high <= 1 for part in slices)


def test_wilsons_interval_is_that_of_the_textbook() -> None:
    correct = np.array([True] * 8 + [False] * 2)
    ones = np.ones(10, dtype=np.int64)
    part = slice_reviews(ones, np.zeros(10), np.zeros(10, dtype=np.int64), correct, ("only", "other"))[0]
    z = 1.959963984540054
    centre, spread = 0.8 + z * z / 20, z * np.sqrt(0.8 * 0.2 / 10 + z * z / 400)
    assert part.value.low == pytest.approx((centre - spread) / (1 + z * z / 10))
    assert part.value.high == pytest.approx((centre + spread) / (1 + z * z / 10))


def test_bits_by_kind_of_character_are_means_over_their_own_characters() -> None:
    text = "Ab 1." * 40
    bits = np.tile([5.0, 2.0, 1.0, 4.0, 3.0], 40)
    is_unknown = np.zeros(200, dtype=bool)
    is_unknown[3] = True
    slices = slice_text(text, bits * np.log(2), is_unknown, bootstrap_samples=100)
    assert {part.name: (part.num_items, round(part.value.value, 9)) for part in slices} == {
        "capitals": (40, 5.0),
        "other letters": (40, 2.0),
        "white space": (40, 1.0),
        "digits": (40, 4.0),
        "punctuation and signs": (40, 3.0),
        "characters it lacks": (1, 4.0),
    }
    for part in slices:
        assert part.value.low <= part.value.value + 1e-9
        assert part.value.high >= part.value.value - 1e-9
