"""The real command, run as a user runs it: in a process and a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CALL_MAIN = "from flows.cli import main; main()"
OURS = ("PREFECT_", "MLFLOW_", "UNROLL_", "HF_", "MPLCONFIGDIR")


SMALL = (
    *("--set", "training.epochs=1"),
    *("--set", "model.hidden_size=24"),
    *("--set", "model.embedding_dim=16"),
    *("--set", "evaluation.bootstrap_samples=100"),
)
"""A whole run of a preset in seconds."""


@dataclass(frozen=True)
class Ran:
    """One finished ``unroll run``."""

    log: str
    output: str
    summaries: list[dict[str, Any]]
    seconds: float

    def skipped(self) -> list[list[str]]:
        """Names of the skipped stages of each project."""
        return [[stage["name"] for stage in summary["stages"] if stage["skipped"]] for summary in self.summaries]


@dataclass(frozen=True)
class Command:
    """``unroll`` in a folder, with `.unroll` below it."""

    folder: Path
    prefect_api: str = ""
    """A server that is up; without one, each command starts its own, as for a user who has none."""

    @property
    def home(self) -> Path:
        return self.folder / ".unroll"

    def __call__(
        self,
        *arguments: str,
        environment: dict[str, str] | None = None,
        before: Callable[[], None] | None = None,
        timeout: float = 280,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``unroll ARGUMENTS…`` to its end; ``before`` is called in the child."""
        return self.python(CALL_MAIN, *arguments, environment=environment, before=before, timeout=timeout)

    def run(self, project: str, *arguments: str) -> Ran:
        """``unroll run`` in small, which must succeed."""
        path = self.folder / "summary.json"
        path.unlink(missing_ok=True)
        started = time.perf_counter()
        answer = self("run", project, *SMALL, *arguments, "--summary", str(path), timeout=600)
        seconds = time.perf_counter() - started
        assert answer.returncode == 0, answer.stderr
        summaries = json.loads(path.read_text(encoding="utf-8"))
        return Ran(answer.stderr, answer.stdout, summaries if isinstance(summaries, list) else [summaries], seconds)

    def run_plain(self, project: str, *arguments: str) -> list[dict[str, Any]]:
        """``unroll run`` with these settings and no others, which must succeed; the summaries."""
        path = self.folder / "plain.json"
        answer = self("run", project, *arguments, "--summary", str(path), timeout=600)
        assert answer.returncode == 0, answer.stderr
        summaries = json.loads(path.read_text(encoding="utf-8"))
        return summaries if isinstance(summaries, list) else [summaries]

    def python(
        self,
        script: str,
        *arguments: str,
        environment: dict[str, str] | None = None,
        before: Callable[[], None] | None = None,
        timeout: float = 280,
    ) -> subprocess.CompletedProcess[str]:
        """Run a script in the same surroundings."""
        return subprocess.run(
            [sys.executable, "-c", script, *arguments],
            cwd=self.folder,
            env=self.environment() | (environment or {}),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=timeout,
            preexec_fn=before,
        )

    def environment(self) -> dict[str, str]:
        """This process's environment, without what points anything at a folder or at another server."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
        ours = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "80"}
        return plain | ours | ({"PREFECT_API_URL": self.prefect_api} if self.prefect_api else {})

    def half_made(self) -> list[Path]:
        """What a stage or a writer began and did not finish."""
        return [path for path in self.folder.rglob("*") if ".partial" in path.name or ".removed" in path.name]

    def artifacts(self, project: str = "sentiment") -> set[str]:
        """Names of the stages that the store has an artifact of."""
        return {path.parent.parent.name for path in self.home.glob(f"store/{project}/*/*/manifest.json")}
