"""What `make test-containers` writes down after each step: its time and what was seen, as a table and as a log."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.command import ROOT

RESULTS = ROOT / "benchmarks" / "results"


@dataclass
class Step:
    """One row of the table."""

    name: str
    seconds: float = 0.0
    seen: list[str] = field(default_factory=list)
    passed: bool = False


@dataclass
class Record:
    """The steps so far; every line of the log is printed as it is written."""

    steps: list[Step] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)
    commit: str = field(default_factory=lambda: _commit())

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Time a step; what it sees goes into ``seen``."""
        step, began = Step(name), time.monotonic()
        self.steps.append(step)
        try:
            yield step
            step.passed = True
        except BaseException as error:
            step.seen.append(f"**failed**: {type(error).__name__}")
            raise
        finally:
            step.seconds = time.monotonic() - began
            self.say(f"{name}: {step.seconds:.0f} s; {'; '.join(step.seen) or 'done'}")
            self._write(RESULTS)

    def say(self, line: str) -> None:
        """One line of the log."""
        self.lines.append(f"{datetime.now(UTC):%H:%M:%S} {line}")
        print(self.lines[-1], flush=True)

    def _write(self, folder: Path) -> None:
        """The table and the log."""
        about = f"{os.cpu_count()} cores, {platform.machine()}; {datetime.now(UTC):%Y-%m-%d}, commit {self.commit}"
        minutes = (time.monotonic() - self.began) / 60
        rows = [
            f"| {step.name} | {step.seconds:.0f} | {'; '.join(step.seen)} | {'yes' if step.passed else '**no**'} |"
            for step in self.steps
        ]
        heading = [
            "# Containers",
            "",
            f"Made by `make test-containers` in {minutes:.1f} minutes: {about}. The base "
            "images are stand-ins made of Debian's packages. Edit the test, not this page.",
            "",
            "| step | seconds | seen | passed |",
            "|---|---|---|---|",
        ]
        (folder / "containers.md").write_text("\n".join([*heading, *rows, ""]), encoding="utf-8")
        (folder / "containers.log").write_text("\n".join([*self.lines, ""]), encoding="utf-8")


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
