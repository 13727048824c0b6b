"""What ``unroll explain`` prints and draws."""

from __future__ import annotations

from typing import get_args

import pytest

from flows.cli import Section
from unroll.chapter.sections import SECTIONS
from unroll.chapter.tables import table


def test_the_command_knows_every_section() -> None:
    assert set(get_args(Section)) == {*SECTIONS, "remedies"}


@pytest.mark.parametrize("section", SECTIONS)
def test_each_section_has_a_table_and_a_figure_whose_axes_are_named(section: str) -> None:
    explanation = SECTIONS[section]()
    assert len(explanation.lines) > 4
    for axes in explanation.figure.axes:
        shares_the_axis_below = not axes.get_xlabel() and axes is not explanation.figure.axes[-1]
        assert axes.get_ylabel()
        assert axes.get_xlabel() or shares_the_axis_below or axes.get_label() == "<colorbar>"


def test_forward_prints_the_books_digits() -> None:
    lines = "\n".join(SECTIONS["forward"]().lines)
    for digits in ("-0.4701929", "0.5863904", "-0.3519801", "0.52525216", "-0.68424344", "-0.8649416", "0.90466356"):
        assert digits in lines


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table(("a", "bb"), [("long", "1"), ("x", "222")]) == ["a      bb", "long    1", "x     222"]
