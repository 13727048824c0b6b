"""The arithmetic behind the tables."""

from __future__ import annotations

import pytest

from benchmarks.measure import WARM_UP, Bout, Contestant, Lap, Stopwatch, take_turns
from benchmarks.plan import ROWS, Plan, Row
from benchmarks.ratios import Promise, Spread, paired_ratios, spread
from benchmarks.report import number, short_table, to_markdown
from benchmarks.row import measure, summarize


def test_spread_is_the_median_with_the_quartiles() -> None:
    assert spread([5.0, 1.0, 3.0, 2.0, 4.0]) == Spread(3.0, 2.0, 4.0)
    assert spread([1.0, 2.0]) == Spread(1.5, 1.25, 1.75)
    assert spread([7.0]) == Spread(7.0, 7.0, 7.0)


def test_spread_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        spread([])


def test_a_neighbour_that_slows_whole_rounds_leaves_the_ratios_alone() -> None:
    slowness = [1.0, 4.0, 2.0]
    ours, theirs = ([rate / slow for slow in slowness] for rate in (30.0, 10.0))
    assert paired_ratios(ours, theirs) == pytest.approx([3.0, 3.0, 3.0])


def test_rounds_that_do_not_pair_are_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        paired_ratios([1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("promise", "value", "kept"),
    [
        (Promise("", "a", at_least=2.0), 2.0, True),
        (Promise("", "a", at_least=2.0), 1.9, False),
        (Promise("", "a", at_most=0.5), 0.6, False),
        (Promise("", "a"), 1.0, None),
    ],
)
def test_a_promise_is_kept_within_its_bounds(promise: Promise, value: float, kept: bool | None) -> None:
    assert promise.kept_by(value) is kept


def test_contestants_take_turns_after_a_warm_up_that_is_not_counted() -> None:
    order: list[tuple[str, int]] = []

    def contestant(name: str) -> Contestant:
        def bout(number: int) -> Bout:
            order.append((name, number))
            return Bout(float(number), Lap(1.0, 1.0, None))

        return Contestant(name, "", bout)

    bouts = [(who.name, bout.amount) for _, who, bout in take_turns([contestant("a"), contestant("b")], rounds=2)]
    assert order == [("a", WARM_UP), ("b", WARM_UP), ("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert bouts == [("a", 0.0), ("b", 0.0), ("a", 1.0), ("b", 1.0)]


def test_a_stopwatch_tells_wall_clock_and_cpu_time() -> None:
    watch = Stopwatch()
    sum(range(2_000_000))
    lap = watch.lap()
    assert lap.seconds > 0
    assert lap.cpu_seconds <= 2 * lap.seconds + 0.1
    assert (lap + Lap(1.0, 2.0, None)).seconds == pytest.approx(lap.seconds + 1.0)


def make_row(unit: str) -> tuple[Row, dict[str, list[Bout]]]:
    def never(_: int) -> Bout:
        raise AssertionError

    row = Row(
        unit=unit,
        data="numbers",
        contestants=(Contestant("a", "slow", never), Contestant("b", "fast", never)),
        promises=(Promise("b over a", "b", "a", at_least=3.0), Promise("b alone", "b")),
        rounds=2,
    )
    bouts = {
        "a": [Bout(10.0, Lap(1.0, 2.0, 0.5)), Bout(10.0, Lap(2.0, 2.0, 0.5))],
        "b": [Bout(40.0, Lap(1.0, 1.0, 0.0)), Bout(40.0, Lap(2.0, 1.0, 0.0))],
    }
    return row, bouts


def test_a_row_is_told_by_rates_and_by_cpu_time() -> None:
    result = summarize(*make_row("numbers/s"))
    ratio, alone = result["promises"]
    assert result["contestants"][0]["value"]["median"] == pytest.approx(7.5)
    assert ratio["ratio"] == {"median": 4.0, "low": 4.0, "high": 4.0}
    assert ratio["cpu_ratio"]["median"] == pytest.approx(8.0)
    assert (ratio["kept"], alone["kept"]) == (True, None)
    assert alone["ratio"]["median"] == pytest.approx(30.0)
    assert result["elsewhere_cores"] == pytest.approx(1.0 / 6.0)


def test_a_row_that_is_stopped_keeps_its_whole_rounds() -> None:
    def stops_in_round_two(number: int) -> Bout:
        if number == 2:
            raise KeyboardInterrupt
        return Bout(1.0, Lap(1.0, 1.0, None))

    def goes_on(_: int) -> Bout:
        return Bout(1.0, Lap(1.0, 1.0, None))

    contestants = (Contestant("a", "", goes_on), Contestant("b", "", stops_in_round_two))
    row = Row("numbers/s", "", contestants, (Promise("b over a", "b", "a"),), rounds=5)
    bouts, stopped = measure(row)
    assert stopped
    assert [len(of_name) for of_name in bouts.values()] == [2, 2]
    assert summarize(row, bouts)["rounds"] == 2


def test_seconds_are_told_for_a_piece_of_work() -> None:
    result = summarize(*make_row("s"))
    assert result["contestants"][0]["value"]["median"] == pytest.approx(0.15)
    assert result["promises"][0]["kept"] is False


def test_the_page_shows_ratios_the_load_and_what_failed() -> None:
    row = summarize(*make_row("numbers/s"))
    row |= {"name": "row", "title": "A row", "load_average": {"before": [3.0], "after": [1.0]}, "checks": {}}
    results = {
        "date": "2026-01-01",
        "commit": "abc",
        "quick": True,
        "seconds": 60.0,
        "machine": {"cores": 2, "cpu": "x", "torch": "2", "threads": 2, "python": "3"},
        "rows": [row, {"name": "other", "title": "Other", "error": "its process ended with 1"}],
    }
    page = to_markdown(results)
    assert "| A row | b over a | **4.00** (4.00–4.00) | 8.00 | at least 3 | yes |" in page  # noqa: RUF001
    assert "**busy machine**: other processes took 0.17 cores" in page
    assert "**Not measured**: its process ended with 1" in page
    assert "Its figures mean nothing" in page
    assert "other: failed" in short_table(results)


def test_numbers_have_three_digits() -> None:
    assert [number(value) for value in (0.5, 12.345, 6789.0)] == ["0.500", "12.3", "6,789"]


def test_a_plan_travels_to_another_process_whole() -> None:
    plan = Plan("somewhere", quick=True, rounds=3, accuracy_epochs=1)
    assert Plan.from_json(plan.to_json()) == plan
    assert plan.num_rounds(7) == 3
    assert Plan("somewhere").num_rounds(7) == 7


def test_every_row_names_a_module() -> None:
    from importlib.util import find_spec

    assert all(find_spec(entry.module) is not None for entry in ROWS.values())
