"""The encode stage as a task."""

from __future__ import annotations

from tasks.stage import StageContext, StageResult, log_once, run_stage, stage_task
from unroll import stages
from unroll.config import AnyConfig


@stage_task("encode")
def encode(config: AnyConfig, context: StageContext, corpus: StageResult) -> StageResult:
    """Split the corpus and write it as token ids, with the vocabulary of the training split."""
    key = stages.encode_key(config, corpus.artifact)
    result = run_stage(context, key, lambda folder: stages.encode(config, corpus.artifact, folder))
    log_once(context, result, lambda run: run.log_artifact(result.artifact.folder / "encoding.json", "data"))
    return result
