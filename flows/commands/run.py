"""``unroll run``: the flow of one project, or of both, on one private Prefect server."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.embedded import prefect_server, prepare_environment, workplace
from unroll.config import AnyConfig, SentimentConfig, load_config
from unroll.errors import ConfigError
from unroll.files import write_json, writing
from unroll.stages import STAGES

logger = logging.getLogger("unroll.run")


def run_projects(
    projects: Sequence[str], preset: str, overrides: Sequence[str], from_stage: str | None, summary_path: Path | None
) -> None:
    """Run the flows one after the other; print a table of what came out; write the summary where asked.

    Raises UnrollError, before anything is started where the settings do not fit.
    """
    if from_stage is not None and from_stage not in STAGES:
        raise ConfigError(f"There is no stage {from_stage!r}; the stages are {', '.join(STAGES)}.")
    configs = [load_config(project, preset, overrides) for project in projects]
    logger.info("unroll: %s, config %s", " and ".join(project.replace("_", " ") for project in projects), preset)
    place = workplace()
    prepare_environment(place)
    server = prefect_server(place)
    server.start()
    _import_flows()
    with server:
        summaries = [_run_flow(config, preset, from_stage, show_debug=False) for config in configs]
    if summary_path is not None:
        with writing(summary_path):
            write_json(summary_path, summaries[0] if len(summaries) == 1 else summaries)
    from flows.commands.table import print_summaries

    print_summaries(summaries)


def _import_flows() -> None:
    """Import what is heavy while the server starts."""
    import flows.train_language_model
    import flows.train_sentiment
    from flows.logs import quiet_libraries

    quiet_libraries()


def _run_flow(config: AnyConfig, preset: str, from_stage: str | None, show_debug: bool) -> dict[str, Any]:
    from flows.embedded import drain_history
    from flows.train_language_model import train_language_model
    from flows.train_sentiment import train_sentiment

    name = Path(preset).stem
    state = (
        train_sentiment(config, name, from_stage, return_state=True)
        if isinstance(config, SentimentConfig)
        else train_language_model(config, name, from_stage, return_state=True)
    )
    if state.state_details.flow_run_id is not None:
        drain_history([state.state_details.flow_run_id])
    summary: dict[str, Any] = state.result()
    return summary
