"""The train stage as a task."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tasks.progress import ProgressArtifact
from tasks.stage import StageContext, StageResult, log_once, run_stage, stage_task
from tasks.tracking import TrackedRun
from unroll import stages
from unroll.config import AnyConfig
from unroll.files import write_json
from unroll.training.energy import ENERGY_FILE, counting_energy
from unroll.training.metrics import HISTORY_FILE, History


@stage_task("train")
def train(config: AnyConfig, context: StageContext, encoded: StageResult) -> StageResult:
    """Train, or go on from the checkpoint of a killed run; the curves go to the MLflow run as they are made."""
    key = stages.train_key(config, encoded.artifact)
    work_folder = context.store.work_folder(key)
    run = context.run()
    result = run_stage(context, key, lambda folder: _train(config, encoded, work_folder, folder, run))
    log_once(context, result, lambda run: _log_training(run, result))
    return result


def _train(config: AnyConfig, encoded: StageResult, work_folder: Path, folder: Path, run: TrackedRun) -> None:
    project = config.project.replace("_", " ")
    run.log_curves(History(work_folder / HISTORY_FILE).read())  # of a killed process
    shown = ProgressArtifact(f"training-{project.replace(' ', '-')}", f"Training, {project}")
    with run.system_metrics(), closing(run.logger()) as metric_logger, counting_energy() as energy, shown:
        stages.train(config, encoded.artifact, work_folder, folder, metric_logger, shown.update)
    # beside the model, so that it is there for whichever run finds the model trained
    write_json(folder / ENERGY_FILE, asdict(energy))


def read_training(result: StageResult) -> dict[str, Any]:
    """What training took: seconds, steps, rate, clipping, restarts."""
    training: dict[str, Any] = json.loads((result.artifact.folder / "training.json").read_text(encoding="utf-8"))
    return training


def _log_training(run: TrackedRun, result: StageResult) -> None:
    # all of it if the run is new to this model
    run.log_curves(History(result.artifact.folder / HISTORY_FILE).read())
    training = read_training(result)
    numbers = {name: value for name, value in training.items() if isinstance(value, int | float)}
    run.log_final_metrics({f"training/{name}": value for name, value in numbers.items()})
    run.set_tag("unroll.weights_sha256", training["weights_sha256"])
    run.set_tag("unroll.device", training["device"])
    for name in ("training.json", HISTORY_FILE):
        run.log_artifact(result.artifact.folder / name, "training")
    passages = History(result.artifact.folder / "samples.jsonl").read()
    if passages:
        parts = [
            f"## Epoch {passage['epoch']}, step {passage['step']:,}\n\n{passage['text']}\n" for passage in passages
        ]
        run.log_text("\n".join(parts), "training/passages_by_epoch.md")
