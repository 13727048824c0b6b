"""The order of the stages, the same for both projects."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlflow
from prefect.runtime import flow_run

from flows.embedded import workplace
from tasks.download import download
from tasks.encode import encode
from tasks.evaluate import evaluate
from tasks.origin import current_origin, record_origin
from tasks.register import Candidate, register
from tasks.report import report
from tasks.stage import StageContext, StageResult
from tasks.tracking import open_run, sweep_dead_runs
from tasks.train import train
from tasks.validate import validate
from unroll.config import AnyConfig, config_digest
from unroll.data.sources import source_fingerprint
from unroll.errors import ConfigError
from unroll.presets import load_config
from unroll.retraining import CODE_OF_A_RUN
from unroll.stages import mirror_folder
from unroll.store import source_digests

logger = logging.getLogger("unroll.flow")


@dataclass(frozen=True)
class Trained:
    """What the stages made, and the run's summary."""

    context: StageContext
    stages: dict[str, StageResult]
    summary: dict[str, Any]


def run_stages(config: AnyConfig, preset: str, from_stage: str | None) -> dict[str, Any]:
    """Download, validate, encode, train, evaluate, register; returns the run's summary."""
    return train_and_judge(config, preset, from_stage).summary


def train_and_judge(config: AnyConfig, preset: str, from_stage: str | None) -> Trained:
    """As `run_stages`, for those who want to know more than the summary.

    One MLflow run holds what one config, data and code make, however often the flow is killed or repeated.
    """
    logger.info("%s: looking for its MLflow run", config.project.replace("_", " "))
    run_key = make_run_key(config)
    sweep_dead_runs(except_key=run_key)
    tags = {"unroll.preset": preset, "prefect.flow_run_id": str(flow_run.id), "prefect.flow_run_url": _page()}
    with open_run(config, run_key, tags) as run:
        context = StageContext(str(workplace().store), mlflow.get_tracking_uri(), run.run_id, from_stage)
        context.check()
        record_origin(run, current_origin(config))

        corpus = download(config, context)
        data_report = validate(config, context, corpus)
        encoded = encode(config, context, corpus)
        model = train(config, context, encoded)
        evaluation = evaluate(config, context, corpus, encoded, model)
        version = register(config, context, Candidate(corpus, data_report, encoded, model, evaluation))

        results = (corpus, data_report, encoded, model, evaluation, version)
        stages = {stage.name: stage for stage in results}
        return Trained(context, stages, report(config, context, str(flow_run.id), stages))


def settle(project: str, config: AnyConfig | None, preset: str, settings: Sequence[str]) -> AnyConfig:
    """The settings of a flow run: those given in full, or a preset's with some changed. Raises ConfigError for both."""
    if config is not None and settings:
        raise ConfigError(
            f"The parameters config and settings were both given ({', '.join(settings)}); config holds every setting, "
            "so change it there, or leave it out and name a preset."
        )
    return config or load_config(project, preset, settings)


def make_run_key(config: AnyConfig) -> str:
    """SHA-256 (hex) over the settings, the outside data and the code: what one MLflow run stands for."""
    code = source_digests(CODE_OF_A_RUN)
    parts = [config_digest(config), source_fingerprint(config.data, mirror_folder()), code]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _page() -> str:
    return str(flow_run.ui_url or "")
