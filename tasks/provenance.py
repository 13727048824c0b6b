"""What made a run: code, versions. Nothing here names a host, a person or a path."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

from unroll.config import AnyConfig, config_digest

PROJECT_ROOT = Path(__file__).resolve().parents[1]
DISTRIBUTIONS = ("torch", "mlflow", "prefect", "unroll")


def provenance(config: AnyConfig) -> dict[str, str]:
    """Tags that tell with what code, versions and settings a run was made."""
    return {
        "unroll.project": config.project,
        "unroll.config_digest": config_digest(config),
        **code_tags(),
    }


def code_tags() -> dict[str, str]:
    """Versions of what a run rests on, and the commit of the project."""
    versions = {f"version.{name}": version for name in DISTRIBUTIONS if (version := _version(name))}
    return {"version.python": platform.python_version(), **versions, **git_tags(PROJECT_ROOT)}


def git_tags(folder: Path) -> dict[str, str]:
    """Commit and dirty flag of the repository whose root is ``folder``; empty without git or outside a repository."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    # An installed copy may lie inside somebody else's repository, whose commit says nothing.
    if not top or Path(top).resolve() != folder.resolve():
        return {}
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return {}
    is_dirty = _git(folder, "status", "--porcelain") != ""
    return {"mlflow.source.git.commit": commit, "unroll.git_dirty": str(is_dirty).lower()}


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _git(folder: Path, *arguments: str) -> str | None:
    """Output of a git command; None where there is no git, no repository, or no answer."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
