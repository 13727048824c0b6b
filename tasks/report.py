"""What a person and a script read after a run: a Markdown report and the summary."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.runtime import flow_run

from tasks.register import read_registration
from tasks.stage import StageContext, StageResult
from tasks.tracking import TrackedRun
from tasks.train import read_training
from unroll.config import AnyConfig
from unroll.data.encoded import EncodedCorpus
from unroll.evaluation.behaviour import BehaviourResult, behaviour_table, load_behaviour
from unroll.evaluation.intervals import Interval
from unroll.evaluation.report import EvaluationReport

TRAINING_KEYS = (
    "seconds",
    "steps",
    "tokens_per_second",
    "device",
    "precision",
    "gradient_norm_p50",
    "clipped_fraction",
    "resumed_from_step",
)


@task(name="report", task_run_name="report", persist_result=False, cache_policy=NO_CACHE)
def report(
    config: AnyConfig,
    context: StageContext,
    flow_run_id: str,
    stages: dict[str, StageResult],
) -> dict[str, Any]:
    """Summarise a run: as Markdown in MLflow and as a Prefect artifact, and as JSON values.

    Returns what ``--summary`` writes, and beside it ``passages``, which are for reading.
    """
    evaluation = EvaluationReport.load(stages["evaluate"].artifact.folder)
    summary = _summary(config, context, flow_run_id, stages, evaluation)
    run = context.run()
    behaviour = load_behaviour(stages["evaluate"].artifact.folder)
    markdown = _markdown(summary, evaluation, behaviour, run)
    key = f"run-report-{config.project.replace('_', '-')}"
    create_markdown_artifact(markdown, key=key, description=_headline(summary))
    run.describe(markdown)
    return summary


def _summary(
    config: AnyConfig,
    context: StageContext,
    flow_run_id: str,
    stages: dict[str, StageResult],
    evaluation: EvaluationReport,
) -> dict[str, Any]:
    registration, training = read_registration(stages["register"]), read_training(stages["train"])
    statistics = EncodedCorpus.open(stages["encode"].artifact.folder).statistics
    size = "items" if config.project == "sentiment" else "tokens"
    rival = evaluation.rival
    return {
        "project": config.project,
        "config": config.model_dump(mode="json"),
        "flow_run_id": flow_run_id,
        "mlflow_run_id": context.run_id,
        "stages": [result.summary() for result in stages.values()],
        "data": {
            "digest": stages["download"].artifact.digest,
            **{split: int(statistics[split][size]) for split in ("train", "validation", "test")},
        },
        "metrics": _plain(evaluation.metrics, only=evaluation.metrics),
        "rival": None if rival is None else {"name": rival.name, **_plain(rival.metrics, only=evaluation.metrics)},
        "model": {
            "name": registration["name"],
            "version": registration["version"],
            "decision": registration["outcome"],
            "reason": registration["reason"],
            "weights_sha256": training["weights_sha256"],
        },
        "training": {name: training[name] for name in TRAINING_KEYS},
        "passages": evaluation.details.get("passages", []),
        "seconds": round(sum(result.seconds for result in stages.values()), 3),
    }


def _plain(metrics: Mapping[str, Interval], only: Container[str]) -> dict[str, dict[str, float]]:
    return {name: asdict(interval) for name, interval in metrics.items() if name in only}


def _markdown(
    summary: dict[str, Any], evaluation: EvaluationReport, behaviour: Sequence[BehaviourResult], run: TrackedRun
) -> str:
    model, training = summary["model"], summary["training"]
    rival = evaluation.rival.metrics if evaluation.rival else {}
    rival_name = evaluation.rival.name if evaluation.rival else "no rival"
    lines = [
        f"# {summary['project'].replace('_', ' ')}: {model['name']} version {model['version']} {model['decision']}",
        "",
        model["reason"],
        "",
        _links(summary, run),
        "",
        f"| test metric | model, {evaluation.confidence:.0%} interval | {rival_name} |",
        "|---|---|---|",
        *(f"| {name} | {_cell(value)} | {_cell(rival.get(name))} |" for name, value in evaluation.metrics.items()),
        "",
        *([*behaviour_table(behaviour), ""] if behaviour else []),
        f"Trained {training['steps']:,} steps in {training['seconds']:.0f} s on {training['device']} in "
        f"{training['precision']}: {training['tokens_per_second']:,.0f} tokens/s, {training['clipped_fraction']:.1%} "
        "of the steps clipped.",
        "",
        "| stage | | seconds | why |",
        "|---|---|---|---|",
        *(_stage_row(stage) for stage in summary["stages"]),
    ]
    for passage in summary["passages"]:
        lines += ["", f"Generated at temperature {passage['temperature']:g}:", "", "```text", passage["text"], "```"]
    return "\n".join(lines) + "\n"


def _headline(summary: dict[str, Any]) -> str:
    """The outcome in a line, for lists of reports."""
    model, name = summary["model"], "test/accuracy" if summary["project"] == "sentiment" else "test/bits_per_char"
    value = summary["metrics"][name]["value"]
    return f"{model['name']} version {model['version']} {model['decision']}; {name} {value:.4f}"


def _links(summary: dict[str, Any], run: TrackedRun) -> str:
    """From either page to the other; on the embedded stores they open while ``unroll ui`` runs on its own ports."""
    pages = f"[MLflow run {summary['mlflow_run_id']}]({run.page()})"
    flow_page = flow_run.ui_url
    name = f"Prefect flow run {summary['flow_run_id']}"
    pages += f" · [{name}]({flow_page})" if flow_page else f" · {name}"
    return pages if run.url() else f"{pages} (while `unroll ui` runs)"


def _stage_row(stage: dict[str, Any]) -> str:
    verb = "skipped" if stage["skipped"] else "run"
    return f"| {stage['name']} | {verb} | {stage['seconds']:.1f} | {stage['reason']} |"


def _cell(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval.value:.4f} ({interval.low:.4f} to {interval.high:.4f})"
