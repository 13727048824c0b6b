"""Look at the flow runs of the pool, and give those that lost their process the state they should be in.

It looks rather than waits: whatever a server that was restarted has forgotten, the next look finds. The worker looks
every few seconds (`flows.worker`), `unroll deploy` and each `watch` once. Two that look at once do no harm: each
decision is made from the states as they are, and one lock on this machine lets them look in turn.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil  # type: ignore[import-untyped]
from prefect import get_client, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas import filters
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.sorting import FlowRunSort

from tasks import run_alerts
from tasks.run_fate import HEARING, SILENCE, Decision, Fate, Holder, Past, Sight, decide
from tasks.run_lock import RunLock, drop_old_locks

logger = logging.getLogger("unroll.reconcile")

LIVE = (StateType.RUNNING, StateType.PENDING, StateType.CANCELLING)
CRASHED_SINCE = timedelta(days=7)
"""A run that crashed longer ago is left to people."""
MOST_LOOKED_AT = 200
RUN_VARIABLE = "PREFECT__FLOW_RUN_ID"
"""In the environment of every process that a worker starts for a flow run."""
WORKER_LABEL = "prefect.worker.name"
"""Label of a run: the worker that has taken it."""
NAMES = {Fate.SCHEDULED: "AwaitingRetry", Fate.CRASHED: "Crashed", Fate.CANCELLED: "Cancelled", Fate.FAILED: "Failed"}


class Reconciler:
    """Looks again and again; remembers nothing but since when the server has been answering it."""

    def __init__(self, pool: str, runs: Path, worker: str | None = None) -> None:
        """Worker: the name of the one beside which this looks, if it does."""
        self._pool = pool
        self._runs = runs
        self._worker = worker
        self._answering_since: float | None = None

    def look(self) -> list[str]:
        """Look once at every run of the pool; returns what was done, in words.

        Raises what Prefect's client raises if the server does not answer.
        """
        from filelock import FileLock

        self._runs.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self._runs / "look.lock", timeout=60), get_client(sync_client=True) as client:
                done = list(self._look(client))
        except BaseException:
            self._answering_since = None
            raise
        drop_old_locks(self._runs)
        return done

    def _look(self, client: SyncPrefectClient) -> Iterator[str]:
        runs = _runs_of(client, self._pool)
        now = time.monotonic()
        self._answering_since = self._answering_since or now
        answering = timedelta(seconds=now - self._answering_since)
        doubtful = [run for run in runs if not _is_young(run)]
        heard = _heard(client, [run.id for run in doubtful if run.state_type in LIVE])
        doubtful = [run for run in doubtful if run.id not in heard]
        here = processes_of_runs() if doubtful else set[str]()
        for run in doubtful:
            decision = decide(self._sight(client, run, here), datetime.now(UTC), answering)
            if decision is not None and self._carry_out(client, run, decision):
                yield f"{run.name}: {decision.fate.lower()}; {decision.message}"
        run_alerts.tell_of_failures(client, self._pool)
        run_alerts.tell_of_stuck(client, [run for run in runs if run.state_type == StateType.RUNNING])

    def _sight(self, client: SyncPrefectClient, run: FlowRun, here: set[str]) -> Sight:
        states = sorted(client.read_flow_run_states(run.id), key=lambda state: state.timestamp)
        lock = RunLock(self._runs, str(run.id))
        held = lock.is_held()
        if held or str(run.id) in here:
            holder = Holder.ALIVE
        elif held is False or self._never_began_here(run):
            holder = Holder.GONE
        else:
            holder = Holder.UNKNOWN
        pasts = [Past(state.type.value, state.message or "") for state in states]
        return Sight(pasts, states[-1].timestamp, holder, lock.was_stopped())

    def _never_began_here(self, run: FlowRun) -> bool:
        """Whether the worker of this machine has taken the run, and no process of it has come as far as its lock."""
        is_ours = self._worker is not None and run.labels.get(WORKER_LABEL) == self._worker
        return is_ours and run.state_type == StateType.PENDING

    def _carry_out(self, client: SyncPrefectClient, run: FlowRun, decision: Decision) -> bool:
        """Set the state, unless the run has left the one that was looked at."""
        now = client.read_flow_run(run.id)
        if now.state is None or run.state is None or now.state.id != run.state.id:
            return False
        if decision.is_told:
            run_alerts.tell_of_crash(client, now, decision.message)
        wanted: State[Any] = State(
            type=StateType(decision.fate.value), name=NAMES[decision.fate], message=decision.message
        )
        if decision.fate is Fate.SCHEDULED:
            # the time it was due: it keeps its place before those that wait behind it
            wanted.state_details.scheduled_time = run.expected_start_time
        answer = client.set_flow_run_state(run.id, wanted)
        accepted = answer.status.value == "ACCEPT"
        logger.info("%s (%s): %s; %s", run.name, run.id, decision.fate.lower(), decision.message)
        if not accepted:
            logger.warning("the server did not take it: %s", answer.details)
        return accepted


@task(name="reconcile", persist_result=False, cache_policy=NO_CACHE)
def reconcile(pool: str, runs: Path) -> list[str]:
    """Look once, and once more after a heartbeat's time if a run could not be told dead from one of another machine."""
    return look_twice(pool, runs)


def look_twice(pool: str, runs: Path) -> list[str]:
    """As `reconcile`, outside of flow runs."""
    reconciler = Reconciler(pool, runs)
    done = reconciler.look()
    with get_client(sync_client=True) as client:
        silent = [run.id for run in _read(client, pool, LIVE) if not _is_young(run)]
        has_doubts = bool(set(silent) - _heard(client, silent))
    if has_doubts:
        time.sleep(HEARING.total_seconds())
        done += reconciler.look()
    return done


def processes_of_runs() -> set[str]:
    """Ids of the flow runs that a process of this machine was started for."""
    found = set[str]()
    for process in psutil.process_iter():
        try:
            environment = process.environ()
            if RUN_VARIABLE in environment and process.status() != psutil.STATUS_ZOMBIE:
                found.add(environment[RUN_VARIABLE])
        except (psutil.Error, OSError):
            continue
    return found


def _runs_of(client: SyncPrefectClient, pool: str) -> list[FlowRun]:
    """Runs of the pool that should have a process, and those that lost it."""
    return [
        *_read(client, pool, LIVE),
        *_read(client, pool, (StateType.CRASHED,), ended_after=datetime.now(UTC) - CRASHED_SINCE),
    ]


def _read(
    client: SyncPrefectClient, pool: str, types: Sequence[StateType], ended_after: datetime | None = None
) -> list[FlowRun]:
    wanted = filters.FlowRunFilter(
        state=filters.FlowRunFilterState(type=filters.FlowRunFilterStateType(any_=list(types))),
        **({"end_time": filters.FlowRunFilterEndTime(after_=ended_after)} if ended_after else {}),
    )
    found = client.read_flow_runs(
        flow_run_filter=wanted,
        work_pool_filter=filters.WorkPoolFilter(name=filters.WorkPoolFilterName(any_=[pool])),
        sort=FlowRunSort.EXPECTED_START_TIME_DESC,
        limit=MOST_LOOKED_AT,
    )
    return [run for run in found if run.deployment_id is not None]


def _is_young(run: FlowRun) -> bool:
    """Whether it came into its state so lately that its process may just be starting."""
    if run.state is None or run.state_type not in LIVE:
        return False
    return datetime.now(UTC) - run.state.timestamp < SILENCE


def _heard(client: SyncPrefectClient, run_ids: Sequence[UUID]) -> set[UUID]:
    """Those that gave a sign of life within SILENCE."""
    if not run_ids:
        return set()
    question: dict[str, Any] = {
        "filter": {
            "event": {"name": ["prefect.flow-run.heartbeat"]},
            "resource": {"id": [f"prefect.flow-run.{run_id}" for run_id in run_ids]},
            "occurred": {"since": (datetime.now(UTC) - SILENCE).isoformat()},
        },
        "limit": 50,
    }
    page = client.request("POST", "/events/filter", json=question).json()
    heard = set[UUID]()
    while True:
        for event in page["events"]:
            heard.add(UUID(event["resource"]["prefect.resource.id"].removeprefix("prefect.flow-run.")))
        if not page["next_page"]:
            return heard
        page = client.request("GET", page["next_page"]).json()
