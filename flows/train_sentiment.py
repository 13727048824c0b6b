"""The sentiment flow."""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.training import run_stages
from unroll.config import SentimentConfig


@flow(name="train-sentiment", flow_run_name="sentiment {preset}", log_prints=False)
def train_sentiment(
    config: SentimentConfig = SentimentConfig(),  # noqa: B008 - frozen; the default of the form
    preset: str = "custom",
    from_stage: str | None = None,
) -> dict[str, Any]:
    """Train, judge and register a classifier of reviews."""
    return run_stages(config, preset, from_stage)
