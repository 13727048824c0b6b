"""How metrics leave the training loop: a small protocol, and the curves kept beside each checkpoint."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from unroll.files import sync_path, writing

HISTORY_FILE = "history.jsonl"
"""The curves, beside the checkpoints and in the model's folder."""


class MetricLogger(Protocol):
    """Where the curves go: a tracking server, a file, nowhere."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Record metrics at a step (optimizer updates). Must neither raise nor block for long."""


class SilentLogger:
    """A logger that drops everything."""

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Do nothing."""


class History:
    """The curves of a run, one JSON object per point, in a file that survives a kill, and after `sync` a power cut.

    A killed run may have written points beyond its last checkpoint; `rewind` drops them, so that the resumed run
    leaves the same curve as one that was never stopped. Points are told by their place in the file: a skipped step
    or a roll-back leaves several at one step.
    """

    def __init__(self, path: Path) -> None:
        """Points are appended to ``path``, which need not exist yet."""
        self.path = path

    def append(self, metrics: Mapping[str, float | str], step: int) -> None:
        """Add one point."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")

    def read(self) -> list[dict[str, float]]:
        """Every whole point; a line that a kill cut short is left out."""
        if not self.path.exists():
            return []
        points = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                points.append(json.loads(line))
            except json.JSONDecodeError:
                continue
        return points

    def size(self) -> int:
        """Bytes written so far."""
        return self.path.stat().st_size if self.path.exists() else 0

    def sync(self) -> int:
        """Flush every point to the disk; returns the bytes there, at which a checkpoint's curve may end."""
        if self.path.exists():
            with writing(self.path):
                sync_path(self.path)
                sync_path(self.path.parent)
        return self.size()

    def rewind(self, size: int) -> None:
        """Drop the points, whole or cut short, that were written after the file had ``size`` bytes."""
        if self.size() > size:
            os.truncate(self.path, size)
