"""The sentiment flow."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.embedded import workplace
from flows.run_names import training_name
from flows.training import run_stages, settle
from tasks.admission import MOST_MINUTES_LATE, admission
from unroll.config import SentimentConfig
from unroll.stages import StageName


@flow(name="train-sentiment", flow_run_name=training_name, log_prints=False)
def train_sentiment(
    config: SentimentConfig | None = None,
    preset: str = "sample",
    settings: list[str] = [],  # noqa: B006 - the default of the form; never changed
    from_stage: StageName | None = None,
    most_minutes_late: float = MOST_MINUTES_LATE,
) -> dict[str, Any] | State[Any]:
    """Train, judge and register a classifier of reviews.

    Args:
        config: Every setting, in full. Without it they are those of the preset.
        preset: Name or path of a preset; beside a config, the name that the run goes by.
        settings: section.key=value each, over the preset's.
        from_stage: Run this stage and those after it anew.
        most_minutes_late: A scheduled run that begins later than this is skipped.
    """
    with admission(workplace().runs, most_minutes_late) as refusal:
        return refusal or run_stages(settle("sentiment", config, preset, settings), preset, from_stage)
