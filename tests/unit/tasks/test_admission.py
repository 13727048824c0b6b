"""Late or doubled: a run is skipped with its reason. Stopped by a signal: it is no failure."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.admission import Other, Start, admission, why_not
from tasks.run_lock import RunLock
from unroll.errors import InterruptedScoring, InterruptedTraining, UnrollError

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


def test_outside_of_deployments_nobody_is_asked_and_nothing_is_written(tmp_path: Path) -> None:
    with admission(tmp_path / "runs") as refusal:
        assert refusal is None
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.admission.deployment", SimpleNamespace(id="a deployment"))
    monkeypatch.setattr("tasks.admission.flow_run", SimpleNamespace(id="a run"))
    monkeypatch.setattr("tasks.admission.admit", lambda *_: None)


def test_a_deployed_run_holds_its_lock_while_it_is_at_work(deployed: None, tmp_path: Path) -> None:
    with admission(tmp_path):
        assert RunLock(tmp_path, "a run").is_held()
    assert RunLock(tmp_path, "a run").is_held() is None


class Terminated(BaseException):
    pass


@pytest.mark.parametrize("error", [InterruptedTraining("saved", 15), InterruptedScoring("saved", 15)])
def test_what_sigterm_stopped_ends_by_sigterm_and_not_as_a_failure(
    deployed: None, tmp_path: Path, error: UnrollError
) -> None:
    def terminate(*_: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        with pytest.raises(Terminated), admission(tmp_path):
            raise error
    finally:
        signal.signal(signal.SIGTERM, before)


def test_an_error_stays_one(deployed: None, tmp_path: Path) -> None:
    with pytest.raises(UnrollError, match="bad data"), admission(tmp_path):
        raise UnrollError("bad data")
