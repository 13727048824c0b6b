"""Runs of a real Prefect server, whatever it has forgotten: found by looking, started again, failed, told of once."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import get_client
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import State, StateType
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks import reconcile, run_alerts, run_fate
from tasks.reconcile import Reconciler
from tasks.run_fate import DIED, STOPPED
from tasks.run_lock import RunLock
from tests.prefect_world import PrefectServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SHORT = timedelta(seconds=1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    running = PrefectServer(tmp_path_factory.mktemp("prefect"))
    yield running
    running.close()


@pytest.fixture
def world(server: PrefectServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for module in (reconcile, run_fate):
        monkeypatch.setattr(module, "SILENCE", SHORT)
        monkeypatch.setattr(module, "HEARING", SHORT)
    monkeypatch.setattr(run_fate, "WAITS", (SHORT, SHORT))
    monkeypatch.setenv("PREFECT_UI_URL", "http://pages")
    with temporary_settings({PREFECT_API_URL: server.api}), get_client(sync_client=True) as client:
        yield World(client, server, tmp_path)


class World:
    """A pool of its own, whose worker is this test."""

    def __init__(self, client: SyncPrefectClient, server: PrefectServer, runs: Path) -> None:
        self.client, self.server, self.runs = client, server, runs
        self.pool = f"pool-{random.randrange(10**9)}"
        client.create_work_pool(WorkPoolCreate(name=self.pool, type="process"))
        flow_id = client.create_flow_from_name("train")
        self.deployment_id = client.create_deployment(
            flow_id, f"nightly-{self.pool}", work_pool_name=self.pool, tags=["unroll"]
        )
        self.reconciler = Reconciler(self.pool, runs)

    def run(self, *states: str, message: str = "") -> UUID:
        """A run that has gone through these states after SCHEDULED."""
        run = self.client.create_flow_run_from_deployment(self.deployment_id, tags=["unroll"])
        for state in states:
            self.set(run.id, state, message)
        return run.id

    def set(self, run_id: UUID, state: str, message: str = "") -> None:
        self.client.set_flow_run_state(run_id, State(type=StateType(state), message=message), force=True)

    def beat(self, run_id: UUID) -> None:
        event = {
            "id": str(UUID(int=random.getrandbits(128), version=4)),
            "occurred": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
            "event": "prefect.flow-run.heartbeat",
            "resource": {"prefect.resource.id": f"prefect.flow-run.{run_id}"},
        }
        self.client.request("POST", "/events", json=[event])

    def state(self, run_id: UUID) -> tuple[str, str]:
        state = self.client.read_flow_run(run_id).state
        assert state is not None
        return state.type.value, state.message or ""

    def look(self, seconds: float = 1.2) -> list[str]:
        time.sleep(seconds)
        return self.reconciler.look()

    def told(self, event: str, run_id: UUID, at_least: int = 1) -> list[dict[str, Any]]:
        """Events about a run, once there are so many."""
        deadline = time.monotonic() + 20
        while True:
            found = self.server.events(event)
            mine = [one for one in found if one["resource"]["prefect.resource.id"].endswith(str(run_id))]
            if len(mine) >= at_least or time.monotonic() > deadline:
                return mine
            time.sleep(0.5)


@pytest.mark.parametrize("state", ["RUNNING", "PENDING"])
@pytest.mark.parametrize("was_here", [True, False])
def test_a_run_that_a_new_server_finds_without_a_process_goes_on(world: World, state: str, was_here: bool) -> None:
    run_id = world.run("PENDING", state) if state == "RUNNING" else world.run(state)
    if was_here:
        (world.runs / f"{run_id}.lock").touch()
    for _ in range(6):
        world.look(random.uniform(0.3, 1.5))
        if world.state(run_id)[0] == "SCHEDULED":
            break
    assert world.state(run_id) == ("SCHEDULED", f"{DIED} Death 1 of 3.")
    run = world.client.read_flow_run(run_id)
    assert run.state_name == "AwaitingRetry"
    assert run.next_scheduled_start_time == run.expected_start_time  # it keeps its place in the queue
    assert len(world.told(run_alerts.CRASHED, run_id, at_least=int(state == "RUNNING"))) == (state == "RUNNING")


def test_a_run_that_this_machines_worker_took_and_never_began_needs_no_second_look(world: World) -> None:
    mine, anothers = world.run("PENDING"), world.run("PENDING")
    world.client.update_flow_run_labels(mine, {reconcile.WORKER_LABEL: "here"})
    world.client.update_flow_run_labels(anothers, {reconcile.WORKER_LABEL: "there"})
    time.sleep(1.2)
    Reconciler(world.pool, world.runs, "here").look()
    assert [world.state(run_id)[0] for run_id in (mine, anothers)] == ["CRASHED", "PENDING"]


def test_a_run_that_gives_signs_of_life_or_holds_its_lock_is_left_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (reconcile, run_fate):
        monkeypatch.setattr(module, "SILENCE", timedelta(seconds=8))  # the server writes events down every five seconds
    beating, locked = world.run("PENDING", "RUNNING"), world.run("PENDING", "RUNNING")
    crashed_by_mistake = world.run("PENDING", "RUNNING", "CRASHED")
    with RunLock(world.runs, str(locked)).hold(), RunLock(world.runs, str(crashed_by_mistake)).hold():
        for _ in range(12):
            world.beat(beating)
            world.look(1)
        assert [world.state(run_id)[0] for run_id in (beating, locked, crashed_by_mistake)] == [
            "RUNNING",
            "RUNNING",
            "CRASHED",
        ]


def test_what_dies_each_time_before_it_begins_is_started_three_times_and_told_of_once(world: World) -> None:
    run_id, starts = world.run(), 0
    while world.state(run_id)[0] == "SCHEDULED":
        starts += 1
        world.set(run_id, "PENDING")
        world.set(run_id, "CRASHED", "Process exited with status code: 1.")
        for _ in range(random.randint(1, 3)):  # whoever looks, and however often
            world.look(1.1)
    assert starts == 3
    state, message = world.state(run_id)
    assert state == "FAILED"
    assert "died 3 times" in message
    assert "an import that fails" in message
    world.look()
    world.look()
    (told,) = world.told(run_alerts.FAILED, run_id)
    assert told["payload"]["subject"].startswith("Unroll: ")
    assert told["payload"]["subject"].endswith(" failed")
    assert f"http://pages/runs/flow-run/{run_id}" in told["payload"]["body"]
    assert world.told(run_alerts.CRASHED, run_id, at_least=0) == []
    # a person tries once more: all its starts are there again
    world.set(run_id, "SCHEDULED")
    world.set(run_id, "PENDING")
    world.set(run_id, "CRASHED", "Process exited with status code: 1.")
    world.look()
    assert world.state(run_id) == ("SCHEDULED", f"{DIED} Death 1 of 3.")


def test_a_run_that_was_asked_to_stop_goes_on_as_often_as_it_likes_without_an_alert(world: World) -> None:
    run_id = world.run()
    for number in range(5):
        world.set(run_id, "PENDING")
        world.set(run_id, "RUNNING")
        by_note = bool(number % 2)
        if by_note:
            RunLock(world.runs, str(run_id)).note_stop()
        world.set(run_id, "CRASHED", "" if by_note else "Execution was aborted by a termination signal.")
        world.look()
        assert world.state(run_id) == ("SCHEDULED", STOPPED)
        with RunLock(world.runs, str(run_id)).hold():
            pass  # the next process
    assert world.told(run_alerts.CRASHED, run_id, at_least=0) == []


def test_several_that_look_at_once_start_a_run_once(world: World) -> None:
    run_id = world.run("PENDING", "RUNNING", "CRASHED")
    time.sleep(1.2)

    def look() -> list[str]:
        return Reconciler(world.pool, world.runs).look()

    contexts = [copy_context() for _ in range(4)]  # which server is asked stands in the context
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda context: context.run(look), contexts))
    assert sorted(len(done) for done in found) == [0, 0, 0, 1]
    states = [state.name for state in world.client.read_flow_run_states(run_id)]
    assert states.count("AwaitingRetry") == 1


def test_a_run_that_does_not_end_is_told_of_once_and_left_running(world: World) -> None:
    from prefect.variables import Variable

    Variable.set(run_alerts.STUCK_VARIABLE, 1 / 3600, overwrite=True)
    run_id = world.run("PENDING", "RUNNING")
    with RunLock(world.runs, str(run_id)).hold():
        for _ in range(3):
            world.look()
        assert world.state(run_id)[0] == "RUNNING"
    (told,) = world.told(run_alerts.STUCK, run_id)
    assert "has been running for 0:00:01" in told["payload"]["subject"]


def test_after_a_server_that_did_not_answer_the_time_is_counted_anew(world: World) -> None:
    run_id = world.run("PENDING", "RUNNING")
    world.look(1.2)
    time.sleep(1.2)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}), pytest.raises(Exception, match="refused"):
        world.reconciler.look()
    assert world.look(0) == []  # it may live on another machine, whose heartbeats have not come through yet
    assert world.state(run_id)[0] == "RUNNING"
    world.look(1.2)
    assert world.state(run_id)[0] == "CRASHED"
