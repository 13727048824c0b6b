"""``unroll run``: the flow of one project, or of both, on one private Prefect server."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from flows.commands.early_checks import check_output, check_servers, check_sources
from flows.embedded import prefect_server, prepare_environment, workplace
from unroll.config import AnyConfig, SentimentConfig
from unroll.errors import ConfigError
from unroll.files import write_json, writing
from unroll.presets import load_config
from unroll.stages import STAGES

logger = logging.getLogger("unroll.run")

FLOWS = ("flows.train_sentiment", "flows.train_language_model")


def run_projects(
    projects: Sequence[str], preset: str, overrides: Sequence[str], from_stage: str | None, summary_path: Path | None
) -> None:
    """Run the flows one after the other; print a table of what came out; write the summary where asked.

    Raises UnrollError, before anything is started or written where the settings, the user's files or servers do not do.
    """
    logger.info("unroll: %s, config %s", " and ".join(project.replace("_", " ") for project in projects), preset)
    configs = _check(projects, preset, overrides, from_stage, summary_path)
    place = workplace()
    prepare_environment(place)
    server = prefect_server(place)
    server.start()
    _import_flows(with_torch=server.is_private)
    with server:
        results = [_run_flow(config, preset, from_stage) for config in configs]
    # passages are for reading; the summary keeps to what scripts and CI read
    passages = [summary.pop("passages") for summary in results]
    if summary_path is not None:
        with writing(summary_path):
            write_json(summary_path, results[0] if len(results) == 1 else results)
    from flows.commands.table import print_summaries

    print_summaries(results, passages)


def _check(
    projects: Sequence[str], preset: str, overrides: Sequence[str], from_stage: str | None, summary_path: Path | None
) -> list[AnyConfig]:
    if from_stage is not None and from_stage not in STAGES:
        raise ConfigError(f"There is no stage {from_stage!r}; the stages are {', '.join(STAGES)}.")
    configs = [load_config(project, preset, overrides) for project in projects]
    if summary_path is not None:
        check_output(summary_path)
    for config in configs:
        check_sources(config)
    check_servers("PREFECT_API_URL", "MLFLOW_TRACKING_URI")
    return configs


def _import_flows(with_torch: bool) -> None:
    """Import what is heavy while a private server starts. Where nothing starts, PyTorch waits until it is needed."""
    logger.info("loading %sPrefect and MLflow", "PyTorch, " if with_torch else "")
    from flows.logs import quiet_libraries

    for flow in FLOWS:
        import_module(flow)
    if with_torch:
        import_module("torch")
    quiet_libraries()


def _run_flow(config: AnyConfig, preset: str, from_stage: str | None) -> dict[str, Any]:
    from flows.embedded import drain_history
    from flows.train_language_model import train_language_model
    from flows.train_sentiment import train_sentiment

    name = Path(preset).stem
    state = (
        train_sentiment(config, name, from_stage=from_stage, return_state=True)
        if isinstance(config, SentimentConfig)
        else train_language_model(config, name, from_stage=from_stage, return_state=True)
    )
    if state.state_details.flow_run_id is not None:
        drain_history([state.state_details.flow_run_id])
    summary: Any = state.result()
    return dict(summary)
