"""Names of flow runs: what is run, and why."""

from __future__ import annotations

import textwrap
from typing import Any

from prefect.runtime import deployment, flow_run

LONGEST_REASON = 60
"""Characters; the flow run's own page has the whole of it."""
LONGEST_LINE = 300


def run_name(*what: str, why: str | None = None) -> str:
    """Such as ``sentiment fast · nightly``: the deployment's name says why, unless a reason is given."""
    reason = textwrap.shorten(why or deployment.name or "", LONGEST_REASON, placeholder=" …")
    return " ".join(word for word in what if word) + (f" · {reason}" if reason else "")


def training_name() -> str:
    """Of a flow that trains: project and preset; where it does not begin with the first stage, that too."""
    given: dict[str, Any] = flow_run.parameters
    project = str(flow_run.flow_name).removeprefix("train-").replace("-", " ")
    stage = given.get("from_stage")
    return run_name(project, str(given.get("preset", "")), f"from {stage}" if stage else "")


def retraining_name() -> str:
    """Of the flow that retrains: its reason says why, by whomever it was started."""
    given: dict[str, Any] = flow_run.parameters
    project = str(given.get("project", "")).replace("_", " ")
    return run_name("retrain", project, str(given.get("preset", "")), why=str(given.get("reason", "")))


def alert_name() -> str:
    """Of an alert's flow: its subject."""
    return on_one_line(str(flow_run.parameters.get("subject") or "alert"))


def on_one_line(text: str) -> str:
    """At most LONGEST_LINE characters, none of them a control character: those end a header, or fit no environment."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 2]} …"
