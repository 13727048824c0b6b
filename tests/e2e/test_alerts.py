"""Every alert arrives by each way that there is, once, with its words as they are: on a real server, by a real worker.

The server's database is the stack's, PostgreSQL: SQLite is locked too often if several runs begin at once. Runs are
made to fail, crash or hang by setting their states as a run's process would; the worker and the alerts' own runs are
real. The server's and Prefect's worker's times are shortened. Each arrival is printed with its seconds.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import VariableUpdate
from prefect.client.schemas.objects import WorkPoolStatus
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.automations import PREFIX, make_automations
from tasks.run_alerts import STUCK_VARIABLE
from tests.command import Command
from tests.prefect_world import Hook, PrefectServer
from tests.stack_world import new_stack, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PAGES = "http://prefect.example"
STUCK = timedelta(hours=0.005)
ALL_BUT_THE_DATABASE = ("mlflow-upgrade", "prefect", "mlflow", "deploy", "worker", "serve")
QUICK_SERVER = {"PREFECT_SERVER_SERVICES_FOREMAN_LOOP_SECONDS": "2"}
QUICK_WORKER = {"PREFECT_WORKER_HEARTBEAT_SECONDS": "5", "PREFECT_WORKER_QUERY_SECONDS": "2"}
SECONDS_TO_TELL = 120.0

HOSTILE = "\"quoted\" \\ 'single' {{ 7 * 7 }} {% raw %} $(touch pwned) `touch pwned` %s <b>&amp; zwölf 電 \U0001f480"
NOBODY = ("Unroll: no worker", "No worker answers for the work pool unroll; its runs wait.")
REFUSED = "whatever the command refuses"
COMMAND = (
    'f=$(mktemp "$TOLD/XXXXXX"); { printf "%s\\n" "$UNROLL_ALERT_SUBJECT"; cat; } > "$f"; '
    f'if grep -q "{REFUSED}" "$f"; then echo "no such list" >&2; exit 3; fi; mv "$f" "$f.told"'
)


@dataclass
class World:
    """A server with our deployments, a worker that can be killed, and the two ends at which alerts arrive."""

    server: PrefectServer
    hook: Hook
    command: Command
    client: SyncPrefectClient
    worker: subprocess.Popen[bytes] | None = None
    block: UUID = field(default_factory=uuid4)

    @property
    def folder(self) -> Path:
        return self.command.folder

    def environment(self) -> dict[str, str]:
        ours = {"PREFECT_API_URL": self.server.api, "PREFECT_UI_URL": PAGES, "UNROLL_ALERT_COMMAND": COMMAND}
        ours |= {"UNROLL_WEBHOOK_URL": self.hook.url, "TOLD": str(self.folder / "told"), "TMPDIR": str(self.folder)}
        return self.command.environment() | ours

    def start_worker(self) -> None:
        """Have one that is heard, unless there is one already."""
        command = [sys.executable, "-m", "flows.worker", "--pool", "unroll", "--name", "worker"]
        if self.worker is None:
            with (self.folder / "worker.log").open("ab") as log:
                self.worker = subprocess.Popen(
                    command, cwd=self.folder, env=self.environment() | QUICK_WORKER, stdout=log, stderr=log
                )
        wait_until(lambda: self.client.read_work_pool("unroll").status == WorkPoolStatus.READY, 60)

    def kill_worker(self) -> None:
        """With all of its processes, as if its machine were gone."""
        if self.worker is not None:
            for process in [*psutil.Process(self.worker.pid).children(recursive=True), self.worker]:
                process.kill()
            self.worker.wait()
            self.worker = None

    def told(self) -> list[str]:
        """What the command was given: the subject's line, then the body."""
        return [path.read_text(encoding="utf-8") for path in (self.folder / "told").glob("*.told")]

    def tell_by(self, ways: tuple[str, ...]) -> None:
        """Have the automations tell by these ways."""
        deployment = self.client.read_deployment_by_name("alert/command").id
        ours = {each.name: each.id for each in self.client.read_automations() if each.name.startswith(PREFIX)}
        block, told = (self.block if "webhook" in ways else None), (deployment if "command" in ways else None)
        for automation in make_automations(block, told):
            self.client.update_automation(ours[automation.name], automation)

    def begin(self, name: str) -> str:
        """A run of the nightly deployment that is running, as far as the server can know."""
        nightly = self.client.read_deployment_by_name("train-sentiment/nightly").id
        body = {"name": name, "state": {"type": "PENDING"}}
        run = self.server.ask(f"/deployments/{nightly}/create_flow_run", body)["id"]
        self.set_state(run, "RUNNING", "Running")
        return str(run)

    def set_state(self, run: str, kind: str, name: str, message: str = "") -> None:
        state = {"type": kind, "name": name, "message": message}
        self.server.ask(f"/flow_runs/{run}/set_state", {"state": state, "force": True})

    def drift(self, reason: str) -> None:
        event = {
            "id": str(uuid4()),
            "occurred": datetime.now(UTC).isoformat(),
            "event": "unroll.drift",
            "resource": {"prefect.resource.id": "unroll.project.sentiment"},
            "payload": {"project": "sentiment", "preset": "sample", "settings": [], "reason": reason},
        }
        self.server.ask("/events", [event])

    def alerts(self) -> list[dict[str, Any]]:
        deployment = self.client.read_deployment_by_name("alert/command").id
        found: list[dict[str, Any]] = self.server.ask(
            "/flow_runs/filter", {"deployments": {"id": {"any_": [str(deployment)]}}}
        )
        return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("alerts")
    (folder / "told").mkdir()
    hook = Hook()
    with new_stack() as stack, ExitStack() as closing:
        closing.callback(hook.close)
        done = stack("up", *(option for name in ALL_BUT_THE_DATABASE for option in ("--without", name)))
        assert done.returncode == 0, done.stderr
        login = f"unroll:{stack.secrets['POSTGRES_PASSWORD']}@127.0.0.1:{stack.ports['postgres']}"
        database = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{login}/prefect"}
        server = PrefectServer(tmp_path_factory.mktemp("prefect"), **QUICK_SERVER, **database)
        closing.callback(server.close)
        closing.enter_context(temporary_settings({PREFECT_API_URL: server.api}))
        with SyncPrefectClient(server.api) as client:
            made = World(server, hook, Command(folder), client)
            closing.callback(made.kill_worker)
            done = made.command("deploy", environment=made.environment())
            assert done.returncode == 0, done.stderr
            assert "Alerts go to the webhook and the command" in done.stdout
            made.block = client.read_block_document_by_name("unroll-alerts", "webhook").id
            for name in ("watch/changes", "retrain/on-change"):  # neither has a part in this
                client.pause_deployment(client.read_deployment_by_name(name).id)
            hours = STUCK.total_seconds() / 3600  # shorter than `unroll deploy` takes
            client.update_variable(VariableUpdate(name=STUCK_VARIABLE, value=hours))
            # what is started again after a crash waits there
            client.update_work_queue(client.read_work_queue_by_name("training", "unroll").id, is_paused=True)
            triggers = [each for each in client.read_automations() if each.name == "retrain on a change or a drift"]
            for trigger in triggers:
                client.delete_automation(trigger.id)
            yield made


@dataclass(frozen=True)
class Alert:
    """One that is awaited from the moment at which it is made."""

    kind: str
    subject: str
    body: str
    begun: float = field(default_factory=time.monotonic)

    def arrivals(self, world: World) -> dict[str, int]:
        """How often it arrived so far, by each end."""
        line = " ".join(self.subject.split())
        return {
            "webhook": world.hook.told.count(f"{self.subject}\n{self.body}"),
            "command": world.told().count(f"{line}\n{self.body}"),
        }


def await_arrivals(
    world: World, ways: tuple[str, ...], alerts: list[Alert], known: dict[str, int], set_up: tuple[str, ...] = ()
) -> None:
    """Wait until each has arrived by each of the ways, beyond what is known already; print when it came."""
    awaited = {(alert, way) for alert in alerts for way in ways}
    deadline = time.monotonic() + SECONDS_TO_TELL
    while awaited:
        for alert, way in list(awaited):
            if alert.arrivals(world)[way] > known[way]:
                seconds = time.monotonic() - alert.begun
                print(
                    f"told by {' and '.join(set_up or ways):19} {alert.kind:9} by the {way} after {seconds:5.1f} s",
                    flush=True,
                )
                awaited.remove((alert, way))
        missing = [(alert.kind, way) for alert, way in awaited]
        assert time.monotonic() < deadline, f"{missing} did not arrive; these did: {world.hook.told} {world.told()}"
        time.sleep(0.2)


# the command alone comes first: the server has rendered no webhook yet
WAYS = [("command",), ("webhook",), ("webhook", "command")]


@pytest.mark.parametrize("ways", WAYS)
def test_a_failure_a_crash_a_run_without_end_and_drift_are_told_once(world: World, ways: tuple[str, ...]) -> None:
    world.tell_by(ways)
    world.start_worker()
    names = {kind: f"night\nly {kind} by {ways}; $(touch pwned)" for kind in ("failed", "crashed", "endless")}
    words = {kind: f"{kind} by {ways}: {HOSTILE}" for kind in ("failed", "crashed", "drift")}
    runs = {kind: world.begin(name) for kind, name in names.items()}
    world.set_state(runs["failed"], "FAILED", "Failed", words["failed"])
    world.set_state(runs["crashed"], "CRASHED", "Crashed", words["crashed"])
    world.drift(words["drift"])
    subjects = {kind: f"Unroll: {name} (nightly)" for kind, name in names.items()}
    pages = {kind: f"{PAGES}/runs/flow-run/{run}" for kind, run in runs.items()}
    again = "Started again after its process was lost. Death 1 of 3."
    alone = "no message\nIt is left alone; cancel it if it hangs."
    alerts = [
        Alert("failure", f"{subjects['failed']} failed", f"{words['failed']}\n{pages['failed']}"),
        Alert("crash", f"{subjects['crashed']} crashed", f"{words['crashed']}\n{again}\n{pages['crashed']}"),
        Alert("no end", f"{subjects['endless']} has been running for {STUCK}", f"{alone}\n{pages['endless']}"),
        Alert("drift", "Unroll: drift in sentiment", words["drift"]),
    ]
    await_arrivals(world, ways, alerts, {"webhook": 0, "command": 0})
    for kind in ("endless", "crashed"):
        world.set_state(runs[kind], "CANCELLED", "Cancelled")
    once = {way: int(way in ways) for way in ("webhook", "command")}
    assert [alert.arrivals(world) for alert in alerts] == [once] * 4
    assert len([text for text in [*world.told(), *world.hook.told] if f" by {ways}" in text]) == 4 * len(ways)
    assert not list(world.folder.rglob("pwned"))


@pytest.mark.parametrize("ways", WAYS)
def test_that_no_worker_answers_is_told(world: World, ways: tuple[str, ...]) -> None:
    world.tell_by(ways)
    world.start_worker()
    known = Alert("no worker", *NOBODY).arrivals(world)
    runs = len(world.alerts())
    world.kill_worker()
    alert = Alert("no worker", *NOBODY)
    if "webhook" in ways:
        await_arrivals(world, ("webhook",), [alert], known, ways)
    if "command" in ways:  # it is a worker that runs the command: the words wait for the next one
        wait_until(lambda: len(world.alerts()) > runs, 60)
        world.start_worker()
        await_arrivals(world, ("command",), [alert], known, ways)


def test_a_command_that_fails_is_seen_and_told_of_by_nobody_again(world: World) -> None:
    world.tell_by(("command",))
    world.start_worker()
    known = {each["id"] for each in world.alerts()}
    world.set_state(world.begin("refused"), "FAILED", "Failed", f"{REFUSED} {'long ' * 30_000}")

    def new() -> list[dict[str, Any]]:
        found = [each for each in world.alerts() if each["id"] not in known]
        # beside a word that no worker answers, which a slow machine may make true
        return [each for each in found if each["parameters"]["subject"] != NOBODY[0]]

    wait_until(lambda: bool(new()) and new()[0]["state_type"] in ("FAILED", "COMPLETED", "CRASHED"), SECONDS_TO_TELL)
    time.sleep(15)  # a look of the worker's, for an alert about the alert
    [alert] = new()
    assert (alert["state_name"], alert["run_count"]) == ("Failed", 1)
    assert "ended with 3: no such list" in alert["state"]["message"]
    assert len(alert["parameters"]["body"]) < 4000
