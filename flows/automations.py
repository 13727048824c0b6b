"""What the Prefect server does by itself, and whom it tells. Made by `unroll deploy`.

A run whose process was killed says nothing more: once its signs of life have stopped, the server marks it crashed. What
becomes of it then, and what people are told of runs, `tasks.reconcile` decides by looking; here its events are sent on
by webhook or command, as are those of workers that are gone and of drift. People are told of nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState, DoNothing, RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

from tasks import run_alerts
from tasks.run_fate import SILENCE

PREFIX = "Unroll - "
"""Begins the names of all automations of ours."""
HEARTBEAT = "prefect.flow-run.heartbeat"
ENDS = frozenset(
    f"prefect.flow-run.{name}" for name in ("Completed", "Skipped", "Failed", "TimedOut", "Cancelled", "Crashed")
)
OURS = {"prefect.resource.id": f"prefect.tag.{run_alerts.TAG}", "prefect.resource.role": "tag"}
"""Runs of our deployments but the alert's: one that fails must not call for the next."""

Action = CallWebhook | ChangeFlowRunState | DoNothing | RunDeployment
Telling = tuple[str, str]
"""Subject and body of an alert, templates of what the event knows."""


def make_automations(webhook_block: UUID | None, alert_deployment: UUID | None) -> list[AutomationCore]:
    """All of them. People are told through the webhook, through the deployment, through both, or (with none) not."""

    def telling(subject: str, body: str) -> list[Action]:
        return list(_telling((subject, body), webhook_block, alert_deployment))

    return [
        AutomationCore(
            name=f"{PREFIX}mark a silent run crashed",
            description="A run whose heartbeats have stopped has lost its process. The worker starts it again.",
            trigger=EventTrigger(
                after={HEARTBEAT},
                expect={*ENDS, HEARTBEAT},
                match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
                match_related=ResourceSpecification(OURS),
                for_each={"prefect.resource.id"},
                posture=Posture.Proactive,
                threshold=1,
                within=SILENCE,
            ),
            actions=[ChangeFlowRunState(state=StateType.CRASHED, message="Its process gave no sign of life any more.")],
        ),
        AutomationCore(
            name=f"{PREFIX}tell of a run",
            description="It failed, crashed, or does not end.",
            trigger=_on({run_alerts.FAILED, run_alerts.CRASHED, run_alerts.STUCK}, "prefect.flow-run.*"),
            actions=telling("{{ event.payload.subject }}", "{{ event.payload.body }}"),
        ),
        AutomationCore(
            name=f"{PREFIX}tell of a pool without workers",
            trigger=EventTrigger(
                expect={"prefect.work-pool.not-ready"},
                match=ResourceSpecification({"prefect.resource.name": "unroll"}),
                posture=Posture.Reactive,
                threshold=1,
                within=timedelta(0),
            ),
            actions=telling("Unroll: no worker", "No worker answers for the work pool unroll; its runs wait."),
        ),
        AutomationCore(
            name=f"{PREFIX}tell of drift",
            trigger=_on({"unroll.drift"}, "unroll.project.*"),
            actions=telling(
                "Unroll: drift in {{ event.payload.project }}", "{{ event.payload.reason | truncate(3000) }}"
            ),
        ),
    ]


def _on(events: set[str], resource: str) -> EventTrigger:
    """Each of the events about the resources whose ids match."""
    return EventTrigger(
        expect=events,
        match=ResourceSpecification({"prefect.resource.id": resource}),
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(0),
    )


def _telling(words: Telling, webhook_block: UUID | None, alert_deployment: UUID | None) -> Iterator[Action]:
    subject, body = words
    if webhook_block is not None:
        # "text" is what Slack, Mattermost, Google Chat and Teams read
        text = f"{{% set text %}}{subject}\n{body}{{% endset %}}" + '{"text": {{ text | tojson }}}'
        yield CallWebhook(block_document_id=webhook_block, payload=text)
    if alert_deployment is not None:
        yield RunDeployment(
            source="selected", deployment_id=alert_deployment, parameters={"subject": subject, "body": body}
        )
    if webhook_block is None and alert_deployment is None:
        yield DoNothing()
