"""What becomes of a flow run: never two processes for one, never a death too many, never a run that is left lying."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.run_fate import (
    DIED,
    HEARING,
    MOST_STARTS,
    STOPPED,
    TERMINATED,
    WAITS,
    Decision,
    Fate,
    Holder,
    Past,
    Sight,
    decide,
)

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
LONG = timedelta(hours=1)
SCHEDULED, PENDING, RUNNING = Past("SCHEDULED", ""), Past("PENDING", ""), Past("RUNNING", "")
CRASHED = Past("CRASHED", "Process exited with status code: -9.")
BEGUN = [SCHEDULED, PENDING, RUNNING]
DIED_ONCE = [*BEGUN, CRASHED, Past("SCHEDULED", f"{DIED} Death 1 of 3."), PENDING, RUNNING]


def sight(*states: Past, age: timedelta = LONG, holder: Holder = Holder.GONE, was_stopped: bool = False) -> Sight:
    return Sight(states, NOW - age, holder, was_stopped)


def fate(*states: Past, answering: timedelta = LONG, **seen: object) -> Decision | None:
    return decide(sight(*states, **seen), NOW, answering)  # type: ignore[arg-type]


def fate_name(decision: Decision | None) -> str | None:
    return None if decision is None else decision.fate.value


pasts = st.lists(
    st.builds(
        Past,
        st.sampled_from(["SCHEDULED", "PENDING", "RUNNING", "CANCELLING", "CRASHED", "FAILED", "COMPLETED"]),
        st.sampled_from(["", DIED, STOPPED, "Process exited with status code: -9.", TERMINATED[0]]),
    ),
    max_size=12,
)
ends = st.sampled_from([RUNNING, PENDING, Past("CANCELLING", ""), CRASHED])


@given(pasts, ends, st.timedeltas(timedelta(0), timedelta(days=3)), st.booleans())
def test_a_run_whose_process_lives_is_left_alone(
    before: list[Past], last: Past, age: timedelta, was_stopped: bool
) -> None:
    assert fate(*before, last, age=age, holder=Holder.ALIVE, was_stopped=was_stopped) is None


@given(pasts, st.sampled_from([RUNNING, PENDING]), st.booleans())
def test_a_silent_run_without_a_process_is_crashed(before: list[Past], last: Past, was_stopped: bool) -> None:
    assert fate_name(fate(*before, last, was_stopped=was_stopped)) == Fate.CRASHED


def test_a_run_that_may_be_elsewhere_is_given_the_time_of_a_heartbeat() -> None:
    assert fate(*BEGUN, holder=Holder.UNKNOWN, answering=HEARING - timedelta(seconds=1)) is None
    assert fate_name(fate(*BEGUN, holder=Holder.UNKNOWN, answering=HEARING)) == Fate.CRASHED


def test_a_run_that_was_being_cancelled_is_not_started_again() -> None:
    assert fate_name(fate(*BEGUN, Past("CANCELLING", ""))) == Fate.CANCELLED
    for words in ("", *TERMINATED):
        assert fate_name(fate(*BEGUN, Past("CANCELLING", ""), Past("CRASHED", words))) == Fate.CANCELLED


@given(pasts, st.timedeltas(timedelta(0), timedelta(hours=1)), st.booleans())
def test_a_crashed_run_is_started_again_or_failed_once_its_wait_is_over_and_not_before(
    before: list[Past], age: timedelta, was_stopped: bool
) -> None:
    seen = sight(*before, CRASHED, age=age, was_stopped=was_stopped)
    wait = WAITS[0] if was_stopped else WAITS[min(seen.deaths, len(WAITS) - 1)]
    decision = decide(seen, NOW, LONG)
    assert (decision is None) == (age < wait)
    if decision is not None and before and before[-1].type == "CANCELLING":
        assert decision.fate is Fate.CANCELLED
    elif decision is not None:
        is_over = not was_stopped and seen.deaths + 1 >= MOST_STARTS
        assert decision.fate is (Fate.FAILED if is_over else Fate.SCHEDULED)


@pytest.mark.parametrize("has_begun", [True, False])
def test_a_run_that_dies_each_time_is_started_three_times_then_failed(has_begun: bool) -> None:
    states, starts, told = list[Past](), 0, 0
    again = Past("SCHEDULED", "")
    while True:
        starts += 1
        states += [again, PENDING, *([RUNNING] if has_begun else []), CRASHED]
        decision = fate(*states)
        assert decision is not None
        told += decision.is_told
        if decision.fate is Fate.FAILED:
            break
        again = Past("SCHEDULED", decision.message)
    assert starts == MOST_STARTS == 3
    # what never began is told of once, when it has failed; other deaths when they happen
    assert told == (MOST_STARTS - 1 if has_begun else 0)
    assert "died 3 times" in decision.message
    assert ("an import that fails" in decision.message) == (not has_begun)


def test_a_person_who_retries_what_has_failed_gets_as_many_starts_again() -> None:
    died_out = [*DIED_ONCE, CRASHED, Past("SCHEDULED", f"{DIED} Death 2 of 3."), RUNNING, CRASHED, Past("FAILED", "")]
    retried = [*died_out, Past("SCHEDULED", ""), PENDING, RUNNING, CRASHED]
    assert fate_name(fate(*retried)) == Fate.SCHEDULED
    assert sight(*retried).deaths == 0


@given(st.integers(0, 30), st.sampled_from(TERMINATED))
def test_being_asked_to_stop_counts_as_no_death_however_often(stops: int, words: str) -> None:
    states = [*DIED_ONCE]
    for _ in range(stops):
        states += [Past("CRASHED", f"Execution was aborted: {words}"), Past("SCHEDULED", STOPPED), PENDING, RUNNING]
    assert sight(*states, CRASHED).deaths == 1
    assert fate_name(fate(*states, Past("CRASHED", f"Execution was aborted: {words}"))) == Fate.SCHEDULED
    decision = fate(*states, Past("CRASHED", "No sign of life."), was_stopped=True)
    assert decision == Decision(Fate.SCHEDULED, STOPPED)


def test_a_second_report_of_the_same_death_is_no_second_death() -> None:
    # Prefect's worker reports once more after its hooks; the run is waiting to be started by then, or just starting
    twice = [*BEGUN, CRASHED, Past("SCHEDULED", f"{DIED} Death 1 of 3."), CRASHED]
    assert sight(*twice).deaths == 1
    assert fate_name(fate(*twice)) == Fate.SCHEDULED


def test_prefects_own_words_for_a_stop_are_those_we_look_for() -> None:
    import asyncio
    import signal

    from prefect._internal.infrastructure_exit_codes import get_infrastructure_exit_info
    from prefect.exceptions import TerminationSignal
    from prefect.states import exception_to_crashed_state

    stopped = asyncio.run(exception_to_crashed_state(TerminationSignal(signal.SIGTERM)))
    assert TERMINATED[0] in str(stopped.message)
    assert fate(*BEGUN, Past("CRASHED", str(stopped.message))) == Decision(Fate.SCHEDULED, STOPPED)
    for code, is_stop in ((-15, True), (143, True), (-9, False), (137, False), (1, False)):
        message = f"Process exited with status code: {code}. {get_infrastructure_exit_info(code).explanation}"
        decision = fate(*BEGUN, Past("CRASHED", message))
        assert decision is not None
        assert (decision.message == STOPPED) == is_stop
