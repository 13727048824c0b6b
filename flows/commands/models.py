"""``unroll models``: what is registered, and what was decided."""

from __future__ import annotations

import logging
from datetime import datetime

from rich.console import Console
from rich.table import Table

from flows.embedded import prepare_environment, workplace
from unroll.errors import RegistryError


def list_versions(name: str | None) -> None:
    """Print a table of every version."""
    registry = _registry()
    names = [name] if name else registry.names()
    table = Table()
    for heading in ("model", "version", "aliases", "test score", "decision", "registered"):
        table.add_column(heading)
    for each in names:
        for version in registry.versions(each):
            made = datetime.fromtimestamp(version.created).strftime("%Y-%m-%d %H:%M")
            decision = version.tags.get("unroll.decision", "")
            table.add_row(each, version.number, ", ".join(version.aliases), _score(version.tags), decision, made)
    if table.row_count == 0:
        raise RegistryError(
            f"No model {name or ''} is registered at {registry.tracking_uri}; train one with 'unroll run'."
        )
    Console().print(table)


def show_version(spec: str) -> None:
    """Print what the registry knows of a version; a bare model name means its champion."""
    registry = _registry()
    name, _, version_spec = spec.replace("@", "/").partition("/")
    version = registry.resolve(name, version_spec or None)
    console = Console()
    console.print(f"{version.name} version {version.number}  {' '.join(version.aliases)}", style="bold")
    console.print(
        f"{version.tags.get('unroll.decision', 'undecided')}: {version.tags.get('unroll.decision_reason', '')}"
    )
    table = Table(show_header=False)
    for key, value in sorted(version.tags.items()):
        if not key.startswith("unroll.decision"):
            table.add_row(key.removeprefix("unroll."), value)
    table.add_row("MLflow run", version.run_id)
    table.add_row("load with", f'mlflow.pyfunc.load_model("{version.uri}")')
    console.print(table)


def _registry():  # type: ignore[no-untyped-def]  # its class lives behind the late import
    prepare_environment(workplace())
    import mlflow

    from tasks.registry import ModelRegistry

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    return ModelRegistry(mlflow.get_tracking_uri())


def _score(tags: dict[str, str]) -> str:
    for key in ("unroll.test/accuracy", "unroll.test/bits_per_char"):
        if key in tags:
            return f"{key.removeprefix('unroll.test/').replace('_', ' ')} {float(tags[key]):.4f}"
    return ""
