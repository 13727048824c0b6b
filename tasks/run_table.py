"""What an experiment's page shows first: a description, and a view of the run table with the columns that matter.

MLflow keeps the columns that somebody chose in his browser, and a view that he saved in a tag of the experiment, where
everybody has it in the menu "Views" and by link (seen in MLflow 3.17). Such a view is made here, and linked from the
description and by ``unroll ui``.
"""

from __future__ import annotations

import json
import time

from unroll.config import CONFIG_CLASSES

VIEW = "unroll"
"""The view's key, in links."""
VIEW_NAME = "Results, rival and settings"

VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"
NOTE_TAG = "mlflow.note.content"
KIND_TAG, KIND = "mlflow.experimentKind", "custom_model_development"
"""What an experiment is for: training runs and their curves, rather than traces of prompts."""
TRAINING_VIEW = "workflowType=machine_learning"
"""In a link: open MLflow's page for that. The page of 3.17 goes by this and not by the tag, and begins with prompts in
a browser whose user has not chosen (seen in Chromium)."""

METRICS = {
    "sentiment": ("test/accuracy", "rival/test/accuracy"),
    "language_model": ("test/bits_per_char", "rival/test/bits_per_char"),
}
COST = ("training/seconds",)
COLUMN_WIDTH = 165
"""Pixels: the names of metrics and settings can be read."""
SETTINGS = ("data.source", "model.cell", "model.hidden_size", "training.learning_rate")


def experiment_tags(name: str, experiment_id: str) -> dict[str, str]:
    """Kind of any experiment of ours; description and view of a project's."""
    for project in CONFIG_CLASSES:
        if name == f"unroll-{project.replace('_', '-')}":
            return {KIND_TAG: KIND, NOTE_TAG: _description(project, experiment_id), VIEW_TAG: _view(project)}
    return {KIND_TAG: KIND}


def view_path(experiment_id: str) -> str:
    """Where the view is, after the address of MLflow's page."""
    return f"/#/experiments/{experiment_id}/runs?viewStateShareKey={VIEW}&{TRAINING_VIEW}"


def run_path(experiment_id: str, run_id: str) -> str:
    """Where a run's page is, after the address of MLflow's page."""
    return f"/#/experiments/{experiment_id}/runs/{run_id}?{TRAINING_VIEW}"


def _view(project: str) -> str:
    """In the form in which MLflow's page saves one."""
    columns = [
        "attributes.`Models`",
        *(f"metrics.`{name}`" for name in (*METRICS[project], *COST)),
        *(f"params.`{name}`" for name in SETTINGS),
    ]
    now = int(time.time() * 1000)
    return json.dumps(
        {
            "name": VIEW_NAME,
            "createdAt": now,
            "updatedAt": now,
            "state": json.dumps(
                {
                    "selectedColumns": columns,
                    "columnWidths": dict.fromkeys(columns, COLUMN_WIDTH),
                    "orderByKey": "attributes.start_time",
                }
            ),
        }
    )


def _description(project: str, experiment_id: str) -> str:
    words = project.replace("_", " ")
    return (
        f"Runs of the {words} project: one run is what one config, data and code make, however often it was stopped "
        "or repeated.\n\n"
        f"[The run table with results, rival, cost and settings]({view_path(experiment_id).lstrip('/')}). Each run's "
        "own page begins with its report; the registered version's page has its model card.\n"
    )
