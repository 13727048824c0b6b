"""What orchestration and tracking cost: a flow whose stages are all kept, on the embedded stores."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks.events import note
from benchmarks.measure import WARM_UP, Bout, Contestant, timed
from benchmarks.plan import Plan, Row
from benchmarks.ratios import Promise

SETTINGS = (
    "data.sample_size=20000",
    "training.max_steps=5",
    "model.hidden_size=16",
    "evaluation.bootstrap_samples=100",
    "evaluation.sample_length=20",
    "evaluation.rival=false",
)
SERVERS = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")


def make_row(plan: Plan) -> Row:
    """A tiny flow: its warm-up fills the store, the rounds find everything there."""
    folder = plan.folder / "flow"
    folder.mkdir(exist_ok=True)

    def bout(number: int) -> Bout:
        if number == WARM_UP:
            note("running the flow once, so that its stages are kept")
        return timed(lambda: _run(folder))

    return Row(
        unit="s",
        data="a language model on 20,000 made characters, all six stages kept",
        contestants=(Contestant("unroll run", "the whole command, no server configured", bout),),
        promises=(Promise("unroll run on kept stages, seconds", "unroll run", at_most=15),),
        rounds=plan.num_rounds(3),
        notes=(
            "Wall clock of the whole process, start-up and a private Prefect server in it; the bare loop does nothing.",
        ),
    )


def _run(folder: Path) -> float:
    command = [sys.executable, "-m", "flows.cli", "run", "language-model"]
    for setting in SETTINGS:
        command += ["--set", setting]
    environment = {name: value for name, value in os.environ.items() if name not in SERVERS}
    environment |= {"UNROLL_HOME": str(folder), "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    subprocess.run(
        command, check=True, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    return 1
