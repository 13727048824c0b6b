"""``unroll models``: what is registered, and what was decided."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from flows.commands.registry import open_registry
from unroll.errors import RegistryError

if TYPE_CHECKING:
    from tasks.registry import Version

SCORES = (("unroll.test/accuracy", "accuracy"), ("unroll.test/bits_per_char", "bits per char"))


def list_versions(name: str | None) -> None:
    """Print a line for every version, newest first, below the name of its model."""
    registry = open_registry()
    there = registry.names()
    if name is not None and name not in there:
        raise RegistryError(
            f"No model {name!r} is registered at {registry.tracking_uri}; there: {', '.join(there) or 'none'}."
        )
    if not there:
        raise RegistryError(f"No model is registered at {registry.tracking_uri}; train one with 'unroll run'.")
    for each in [name] if name else there:
        print(each)
        for version in registry.versions(each):
            print(f"  {_line(version)}".rstrip())


def show_version(spec: str) -> None:
    """Print what the registry knows of a version; a bare model name means its champion."""
    registry = open_registry()
    name, _, version_spec = spec.replace("@", "/").partition("/")
    version = registry.resolve(name, version_spec or None)
    print(f"{version.name} version {version.number} {' '.join(version.aliases)}".rstrip())
    decision = version.tags.get("unroll.decision", "undecided")
    reason = version.tags.get("unroll.decision_reason", "")
    print(textwrap.fill(f"{decision}: {reason}" if reason else decision, 80, break_long_words=False))
    facts = {
        key.removeprefix("unroll."): value
        for key, value in sorted(version.tags.items())
        if not key.startswith("unroll.decision")
    }
    facts |= {"registered": _date(version), "MLflow run": version.run_id}
    facts["load with"] = f'mlflow.pyfunc.load_model("{version.uri}")'
    width = max(map(len, facts))
    for key, value in facts.items():
        print(f"  {key:{width}}  {value}")


def _line(version: Version) -> str:
    aliases, decision = ", ".join(version.aliases), version.tags.get("unroll.decision", "")
    return f"{version.number:>4}  {decision:9} {aliases:11} {_score(version.tags):22} {_date(version)}"


def _date(version: Version) -> str:
    return datetime.fromtimestamp(version.created).strftime("%Y-%m-%d %H:%M")


def _score(tags: Mapping[str, str]) -> str:
    return next((f"{label} {float(tags[key]):.4f}" for key, label in SCORES if key in tags), "")
