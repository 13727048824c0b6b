"""What the evaluate stage finds, as one JSON file that scripts, the gate and the reports read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from unroll.errors import StoreError
from unroll.evaluation.intervals import Interval
from unroll.files import write_json

FILE_NAME = "evaluation.json"


@dataclass(frozen=True)
class Rival:
    """The cheap model trained on the same split, and its metrics."""

    name: str
    metrics: Mapping[str, Interval]


@dataclass(frozen=True)
class EvaluationReport:
    """Metrics on the test split, each with its interval."""

    project: str
    metrics: Mapping[str, Interval]
    """Named as MLflow shows them: test/accuracy, test/bits_per_char."""
    rival: Rival | None
    test_digest: str
    """SHA-256 over the test items and their labels: what two models must share to be compared."""
    num_items: int
    confidence: float
    details: Mapping[str, Any] = field(default_factory=dict)
    """Project's own: the confusion matrix, the classes' scores, generated passages."""

    def save(self, folder: Path) -> None:
        """Write it into a folder."""
        write_json(folder / FILE_NAME, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> EvaluationReport:
        """Read what `save` wrote. Raises StoreError where the file is missing or is something else."""
        try:
            plain = json.loads((folder / FILE_NAME).read_text(encoding="utf-8"))
            rival = plain.pop("rival")
            metrics = _intervals(plain.pop("metrics"))
            return cls(**plain, metrics=metrics, rival=rival and Rival(rival["name"], _intervals(rival["metrics"])))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{folder / FILE_NAME} cannot be read ({error}); run again with --from evaluate."
            ) from error


def named(split: str, metrics: Mapping[str, Interval]) -> dict[str, Interval]:
    """Metric names with their split before them."""
    return {f"{split}/{name}": interval for name, interval in metrics.items()}


def _intervals(plain: Mapping[str, Mapping[str, float]]) -> dict[str, Interval]:
    return {name: Interval(**interval) for name, interval in plain.items()}
