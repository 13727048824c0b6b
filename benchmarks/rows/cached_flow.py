"""What orchestration and tracking cost: a flow whose stages are all kept, and training with and without MLflow.

Together they say what share of ten minutes of training they take.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.corpora import book_config, book_corpus
from benchmarks.events import note
from benchmarks.measure import WARM_UP, Bout, Contestant, Lap, timed
from benchmarks.own_process import OwnProcess
from benchmarks.plan import Plan, Row
from benchmarks.ratios import Promise
from benchmarks.servers import running_servers
from benchmarks.timed_problem import time_training
from unroll.training.fit import make_problem
from unroll.training.memory import keep_freed_memory
from unroll.training.metrics import MetricLogger, SilentLogger
from unroll.training.seed import seed_torch

SETTINGS = (
    "data.sample_size=20000",
    "training.max_steps=5",
    "model.hidden_size=16",
    "evaluation.bootstrap_samples=100",
    "evaluation.sample_length=20",
    "evaluation.rival=false",
)
SERVERS = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")
STEPS = 100
"""Steps of a bout with or without tracking: some seconds, a point of the curves each 20."""
QUICK_STEPS = 20
TEN_MINUTES = 600.0
MOST_OF_TEN_MINUTES = 0.03


def make_row(plan: Plan) -> Row:
    """A tiny flow (its warm-up fills the store, the rounds find everything there), and a training loop twice."""
    cleanup = ExitStack()
    atexit.register(cleanup.close)
    servers = cleanup.enter_context(running_servers(plan.folder / "servers"))
    flows = {
        "unroll run": Flow(plan.folder / "flow", {}),
        "unroll run, running servers": Flow(plan.folder / "flow-servers", servers),
    }
    book_corpus("language_model", plan)
    loops = {name: OwnProcess(__name__, plan, name) for name in ("loop alone", "loop tracked")}
    laps: dict[str, list[Lap]] = {name: [] for name in (*flows, *loops)}

    def remembering(name: str, what: str, side: Flow | OwnProcess) -> Contestant:
        def bout(number: int) -> Bout:
            done = side.bout(number)
            if number != WARM_UP:
                laps[name].append(done.lap)
            return done

        return Contestant(name, what, bout)

    return Row(
        unit="s",
        data="a language model on 20,000 made characters, all six stages kept; and steps of the book's language model",
        contestants=(
            remembering("unroll run", "the whole command, no server configured", flows["unroll run"]),
            remembering(
                "unroll run, running servers",
                "the same, with a Prefect and an MLflow server running",
                flows["unroll run, running servers"],
            ),
            remembering("loop alone", "steps of Trainer.fit, nothing recorded", loops["loop alone"]),
            remembering(
                "loop tracked", "the same steps, curves and system metrics to MLflow on SQLite", loops["loop tracked"]
            ),
        ),
        promises=(
            Promise("unroll run on kept stages, seconds", "unroll run", at_most=15),
            Promise("unroll run, running servers, seconds", "unroll run, running servers", at_most=6),
        ),
        rounds=plan.num_rounds(5),
        notes=(
            "Wall clock of the whole process, start-up and a private Prefect server in it; the bare loop does nothing.",
            "The steps run on one thread: what tracking costs is told by CPU time, its own threads' included, which is "
            "what training loses where every core is at work; the clocks of two processes on two threads differ by "
            "more than that from round to round.",
        ),
        checks=lambda: {"overhead_at_ten_minutes": share_at_ten_minutes(laps)},
    )


def share_at_ten_minutes(laps: Mapping[str, Sequence[Lap]]) -> dict[str, Any]:
    """What a flow adds to ten minutes of bare training: the whole command, and what tracking adds to the steps."""
    pairs = zip(laps["loop tracked"], laps["loop alone"], strict=True)
    tracking = median(tracked.cpu_seconds / alone.cpu_seconds - 1 for tracked, alone in pairs)
    shares = {
        name: round(median(lap.seconds for lap in laps[name]) / TEN_MINUTES + max(tracking, 0.0), 4)
        for name in ("unroll run", "unroll run, running servers")
    }
    return {
        "shares": shares,
        "tracking": round(tracking, 4),
        "at_most": MOST_OF_TEN_MINUTES,
        "kept": max(shares.values()) <= MOST_OF_TEN_MINUTES,
    }


class Flow:
    """The command on stages that are kept."""

    def __init__(self, folder: Path, servers: Mapping[str, str]) -> None:
        """servers: their addresses; none for the embedded stores."""
        folder.mkdir(exist_ok=True)
        self._folder = folder
        environment = {name: value for name, value in os.environ.items() if name not in SERVERS}
        root = str(Path(__file__).resolve().parents[2])
        self._environment = {**environment, **servers, "UNROLL_HOME": str(folder), "PYTHONPATH": root}

    def bout(self, number: int) -> Bout:
        """One run of the command."""
        if number == WARM_UP:
            note("running the flow once, so that its stages are kept")
        return timed(self._run)

    def _run(self) -> float:
        command = [sys.executable, "-m", "flows.cli", "run", "language-model"]
        for setting in SETTINGS:
            command += ["--set", setting]
        subprocess.run(
            command,
            check=True,
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return 1


def make_worker(plan: Plan, name: str) -> Loop:
    """One of the two training loops, in its own process."""
    return Loop(plan, tracked=name == "loop tracked")


class Loop:
    """Steps of the book's language model in bfloat16, with or without MLflow."""

    def __init__(self, plan: Plan, tracked: bool) -> None:
        keep_freed_memory()
        torch.set_num_threads(1)
        self._steps = QUICK_STEPS if plan.quick else STEPS
        self._config = book_config("language_model", plan, "training.precision=bfloat16", "training.epochs=1000")
        seed_torch(plan.seed)
        self._problem = make_problem(self._config, book_corpus("language_model", plan).open_encoded())
        self._stack = ExitStack()
        self._logger: MetricLogger = SilentLogger()
        if tracked:
            self._logger = self._track(plan.folder / "tracking")

    def bout(self, number: int) -> Bout:
        """The steps, timed."""
        steps = 1 if number == WARM_UP else self._steps
        training = self._config.training.model_copy(update={"max_steps": steps})
        _, lap = time_training(self._problem, training, self._logger)
        return Bout(1, lap)

    def facts(self) -> dict[str, Any]:
        """Nothing to tell."""
        return {}

    def _track(self, folder: Path) -> MetricLogger:
        from flows.embedded import Workplace, prepare_environment

        os.environ["UNROLL_HOME"] = str(folder)
        prepare_environment(Workplace(folder))
        from tasks.tracking import open_run

        run = self._stack.enter_context(open_run(self._config, "benchmark", {}))
        self._stack.enter_context(run.system_metrics())
        return run.logger()
