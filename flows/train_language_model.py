"""The language-model flow."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.training import run_stages
from unroll.config import LanguageModelConfig


@flow(name="train-language-model", flow_run_name="language model {preset}", log_prints=False)
def train_language_model(
    config: LanguageModelConfig = LanguageModelConfig(),  # noqa: B008 - frozen; the default of the form
    preset: str = "custom",
    from_stage: str | None = None,
) -> dict[str, Any]:
    """Train, judge and register a character language model."""
    return run_stages(config, preset, from_stage)
