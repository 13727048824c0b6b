"""Unroll's events: what a deployment's trigger starts a retraining by."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.events.schemas.automations import Automation, EventTrigger, Posture
from prefect.events.schemas.events import ReceivedEvent, Resource, ResourceSpecification, matches
from prefect.events.worker import EventsWorker

from unroll.errors import UnrollError

logger = logging.getLogger("unroll.events")

CORPUS_CHANGED = "unroll.corpus.changed"
PRESET_CHANGED = "unroll.preset.changed"
DRIFT = "unroll.drift"

SECONDS_TO_ARRIVE = 60.0
SECONDS_TO_ACT = 60.0
"""Until the server has done what its automations say; it notes this with a delay of five."""


def tell(event: str, project: str, preset: str, settings: Sequence[str], reason: str, event_id: UUID) -> None:
    """Emit an event about a project, and wait until the server has acted on it: who notes it as told may rely on that.

    The payload is what the flow `retrain` takes: project, preset, settings ("section.key=value") and reason. The server
    keeps one event of an id, however often it is sent; one that it has acted on is not sent again. An action that fails
    is a warning. Raises UnrollError if the event does not arrive, or an automation that waits for it does not act.
    """
    name = project.replace("_", " ")
    resource = {"prefect.resource.id": f"unroll.project.{project}", "prefect.resource.name": name}
    payload = {"project": project, "preset": preset, "settings": list(settings), "reason": reason}
    known = _stored(event, event_id)
    if known is None or _idle(known):
        sent = emit_event(event, resource, payload=payload, id=event_id)
        # the worker sends from a thread, and says nothing of what it could not send
        EventsWorker.drain_all(timeout=SECONDS_TO_ARRIVE, at_exit=False)
        if sent is not None:
            _wait(lambda: _stored(event, event_id) is not None, SECONDS_TO_ARRIVE)
        known = _stored(event, event_id)
    again = "it was not noted as told, so the next run tells it again. See the server's log."
    if known is None:
        raise UnrollError(
            f"The event {event} of the {name} project did not reach the Prefect server within "
            f"{SECONDS_TO_ARRIVE:.0f} s; {again}"
        )
    if not _wait(lambda: not _idle(known), SECONDS_TO_ACT):
        raise UnrollError(
            f"The Prefect server has the event {event} of the {name} project, but within {SECONDS_TO_ACT:.0f} s it did "
            f"not do what it is to do then ({', '.join(_idle(known))}); {again}"
        )
    for act in _acts(known):
        if act.event.endswith("failed"):
            logger.warning("%s: what is to be done failed: %s", act.resource.name, act.payload.get("reason"))
    logger.info("event %s: %s", event, reason)


def _wait(holds: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return held


def _stored(event: str, event_id: UUID) -> ReceivedEvent | None:
    found = _events({"id": {"id": [str(event_id)]}, "event": {"name": [event]}})
    return found[0] if found else None


def _idle(event: ReceivedEvent) -> list[str]:
    """Names of the automations that are to act on the event and have not."""
    with get_client(sync_client=True) as client:
        due = [automation for automation in client.read_automations() if _is_for(automation, event)]
    if not due:
        return []
    by = [act.resource.id for act in _acts(event)]
    return [each.name for each in due if by.count(f"prefect.automation.{each.id}") < len(each.actions)]


def _acts(event: ReceivedEvent) -> list[ReceivedEvent]:
    """What the server noted of its actions on the event, done or failed."""
    ends = [f"prefect.automation.action.{end}" for end in ("executed", "failed")]
    return _events({"event": {"name": ends}, "related": {"id": [f"prefect.event.{event.id}"]}})


def _is_for(automation: Automation, event: ReceivedEvent) -> bool:
    """Whether it acts on one event of the kind at once; those that count events or wait for none are not waited for."""
    trigger = automation.trigger
    return (
        automation.enabled
        and isinstance(trigger, EventTrigger)
        and (trigger.posture, trigger.threshold, trigger.after) == (Posture.Reactive, 1, set())
        and any(matches(expected, event.event) for expected in trigger.expect)
        and _included(trigger.match, [event.resource])
        and _included(trigger.match_related, event.related)
    )


def _included(match: Any, resources: Sequence[Resource]) -> bool:
    """Whether each of one or several specifications is met by one of the resources; Prefect takes them as dicts too."""
    several = match if isinstance(match, list) else [match]
    return all(ResourceSpecification.model_validate(one).includes(resources) for one in several)


def _events(wanted: dict[str, Any]) -> list[ReceivedEvent]:
    with get_client(sync_client=True) as client:
        answer = client.request("POST", "/events/filter", json={"filter": wanted, "limit": 50})
    return [ReceivedEvent.model_validate(each) for each in answer.json()["events"]]
