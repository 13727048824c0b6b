"""One open MLflow run, and what happens to its transport's errors."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from tasks.curves import fill_curves
from tasks.metric_logger import MlflowMetricLogger
from tasks.run_table import run_path
from unroll.errors import RegistryError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient

logger = logging.getLogger("unroll.tracking")

ERROR_TAG = "unroll.error"
LONGEST_TAG = 4_900
UI_PAGE = "http://127.0.0.1:5000"
"""Where `unroll ui` shows MLflow unless told otherwise."""
LONGEST_NOTE = 7_900
LONGEST_DIGEST = 36


class TrackedRun:
    """One open MLflow run. Its methods raise RegistryError where MLflow cannot be reached."""

    def __init__(self, client: MlflowClient, run_id: str, experiment_id: str) -> None:
        """Made by `open_run`."""
        self.run_id = run_id
        self.experiment_id = experiment_id
        self._client = client
        self._metric_logger: MlflowMetricLogger | None = None

    def url(self) -> str | None:
        """The run's page; None on the embedded store, which has a page only while `unroll ui` runs."""
        uri = self._client.tracking_uri
        if not uri.startswith(("http://", "https://")):
            return None
        return without_password(uri).rstrip("/") + run_path(self.experiment_id, self.run_id)

    def page(self) -> str:
        """`url`, or on the embedded store where the page is while `unroll ui` runs."""
        return self.url() or UI_PAGE + run_path(self.experiment_id, self.run_id)

    def logger(self) -> MlflowMetricLogger:
        """The run's metric logger, closed with the run; a new one after a close of one's own."""
        if self._metric_logger is None or self._metric_logger.is_closed:
            with reaching_mlflow(self._client):
                self._metric_logger = MlflowMetricLogger(self._client, self.run_id)
        return self._metric_logger

    def log_curves(self, points: Sequence[Mapping[str, float]]) -> None:
        """Send what the run lacks of a history: points that were not sent before a kill, or while MLflow was away."""
        with reaching_mlflow(self._client):
            fill_curves(self._client, self.run_id, points)

    def tag(self, name: str) -> str | None:
        """A tag's value, None where it is not set."""
        with reaching_mlflow(self._client):
            value: str | None = self._client.get_run(self.run_id).data.tags.get(name)
        return value

    def set_tag(self, name: str, value: object) -> None:
        """Set a tag, cut to what MLflow takes."""
        with reaching_mlflow(self._client):
            self._client.set_tag(self.run_id, name, str(value)[:LONGEST_TAG])

    def describe(self, markdown: str) -> None:
        """Set the text on the run's page, cut to what MLflow takes."""
        text = markdown if len(markdown) <= LONGEST_NOTE else markdown[:LONGEST_NOTE] + "\n\n… (cut)"
        with reaching_mlflow(self._client):
            self._client.set_tag(self.run_id, "mlflow.note.content", text)

    def log_dataset(self, name: str, digest: str, source: str, context: str) -> None:
        """Name a dataset that the run read: full ``digest``, where from, and as what ("train", "test")."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        # MLflow's own digests look at the head of a table only; ours covers every row.
        origin = json.dumps({"tags": {"source": source}})
        dataset = Dataset(name, digest[:LONGEST_DIGEST], source_type="code", source=origin)
        tags = [InputTag("mlflow.data.context", context), InputTag("unroll.digest", digest)]
        with reaching_mlflow(self._client):
            self._client.log_inputs(self.run_id, datasets=[DatasetInput(dataset, tags)])
            self._client.set_tag(self.run_id, f"unroll.data_digest.{context}", digest)

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Upload a file, or a folder's content, below ``folder`` of the run's artifacts."""
        with reaching_mlflow(self._client):
            if path.is_dir():
                self._client.log_artifacts(self.run_id, str(path), folder)
            else:
                self._client.log_artifact(self.run_id, str(path), folder)

    def log_figure(self, figure: Figure, name: str) -> None:
        """Upload a matplotlib figure as the artifact ``name`` (such as ``plots/roc.png``)."""
        with reaching_mlflow(self._client):
            self._client.log_figure(self.run_id, figure, name)

    def log_text(self, text: str, name: str) -> None:
        """Upload a text as the artifact ``name``."""
        with reaching_mlflow(self._client):
            self._client.log_text(self.run_id, text, name)

    def log_final_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Record results that have no curve; those the run already holds with the same value are left alone."""
        from mlflow.entities import Metric

        with reaching_mlflow(self._client):
            known = self._client.get_run(self.run_id).data.metrics
            fresh = {
                name: value for name, value in metrics.items() if known.get(name) != value and not math.isinf(value)
            }
            points = [Metric(name, float(value), int(time.time() * 1000), step) for name, value in fresh.items()]
            self._client.log_batch(self.run_id, metrics=points, synchronous=True)

    @contextmanager
    def system_metrics(self) -> Iterator[None]:
        """Record CPU, memory, disk, network and GPU use meanwhile, every 10 s. Trouble is logged, never raised."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        # mlflow leaves this class without types
        monitor: Any = None
        monitor_class: Any = SystemMetricsMonitor
        try:
            monitor = monitor_class(self.run_id, resume_logging=True, tracking_uri=self._client.tracking_uri)
            monitor.start()
        except Exception as error:
            logger.warning("no system metrics: %s", error)
        try:
            yield
        finally:
            if monitor is not None:
                monitor.finish()

    def end(self, status: str, error: BaseException | None = None) -> None:
        """Send what is left and set the status. Never raises: the work is done, or its error matters more."""
        try:
            if self._metric_logger is not None:
                self._metric_logger.close()
            if error is not None:
                self.set_tag(ERROR_TAG, f"{type(error).__name__}: {error}")
            self._client.set_terminated(self.run_id, status)
        except Exception as trouble:
            logger.warning("the MLflow run %s could not be set %s: %s", self.run_id, status, trouble)


@contextmanager
def reaching_mlflow(client: MlflowClient) -> Iterator[None]:
    """Within the block, MLflow's and its transports' errors become RegistryError with the address and a way out."""
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, RequestException, SQLAlchemyError, OSError) as error:
        uri = client.tracking_uri
        reason = (str(error).splitlines() or [type(error).__name__])[0].replace(uri, without_password(uri))
        raise RegistryError(
            f"MLflow at {without_password(uri)} cannot be used: {reason[:500]}. "
            "Start that server, or unset MLFLOW_TRACKING_URI to use the embedded store."
        ) from error


def without_password(uri: str) -> str:
    """The address as it may be shown."""
    parts = urlsplit(uri)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if parts.netloc else uri
