"""The validate stage as a task: the data report, in MLflow and as a Prefect artifact."""

from __future__ import annotations

import json
import logging
from typing import Any

from prefect.artifacts import create_markdown_artifact

from tasks.stage import StageContext, StageResult, log_once, run_stage, stage_task
from unroll import stages
from unroll.config import AnyConfig
from unroll.data.validation import DataReport

logger = logging.getLogger("unroll.validate")


@stage_task("validate")
def validate(config: AnyConfig, context: StageContext, corpus: StageResult) -> StageResult:
    """Check the corpus. Raises ValidationError for errors, found now or in an earlier run; warnings are logged."""
    key = stages.validate_key(config, corpus.artifact)
    result = run_stage(context, key, lambda folder: stages.validate(config, corpus.artifact, folder))
    report = read_data_report(result)
    markdown = report.to_markdown()
    slug = config.project.replace("_", "-")
    create_markdown_artifact(markdown, key=f"data-report-{slug}", description=f"Data report, {config.project}")
    log_once(context, result, lambda run: run.log_artifact(result.artifact.folder / "data_report.md", "data"))
    for warning in report.warnings:
        logger.warning("data: %s (%s): %s", warning.name.replace("_", " "), f"{warning.count:,}", warning.message)
    report.raise_on_error()
    return result


def read_data_report(result: StageResult) -> DataReport:
    """The report that the stage wrote."""
    plain: dict[str, Any] = json.loads((result.artifact.folder / "data_report.json").read_text(encoding="utf-8"))
    return DataReport.from_dict(plain)
