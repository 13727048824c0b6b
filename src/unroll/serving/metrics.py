"""What Prometheus may ask: traffic, limits met, batches, and which model answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from unroll.serving.slot import ModelSlot

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32)


class ServingMetrics:
    """One application's metrics, in a registry of their own."""

    media_type = CONTENT_TYPE_PLAIN_0_0_4

    def __init__(self, slots: Sequence[ModelSlot[Any]]) -> None:
        """The slots are read whenever the metrics are."""
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "unroll_requests", "Answered requests.", ["route", "method", "status"], registry=registry
        )
        self.seconds = Histogram(
            "unroll_request_seconds", "From a request's head to the end of its answer.", ["route"],
            buckets=SECONDS, registry=registry,
        )  # fmt: skip
        self.under_way = Gauge("unroll_requests_under_way", "Requests to /v1 under way.", registry=registry)
        self.refused = Counter("unroll_refused", "Requests refused for want of room.", ["reason"], registry=registry)
        self.dropped = Counter("unroll_dropped", "Requests dropped because the client had gone.", registry=registry)
        self.batch_texts = Histogram(
            "unroll_batch_texts", "Texts of each forward pass.", buckets=SIZES, registry=registry
        )
        self.texts = Counter("unroll_texts", "Classified texts.", registry=registry)
        self.characters = Counter("unroll_characters", "Generated characters.", registry=registry)
        self.waiting_texts = Gauge("unroll_waiting_texts", "Texts that wait for the classifier.", registry=registry)
        self.streams = Gauge("unroll_streams", "Texts in the making.", registry=registry)
        registry.register(_SlotCollector(slots))

    def render(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)


class _SlotCollector(Collector):
    """The slots as they are when they are asked for."""

    def __init__(self, slots: Sequence[ModelSlot[Any]]) -> None:
        self._slots = slots

    def collect(self) -> Iterable[Metric]:
        """A sample of each metric for each slot."""
        info = GaugeMetricFamily(
            "unroll_model_info", "The version that answers; always 1.", labels=["project", "name", "version", "digest"]
        )
        loaded = GaugeMetricFamily("unroll_model_loaded", "Whether a model is served.", labels=["project"])
        swaps = GaugeMetricFamily("unroll_model_swaps", "Models replaced while serving.", labels=["project"])
        is_up = GaugeMetricFamily("unroll_registry_up", "Whether the registry answered last time.", labels=["project"])
        checked = GaugeMetricFamily(
            "unroll_registry_checked_timestamp_seconds", "When the registry was last asked.", labels=["project"]
        )
        for slot in self._slots:
            served, state = slot.served, slot.state
            if served is not None:
                version = served.version
                info.add_metric([slot.project, version.name, version.number, version.digest], 1)
            loaded.add_metric([slot.project], float(served is not None))
            swaps.add_metric([slot.project], slot.swaps)
            is_up.add_metric([slot.project], float(state.is_source_up))
            checked.add_metric([slot.project], state.checked or 0.0)
        return [info, loaded, swaps, is_up, checked]
