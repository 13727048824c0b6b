"""Late, doubled, and dead too often: a run is skipped with its reason, or refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.admission import MOST_STARTS, Other, Start, refused, why_not
from unroll.errors import UnrollError

DUE = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)


def start(**values: Any) -> Start:
    usual: dict[str, Any] = {"run_id": "b", "expected": DUE, "begun": DUE, "is_scheduled": True, "count": 1}
    return Start(**{**usual, **values})


def test_a_run_on_time_and_alone_goes_on() -> None:
    assert why_not(start(), [], 60) is None


@given(st.floats(0, 10_000), st.floats(1, 5_000))
def test_a_scheduled_run_is_skipped_just_where_it_begins_later_than_allowed(late: float, most: float) -> None:
    reason = why_not(start(begun=DUE + timedelta(minutes=late)), [], most)
    assert (reason is not None) == (timedelta(minutes=late) > timedelta(minutes=most))


def test_the_reason_says_when_it_was_due_and_how_late_it_is() -> None:
    reason = why_not(start(begun=DUE + timedelta(hours=5)), [], 60)
    assert reason is not None
    assert reason.startswith("late: it was due at 2026-03-01 02:00 UTC and could begin 5.0 h after that")


def test_what_a_person_or_an_event_asked_for_is_never_late() -> None:
    assert why_not(start(begun=DUE + timedelta(days=3), is_scheduled=False), [], 60) is None


def test_a_run_that_is_started_again_after_a_crash_is_not_late() -> None:
    assert why_not(start(begun=DUE + timedelta(days=3), count=2), [], 60) is None


def test_a_run_beside_an_earlier_one_is_skipped_and_names_it() -> None:
    reason = why_not(start(), [Other("a", "slow", DUE - timedelta(hours=1), None)], 60)
    assert reason is not None
    assert reason.startswith("already running: slow (flow run a) of this deployment")
    assert reason.endswith("since 2026-03-01 01:00 UTC and still is")


def test_a_scheduled_run_that_waited_for_an_earlier_one_is_skipped_and_one_that_was_asked_for_goes_on() -> None:
    ended = DUE + timedelta(minutes=20)
    before = [Other("a", "slow", DUE - timedelta(hours=1), ended)]
    reason = why_not(start(begun=ended + timedelta(seconds=5)), before, 60)
    assert reason is not None
    assert reason.endswith("until 2026-03-01 02:20 UTC")
    assert why_not(start(begun=ended + timedelta(seconds=5), is_scheduled=False), before, 60) is None
    assert why_not(start(), [Other("a", "slow", DUE - timedelta(hours=1), DUE - timedelta(minutes=1))], 60) is None


def test_what_was_asked_for_goes_on_beside_another() -> None:
    assert why_not(start(is_scheduled=False), [Other("a", "slow", DUE - timedelta(hours=1), None)], 60) is None


def test_a_run_that_is_started_again_after_a_crash_does_what_it_began() -> None:
    assert why_not(start(count=2), [Other("a", "slow", DUE - timedelta(hours=1), None)], 60) is None


RUNS = st.tuples(st.integers(0, 3), st.text("abc", min_size=1, max_size=3))


@given(st.lists(RUNS, min_size=1, unique_by=lambda run: run[1]))
def test_of_runs_that_see_each_other_exactly_one_goes_on(runs: list[tuple[int, str]]) -> None:
    known = [Other(run_id, run_id, DUE + timedelta(seconds=second), None) for second, run_id in runs]

    def goes_on(run: Other) -> bool:
        others = [other for other in known if other is not run]
        return why_not(start(run_id=run.run_id, begun=run.begun), others, 60) is None

    assert sum(map(goes_on, known)) == 1


def test_a_run_that_has_died_too_often_is_an_error_that_says_so() -> None:
    assert why_not(start(count=MOST_STARTS), [], 60) is None
    with pytest.raises(UnrollError, match=f"died {MOST_STARTS} times"):
        why_not(start(count=MOST_STARTS + 1), [], 60)


def test_outside_of_deployments_nobody_is_asked() -> None:
    assert refused() is None
