"""Names of flow runs: what is run, and why."""

from __future__ import annotations

from prefect.runtime import deployment


def run_name(*what: str, why: str | None = None) -> str:
    """Such as ``sentiment fast · nightly``: the deployment's name says why, unless a reason is given."""
    reason = why or deployment.name
    return " ".join(word for word in what if word) + (f" · {reason}" if reason else "")
