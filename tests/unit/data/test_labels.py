from __future__ import annotations

import pytest

from unroll.data.labels import LabelMap, label_name
from unroll.errors import DataError


@pytest.mark.parametrize("spelling", [1, 1.0, "1", " 1 ", "1.0", "+1", "01"])
def test_one_whole_number_is_one_class_however_it_is_spelled(spelling: object) -> None:
    assert label_name(spelling) == "1"


@pytest.mark.parametrize(("value", "name"), [(True, "true"), ("True", "true"), ("FALSE", "false"), ("Good ", "Good")])
def test_booleans_and_names_are_spelled_one_way(value: object, name: str) -> None:
    assert label_name(value) == name


@pytest.mark.parametrize("value", [None, float("nan"), "", "  "])
def test_missing_labels_are_none(value: object) -> None:
    assert label_name(value) is None


@pytest.mark.parametrize("value", [3.7, float("inf"), [1], {"a": 1}, b"yes"])
def test_a_value_that_names_no_class_is_refused(value: object) -> None:
    with pytest.raises(DataError, match="expected an integer"):
        label_name(value)


def test_whole_numbers_sort_by_value_and_names_by_letters() -> None:
    assert LabelMap.from_labels(["10", "9", "-1"], None, "x").names == ("-1", "9", "10")
    assert LabelMap.from_labels(["pos", "10", "9"], None, "x").names == ("10", "9", "pos")


def test_the_sources_own_order_wins_and_unused_names_go() -> None:
    assert LabelMap.from_labels(["neg", "pos"], ["pos", "unused", "neg"], "x").names == ("pos", "neg")


@pytest.mark.parametrize(("names", "found"), [([], "no labels"), (["a", "a"], "one class, 'a'")])
def test_fewer_than_two_classes_are_refused(names: list[str], found: str) -> None:
    with pytest.raises(DataError, match=found):
        LabelMap.from_labels(names, None, "x")


def test_aliases_find_the_class_they_stand_for() -> None:
    labels = LabelMap(("negative", "positive"), {"neg": 0, "1": 1})
    assert [labels.find(name) for name in ("negative", "neg", "1", "positive", "meh")] == [0, 0, 1, 1, None]
