"""The comparison of remedies in MLflow: one parent run, a child for each trial with its curves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from tasks.provenance import code_tags
from tasks.tracking import CHAPTER_EXPERIMENT, TrackedRun, open_keyed_run, sweep_dead_runs
from unroll.chapter.comparison import trial_key
from unroll.chapter.remedies import Outcome, Trial
from unroll.config import flatten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PARENT_TAG = "mlflow.parentRunId"


def track_comparison(
    trials: Sequence[Trial],
    outcomes: Iterable[tuple[Trial, Outcome]],
    draw: Callable[[Mapping[Trial, Outcome]], Mapping[str, Figure]],
) -> tuple[str, dict[Trial, Outcome]]:
    """Record each outcome as it comes, and the figures at the end; returns the parent's run id and the outcomes.

    Started again after a kill, it goes on in the same runs. Raises RegistryError where MLflow cannot be reached.
    """
    keys = [trial_key(trial).digest for trial in trials]
    run_key = hashlib.sha256(json.dumps(sorted(keys)).encode()).hexdigest()
    settings = {"trials": len(trials), "lengths": sorted({trial.length for trial in trials})}
    sweep_dead_runs(except_key=run_key)
    with open_keyed_run(CHAPTER_EXPERIMENT, run_key, "remedies", code_tags(), settings) as parent:
        found: dict[Trial, Outcome] = {}
        for trial, outcome in outcomes:
            _record(parent, trial, outcome)
            found[trial] = outcome
        for name, figure in draw(found).items():
            parent.log_figure(figure, f"plots/{name}.png")
    return parent.run_id, found


def _record(parent: TrackedRun, trial: Trial, outcome: Outcome) -> None:
    # a trial may belong to several comparisons; each has a child of its own
    run_key = hashlib.sha256(f"{parent.run_id} {trial_key(trial).digest}".encode()).hexdigest()
    tags = {PARENT_TAG: parent.run_id, "unroll.diverged": str(outcome.diverged).lower(), **code_tags()}
    with open_keyed_run(CHAPTER_EXPERIMENT, run_key, str(trial), tags, flatten(asdict(trial))) as child:
        child.log_curves(outcome.history)
        child.log_final_metrics({"accuracy": outcome.accuracy})
