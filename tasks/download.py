"""The download stage as a task."""

from __future__ import annotations

import json

from tasks.stage import StageContext, StageResult, log_once, run_stage, stage_task
from tasks.tracking import TrackedRun
from unroll import stages
from unroll.config import AnyConfig


@stage_task("download")
def download(config: AnyConfig, context: StageContext) -> StageResult:
    """Fetch or make the corpus, and name it in the MLflow run by a digest over every row."""
    result = run_stage(context, stages.download_key(config), lambda folder: stages.download(config, folder))

    def log(run: TrackedRun) -> None:
        info = json.loads((result.artifact.folder / "corpus.json").read_text(encoding="utf-8"))
        run.log_dataset(config.data.source, result.artifact.digest, str(info.get("origin", "")), "source")
        run.log_artifact(result.artifact.folder / "corpus.json", "data")

    log_once(context, result, log)
    return result
