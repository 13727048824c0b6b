"""Unroll's events: what a deployment's trigger starts a retraining by."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.events.worker import EventsWorker

from unroll.errors import UnrollError

logger = logging.getLogger("unroll.events")

CORPUS_CHANGED = "unroll.corpus.changed"
PRESET_CHANGED = "unroll.preset.changed"
DRIFT = "unroll.drift"

SECONDS_TO_ARRIVE = 60.0


def tell(event: str, project: str, preset: str, settings: Sequence[str], reason: str, event_id: UUID) -> None:
    """Emit an event about a project, and wait until the server has it: who notes it as told may rely on that.

    The payload is what the flow `retrain` takes: project, preset, settings ("section.key=value") and reason. The server
    keeps one event of an id, however often it is sent. Raises UnrollError where it does not arrive.
    """
    name = project.replace("_", " ")
    resource = {"prefect.resource.id": f"unroll.project.{project}", "prefect.resource.name": name}
    payload = {"project": project, "preset": preset, "settings": list(settings), "reason": reason}
    sent = emit_event(event, resource, payload=payload, id=event_id)
    # the worker sends from a thread, and says nothing of what it could not send
    EventsWorker.drain_all(timeout=SECONDS_TO_ARRIVE, at_exit=False)
    deadline = time.monotonic() + SECONDS_TO_ARRIVE
    while sent is None or not _has_arrived(event, event_id):
        if sent is None or time.monotonic() > deadline:
            raise UnrollError(
                f"The event {event} of the {name} project did not reach the Prefect server within "
                f"{SECONDS_TO_ARRIVE:.0f} s; it was not noted as told, so the next run tells it again. See the "
                "server's log."
            )
        time.sleep(0.2)
    logger.info("event %s: %s", event, reason)


def _has_arrived(event: str, event_id: UUID) -> bool:
    with get_client(sync_client=True) as client:
        question: dict[str, Any] = {"filter": {"id": {"id": [str(event_id)]}, "event": {"name": [event]}}, "limit": 1}
        answer = client.request("POST", "/events/filter", json=question)
    return bool(answer.json()["events"])
