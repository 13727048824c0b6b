"""Whether a flow run of a deployment may begin: not long after its time, and not beside another.

A scheduler keeps every run that it could not start, and starts all of them after a long night. This is asked in the
first task of a flow, where the answer can be given with its reason: the run ends as *Skipped*, a completed state, so
that nobody is called for it. How often a run may die is not asked here, since one that cannot be imported never gets
here: `tasks.reconcile` counts.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect import get_client, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, StateType
from prefect.runtime import deployment, flow_run
from prefect.states import Completed

from tasks.run_lock import RunLock
from unroll.errors import UnrollError

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

logger = logging.getLogger("unroll.admission")

MOST_MINUTES_LATE = 60
"""A scheduled run that begins later than this is left to the next one."""

MOST_LOOKED_AT = 50
"""Newest runs of a deployment among which one that is in the way is looked for."""


@dataclass(frozen=True)
class Start:
    """A flow run about to begin. Times are in UTC."""

    run_id: str
    expected: datetime
    begun: datetime
    is_scheduled: bool
    """Made by a schedule, rather than by a person or an event."""
    count: int
    """How many times it was started, this time included."""


@dataclass(frozen=True)
class Other:
    """Another run of the same deployment that has begun."""

    run_id: str
    name: str
    begun: datetime
    ended: datetime | None
    """None while it is running."""


def why_not(start: Start, others: Sequence[Other], most_minutes_late: float) -> str | None:
    """Why the run is to be skipped; None where it may go on.

    What a person or an event asked for is done. The queue lets one training run at a time, so a scheduled run may have
    waited for an earlier one of its deployment: that one was at work when this was due. Of runs that begin in the same
    instant the one with the smallest id goes on.
    """
    if not start.is_scheduled or start.count > 1:
        return None
    late = start.begun - start.expected
    if late > timedelta(minutes=most_minutes_late):
        return (
            f"late: it was due at {start.expected:%Y-%m-%d %H:%M} UTC and could begin {_hours(late)} after that, more "
            f"than {most_minutes_late:g} minutes; the next scheduled run does its work"
        )
    before = [other for other in others if (other.begun, other.run_id) < (start.begun, start.run_id)]
    in_the_way = [other for other in before if other.ended is None or other.ended > start.expected]
    if not in_the_way:
        return None
    first = min(in_the_way, key=lambda other: other.begun)
    until = "and still is" if first.ended is None else f"until {first.ended:%Y-%m-%d %H:%M} UTC"
    return (
        f"already running: {first.name} (flow run {first.run_id}) of this deployment was at work when this was due, "
        f"since {first.begun:%Y-%m-%d %H:%M} UTC {until}"
    )


def _hours(duration: timedelta) -> str:
    minutes = round(duration.total_seconds() / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


@contextmanager
def admission(
    runs: Path, most_minutes_late: float = MOST_MINUTES_LATE, *, may_overlap: bool = False
) -> Iterator[State[Any] | None]:
    """Around a flow's work: gives the state to end with at once if it may not begin, else None.

    Within the block this process holds the run's lock. What SIGTERM stopped, with its state saved, ends as Prefect ends
    any run that SIGTERM stops: crashed, to be started again, rather than failed. Outside of deployments nothing is
    asked or held.

    Args:
        runs: Folder of the locks.
        most_minutes_late: A scheduled run that begins later than this is skipped.
        may_overlap: Whether it may run beside others of its deployment.
    """
    if deployment.id is None:
        yield None
        return
    with RunLock(runs, str(flow_run.id)).hold():
        reason = admit(most_minutes_late, may_overlap)
        try:
            yield None if reason is None else Completed(name="Skipped", message=reason)
        except UnrollError as error:
            if error.stopped_by:
                logger.info("%s", error)
                signal.raise_signal(error.stopped_by)
            raise


@task(name="admit", persist_result=False, cache_policy=NO_CACHE, retries=3, retry_delay_seconds=5)
def admit(most_minutes_late: float, may_overlap: bool) -> str | None:
    """Ask the Prefect server about this flow run and those beside it; the reason to skip it, None to go on."""
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(UUID(str(flow_run.id)))
        others = [] if may_overlap else _others(client, run)
    reason = why_not(_start(run), others, most_minutes_late)
    if reason is not None:
        logger.info("skipped; %s", reason)
    return reason


def _start(run: FlowRun) -> Start:
    begun = run.start_time if run.run_count <= 1 and run.start_time else datetime.now(UTC)
    return Start(str(run.id), run.expected_start_time or begun, begun, bool(run.auto_scheduled), run.run_count)


def _others(client: Any, run: FlowRun) -> list[Other]:
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
    from prefect.client.schemas.sorting import FlowRunSort

    assert run.deployment_id is not None
    found = client.read_flow_runs(
        deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[run.deployment_id])),
        sort=FlowRunSort.START_TIME_DESC,
        limit=MOST_LOOKED_AT,
    )
    # one that was skipped did nothing that this one might repeat
    begun = [other for other in found if other.id != run.id and other.state_name != "Skipped"]
    return [Other(str(other.id), other.name, other.start_time, _end(other)) for other in begun if other.start_time]


def _end(run: FlowRun) -> datetime | None:
    """When a run was last at work, None where it is: a crashed one that waits to be started again has no end yet."""
    if run.state is None or run.state.type == StateType.RUNNING:
        return None
    return run.end_time or run.state.timestamp
