"""Telling people what became of flow runs: one event each, which the automations of `flows.automations` send on.

Found by looking at the runs, so that nothing is lost while a server is away; told once, since the event's id follows
from the run and its state. The words are in the event: no template has to know where Prefect's pages are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import filters
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.utilities.urls import url_for

CRASHED = "unroll.run.crashed"
FAILED = "unroll.run.failed"
STUCK = "unroll.run.stuck"

TAG = "unroll"
"""On the runs of all deployments but the alert's own: one that fails must not call for the next."""
STUCK_VARIABLE = "unroll_stuck_after_hours"
"""The Prefect variable in which `unroll deploy` leaves its --stuck-after."""
STUCK_HOURS = 6.0
FAILED_SINCE = timedelta(hours=24)
"""A run that failed longer ago is not told of any more."""
MOST_LOOKED_AT = 50
LONGEST_MESSAGE = 3_000
"""Characters; the server refuses parameters of half a megabyte, and chats refuse much shorter texts."""


Words = Callable[[FlowRun], tuple[str, str]]
"""Subject and body of an alert about a run."""


def tell_of_crash(client: SyncPrefectClient, run: FlowRun, message: str) -> None:
    """A run whose process was lost is about to be started again."""
    if TAG in run.tags:
        _tell(client, CRASHED, [run], lambda run: (f"{_title(client, run)} crashed", _body(run, message)))


def tell_of_failures(client: SyncPrefectClient, pool: str) -> None:
    """Every run of the pool that failed lately."""
    failed = client.read_flow_runs(
        flow_run_filter=filters.FlowRunFilter(
            state=filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=[StateType.FAILED])),
            tags=filters.FlowRunFilterTags(all_=[TAG]),
            end_time=filters.FlowRunFilterEndTime(after_=datetime.now(UTC) - FAILED_SINCE),
        ),
        work_pool_filter=filters.WorkPoolFilter(name=filters.WorkPoolFilterName(any_=[pool])),
        sort=FlowRunSort.END_TIME_DESC,
        limit=MOST_LOOKED_AT,
    )
    _tell(client, FAILED, failed, lambda run: (f"{_title(client, run)} failed", _body(run)))


def tell_of_stuck(client: SyncPrefectClient, running: Sequence[FlowRun]) -> None:
    """Those of the running ones that have been running for too long."""
    started = [run for run in running if TAG in run.tags and run.start_time]
    if not started:
        return
    limit = timedelta(hours=_stuck_hours(client))
    stuck = [run for run in started if run.start_time and datetime.now(UTC) - run.start_time > limit]
    also = "It is left alone; cancel it if it hangs."
    _tell(client, STUCK, stuck, lambda run: (f"{_title(client, run)} has been running for {limit}", _body(run, also)))


def _tell(client: SyncPrefectClient, event: str, runs: Sequence[FlowRun], words: Words) -> None:
    """Send the events that the server does not have yet."""
    if not runs:
        return
    by_id = {_event_id(event, run): run for run in runs}
    question: dict[str, Any] = {"filter": {"id": {"id": list(by_id)}}, "limit": 50}
    told = {found["id"] for found in client.request("POST", "/events/filter", json=question).json()["events"]}
    fresh = []
    for event_id, run in by_id.items():
        if event_id not in told:
            subject, body = words(run)
            resource = {"prefect.resource.id": f"prefect.flow-run.{run.id}", "prefect.resource.name": run.name}
            payload = {"subject": subject, "body": body}
            occurred = datetime.now(UTC).isoformat()
            fresh.append(
                {"id": event_id, "event": event, "occurred": occurred, "resource": resource, "payload": payload}
            )
    if fresh:
        client.request("POST", "/events", json=fresh)


def _event_id(event: str, run: FlowRun) -> str:
    """The same whenever the same is told."""
    return str(uuid5(NAMESPACE_URL, f"{event} {run.id} {run.state_id}"))


def _stuck_hours(client: SyncPrefectClient) -> float:
    variable = client.read_variable_by_name(STUCK_VARIABLE)
    return float(str(variable.value)) if variable else STUCK_HOURS


def _title(client: SyncPrefectClient, run: FlowRun) -> str:
    assert run.deployment_id is not None
    return f"Unroll: {cut(run.name, 200)} ({client.read_deployment(run.deployment_id).name})"


def _body(run: FlowRun, also: str = "") -> str:
    assert run.state is not None
    message = cut(run.state.message or "no message", LONGEST_MESSAGE)
    return "\n".join(words for words in (message, also, url_for("flow-run", obj_id=run.id)) if words)


def cut(text: str, most: int) -> str:
    """At most so many characters, the last of them dots if any are missing."""
    return text if len(text) <= most else f"{text[: most - 1]}…"
