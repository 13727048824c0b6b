"""Ways in which a deployed training loses its process, and how long it takes to go on; for tests and benchmarks."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.prefect_api import Prefect
from tests.stack_world import Stack, wait_until

SECONDS_TO_GO_ON = 240.0
"""What is promised on a machine that is not busy; `make recovery` measures it."""
MOST_SECONDS = 600.0
"""What no busy machine takes, and less than the quarter of an hour in which Prefect itself may take up a lost event."""
SECONDS_DARK = 180.0
"""What a reboot takes."""
LONG = [
    "data.sample_size=4000",
    "training.epochs=5000",
    "training.patience=5000",
    "training.checkpoint_seconds=1",
    "model.hidden_size=8",
    "model.embedding_dim=8",
    "evaluation.rival=false",
]
"""Settings of a training that ends by the clock alone."""


@dataclass(frozen=True)
class Trial:
    """One death and what came of it."""

    kind: str
    run_id: str
    moment: float
    """Seconds from the training's being asked for to the death."""
    seconds: float
    """From the death, or from the command that brings the stack up, until the training saves its state again; infinite
    if it did not within MOST_SECONDS of the stack's being up."""
    up_seconds: float
    """What the command that brings the stack up took of them; 0 without one."""
    states: tuple[str, ...]
    """Those of the run, from the first."""


def kill(processes: list[psutil.Process]) -> None:
    """SIGKILL, to all at once as far as may be."""
    for process in processes:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=20)


def kill_flow(stack: Stack, run_id: str) -> float:
    """The run's own process."""
    killed = time.monotonic()
    kill([process for process in stack.processes("worker") if is_of_run(process, run_id)])
    return killed


def kill_worker(stack: Stack, run_id: str) -> float:
    """The worker with all that it has started."""
    killed = time.monotonic()
    kill(stack.processes("worker"))
    return killed


def kill_postgres(stack: Stack, run_id: str) -> float:
    """Every process of the database."""
    killed = time.monotonic()
    kill(stack.processes("postgres"))
    return killed


def upgrade(stack: Stack, run_id: str) -> float:
    """The documented way: down, then up."""
    stack.down()
    started = time.monotonic()
    stack.up()
    return started


def reboot(stack: Stack, run_id: str) -> float:
    """A power cut, SECONDS_DARK without a process, and the command that brings everything up."""
    supervisor = psutil.Process(int((stack.data / "supervisord.pid").read_text()))
    kill([supervisor, *stack.processes()])
    assert stack.processes() == []
    time.sleep(SECONDS_DARK)
    started = time.monotonic()
    stack.up()
    return started


DEATHS: dict[str, Callable[[Stack, str], float]] = {
    "flow killed": kill_flow,
    "worker killed": kill_worker,
    "PostgreSQL killed": kill_postgres,
    "upgrade": upgrade,
    "reboot": reboot,
}


def try_death(stack: Stack, prefect: Prefect, kind: str, chance: random.Random, minutes: float = 30.0) -> Trial:
    """Begin a training of so many minutes, let it die at a random moment of the first, and wait until it goes on."""
    settings = [*LONG, f"training.max_minutes={minutes}", f"seed={chance.randrange(1_000_000)}"]
    run_id = prefect.begin("train-sentiment/nightly", preset="sample", settings=settings)["id"]
    asked = time.monotonic()
    time.sleep(chance.uniform(2, 60))
    if kind == "flow killed":  # it needs a process to kill
        wait_until(lambda: any(is_of_run(process, run_id) for process in stack.processes("worker")), 60)
    moment = time.monotonic() - asked
    begun = DEATHS[kind](stack, run_id)
    revived = time.time()
    try:
        wait_until(lambda: saved_at(stack) > revived and prefect.is_running(run_id), MOST_SECONDS)
        seconds = time.monotonic() - begun
    except AssertionError:
        seconds = math.inf
    up_seconds = stack.seconds_to_start if kind in ("upgrade", "reboot") else 0.0
    return Trial(kind, run_id, moment, seconds, up_seconds, tuple(prefect.states(run_id)))


def is_of_run(process: psutil.Process, run_id: str) -> bool:
    """Whether a process was started for a flow run."""
    try:
        return process.environ().get("PREFECT__FLOW_RUN_ID") == run_id
    except psutil.Error:
        return False


def saved_at(stack: Stack) -> float:
    """When a training of the stack last saved its state, by the clock."""
    folders = (stack.folder / ".unroll" / "work" / "sentiment").glob("train-*")
    return max((_changed(path) for folder in folders for path in folder.rglob("*")), default=0.0)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # replaced by a newer checkpoint
        return 0.0
