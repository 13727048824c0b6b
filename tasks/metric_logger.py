"""Curves on their way to MLflow: buffered, sent in batches from a thread, never in the way of training."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

logger = logging.getLogger("unroll.tracking")

LARGEST_BATCH = 1_000
"""Points that MLflow takes in one request."""
SEND_AT = 500
"""Buffered points at which sending starts early."""
SEND_SECONDS = 2.0
"""Longest that a point waits while the store answers."""
LARGEST_BUFFER = 100_000
"""Points kept for a store that does not answer."""
LONGEST_PAUSE = 30.0
"""Most seconds between two tries."""
ROLLBACKS = "train/rollbacks"
"""Metric with a point whenever training went back to an earlier step, to make the steps after it anew."""


class MlflowMetricLogger:
    """Implements `unroll.training.metrics.MetricLogger` for one MLflow run.

    A step that the store already held for a metric when this logger was made, or an earlier one, is not sent, so that
    a resumed run leaves one curve; what is lost on the way `tasks.curves` sends later. NaN is kept. Infinities are left
    out and noted: MLflow would store them as 1.8e308, which ruins every plot.
    """

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        """Read what the run already holds, and start the sending thread. Raises what the client raises."""
        self.dropped = 0
        self._client = client
        self._run_id = run_id
        self._last_steps = _last_steps(client, run_id)
        self._buffer: deque[Metric] = deque()
        self._changed = threading.Condition()
        self._wanted = False
        self._closing = False
        self._failures = 0
        self._noted: set[str] = set()
        self._thread = threading.Thread(target=self._run, name="mlflow-metrics", daemon=True)
        self._thread.start()

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called; points that come later are lost."""
        return self._closing

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Take metrics at a step (optimizer updates). Neither raises nor waits for the store."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        points = [
            Metric(name, float(value), now, step)
            for name, value in metrics.items()
            if step > self._last_steps.get(name, -1) and self._fits(name, value, step)
        ]
        with self._changed:
            room = 0 if self._closing else max(LARGEST_BUFFER - len(self._buffer), 0)
            # a roll-back is always told, so that what came before and after it can be told apart
            kept = points[:room] + [point for point in points[room:] if point.key == ROLLBACKS and not self._closing]
            self._buffer.extend(kept)
            self.dropped += len(points) - len(kept)
            if len(self._buffer) >= SEND_AT:
                self._changed.notify_all()

    def flush(self, timeout: float = 10.0) -> bool:
        """Send what is buffered now. Returns whether all of it arrived within ``timeout`` seconds; never raises."""
        with self._changed:
            failures = self._failures
            self._wanted = bool(self._buffer)
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._buffer or self._failures > failures, timeout)
            return not self._buffer

    def close(self, timeout: float = 20.0) -> int:
        """Send what is left, end the thread, and return how many points were lost. Never raises."""
        with self._changed:
            if self._closing:
                return self.dropped
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)
        with self._changed:
            self.dropped += len(self._buffer)
        if self.dropped:
            logger.warning("%d points of the curves did not reach MLflow", self.dropped)
        return self.dropped

    def _fits(self, name: str, value: float, step: int) -> bool:
        try:
            if not math.isinf(value):
                return True
            what = f"{name} was {value} at step {step}"
        except (TypeError, ValueError):
            what = f"{name} was no number at step {step}, but {value!r}"
        if name not in self._noted:
            self._noted.add(name)
            logger.warning("%s; such points are left out of its curve", what)
        return False

    def _is_due(self) -> bool:
        is_answering = self._failures == 0
        return self._closing or self._wanted or (is_answering and len(self._buffer) >= SEND_AT)

    def _run(self) -> None:
        pause = SEND_SECONDS
        while True:
            with self._changed:
                self._changed.wait_for(self._is_due, timeout=pause)
                batch = list(islice(self._buffer, LARGEST_BATCH))
                is_last = self._closing
            arrived = not batch or self._send(batch)
            with self._changed:
                for _ in range(len(batch) if arrived else 0):
                    self._buffer.popleft()
                self._failures = 0 if arrived else self._failures + 1
                self._wanted = self._wanted and arrived and bool(self._buffer)
                self._changed.notify_all()
                if is_last and not (arrived and self._buffer):
                    return
            pause = SEND_SECONDS if arrived else min(2 * pause, LONGEST_PAUSE)

    def _send(self, batch: list[Metric]) -> bool:
        """Whether the batch is done with: it arrived, or the store will never take it."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.log_batch(self._run_id, metrics=batch, synchronous=True)
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            if isinstance(error, MlflowException) and error.error_code in _FINAL_ERRORS:
                self.dropped += len(batch)
                logger.warning("MLflow refuses %d points: %s", len(batch), reason)
                return True
            if self._failures == 0:
                logger.warning("MLflow does not answer (%s); training goes on, its curves are sent later", reason)
            return False
        if self._failures:
            logger.info("MLflow answers again")
        return True


_FINAL_ERRORS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE")


def _last_steps(client: MlflowClient, run_id: str) -> dict[str, int]:
    # The run carries each metric's point at its largest step. The public get_metric_history reads whole curves: 20 s
    # for ten curves of 100,000 points.
    return {metric.key: metric.step for metric in client.get_run(run_id).data._metric_objs}
