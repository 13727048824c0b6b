"""Whole curves brought to MLflow: what a run lacks of them is sent, and nothing twice.

The live way of the points, `tasks.metric_logger`, loses some if a process is killed before they are sent, or if the
server is away for longer than they can be kept. All of them are in the history beside the checkpoints.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tasks.metric_logger import LARGEST_BATCH, ROLLBACKS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric


def fill_curves(client: MlflowClient, run_id: str, points: Sequence[Mapping[str, float]]) -> int:
    """Send what a run lacks of a history; returns how many values that were. Raises what the client raises."""
    from mlflow.entities import Metric

    held = _HeldPoints(client, run_id, points)
    now = int(time.time() * 1000)
    missing = [
        Metric(name, float(value), now, int(point["step"]))
        for point in points
        for name, value in point.items()
        if name != "step" and not math.isinf(value) and not held.take(name, int(point["step"]))
    ]
    for start in range(0, len(missing), LARGEST_BATCH):
        client.log_batch(run_id, metrics=missing[start : start + LARGEST_BATCH], synchronous=True)
    return len(missing)


class _HeldPoints:
    """The points that a run has, each to be taken once.

    A point is told by its metric and step: made again after a kill, what clocks measure has another value. Those that
    were made before a roll-back and lie behind it are others than those that were made after it at the same steps.
    """

    def __init__(self, client: MlflowClient, run_id: str, points: Sequence[Mapping[str, float]]) -> None:
        self._client, self._run_id = client, run_id
        self._known = set(client.get_run(run_id).data.metrics)
        self._counts: dict[str, Counter[int]] = {}
        rollbacks = self._read(ROLLBACKS)
        self._rolled_back = [(point.step, float(point.timestamp)) for point in rollbacks]
        there = {point.value for point in rollbacks}
        # of one that MLflow has not heard of, it has no later points either
        self._rolled_back += [
            (int(point["step"]), math.inf) for point in points if ROLLBACKS in point and point[ROLLBACKS] not in there
        ]

    def take(self, name: str, step: int) -> bool:
        """Whether there was one more at this step."""
        if name not in self._counts:
            self._counts[name] = Counter(point.step for point in self._read(name) if not self._is_rolled_back(point))
        counts = self._counts[name]
        counts[step] -= 1
        return counts[step] >= 0

    def _read(self, name: str) -> list[Metric]:
        return list(self._client.get_metric_history(self._run_id, name)) if name in self._known else []

    def _is_rolled_back(self, point: Metric) -> bool:
        return any(point.step > step and point.timestamp < time_back for step, time_back in self._rolled_back)
