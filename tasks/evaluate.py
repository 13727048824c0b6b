"""The evaluate stage as a task."""

from __future__ import annotations

from tasks.stage import StageContext, StageResult, log_once, run_stage, stage_task
from tasks.tracking import TrackedRun
from unroll import stages
from unroll.config import AnyConfig
from unroll.evaluation.behaviour import load_behaviour
from unroll.evaluation.report import EvaluationReport


@stage_task("evaluate")
def evaluate(
    config: AnyConfig, context: StageContext, corpus: StageResult, encoded: StageResult, model: StageResult
) -> StageResult:
    """Score the model and its rival on the test split; metrics, predictions and plots go to the MLflow run."""
    artifacts = (corpus.artifact, encoded.artifact, model.artifact)
    key = stages.evaluate_key(config, *artifacts)
    result = run_stage(context, key, lambda folder: stages.evaluate(config, *artifacts, folder))
    log_once(context, result, lambda run: _log_evaluation(run, result))
    return result


def _log_evaluation(run: TrackedRun, result: StageResult) -> None:
    folder = result.artifact.folder
    report = EvaluationReport.load(folder)
    metrics: dict[str, float] = {}
    for name, interval in report.metrics.items():
        metrics |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
    if report.rival is not None:
        metrics |= {f"rival/{name}": interval.value for name, interval in report.rival.metrics.items()}
    metrics |= {f"behaviour/{result.name}": result.failure_rate.value for result in load_behaviour(folder)}
    run.log_final_metrics(metrics)
    run.log_artifact(folder / "plots", "plots")
    run.log_artifact(folder / "evaluation.json", "evaluation")
    run.log_artifact(folder / "behaviour.json", "evaluation")
    run.log_artifact(folder / "predictions.parquet", "evaluation")
    for passage in report.details.get("passages", []):
        run.log_text(passage["text"], f"evaluation/passage_temperature_{passage['temperature']:g}.txt")
