"""What the Prefect server does by itself with runs that end badly, and whom it tells. Made by `unroll deploy`.

A run whose process was killed says nothing more: the server marks it crashed once its signs of life have stopped for
SECONDS_OF_SILENCE, and starts it again. `tasks.admission` ends a run that has died too often. People are told of
failures, crashes, runs that never end, workers that are gone, and drift; of nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

from prefect.client.schemas.objects import StateType
from prefect.events.actions import CallWebhook, ChangeFlowRunState, DoNothing, RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.utilities.urls import url_for

SECONDS_OF_SILENCE = 75
"""Two and a half heartbeats: they come every 30 s, see prefect.yaml."""
PREFIX = "Unroll - "
"""Begins the names of all automations of ours."""
ENDS = frozenset(
    f"prefect.flow-run.{name}" for name in ("Completed", "Skipped", "Failed", "TimedOut", "Cancelled", "Crashed")
)
OURS = {"prefect.resource.id": "prefect.tag.unroll", "prefect.resource.role": "tag"}
"""Runs of our deployments; an alert is none, or one that fails would call for the next."""

Action = CallWebhook | ChangeFlowRunState | DoNothing | RunDeployment
Telling = tuple[str, str]
"""Subject and body of an alert, templates of what the event knows."""

_RUN = "{{ flow_run.name | truncate(200) }} ({{ deployment.name }})"
# the server refuses parameters of half a megabyte, and chats much shorter texts
_STATE = "{{ (flow_run.state.message or 'no message') | truncate(3000) }}"


def make_automations(
    webhook_block: UUID | None, alert_deployment: UUID | None, stuck_after: timedelta
) -> list[AutomationCore]:
    """All of them. People are told through the webhook, through the deployment, through both, or (with none) not."""
    page = _page_of_the_run()

    def telling(subject: str, body: str) -> list[Action]:
        return list(_telling((subject, body), webhook_block, alert_deployment))

    return [
        AutomationCore(
            name=f"{PREFIX}mark a silent run crashed",
            description="A run whose heartbeats have stopped has lost its process.",
            trigger=_after(
                {"prefect.flow-run.heartbeat"}, {"prefect.flow-run.heartbeat"}, timedelta(seconds=SECONDS_OF_SILENCE)
            ),
            actions=[ChangeFlowRunState(state=StateType.CRASHED, message="Its process gave no sign of life any more.")],
        ),
        AutomationCore(
            name=f"{PREFIX}start a crashed run again",
            description="The same run, with its parameters: training goes on from its checkpoint.",
            trigger=_on("prefect.flow-run.Crashed"),
            actions=[
                ChangeFlowRunState(
                    state=StateType.SCHEDULED, name="AwaitingRetry", message="Started again after its process was lost."
                )
            ],
        ),
        AutomationCore(
            name=f"{PREFIX}tell of a crash",
            trigger=_on("prefect.flow-run.Crashed"),
            actions=telling(f"Unroll: {_RUN} crashed", f"{_STATE}\nIt is started again by itself. {page}"),
        ),
        AutomationCore(
            name=f"{PREFIX}tell of a failure",
            trigger=_on("prefect.flow-run.Failed", "prefect.flow-run.TimedOut"),
            actions=telling(f"Unroll: {_RUN} failed", f"{_STATE}\n{page}"),
        ),
        AutomationCore(
            name=f"{PREFIX}tell of a run that does not end",
            trigger=_after({"prefect.flow-run.Running"}, frozenset(), stuck_after),
            actions=telling(
                f"Unroll: {_RUN} has been running for {stuck_after}",
                f"It is left alone; cancel it where it hangs. {page}",
            ),
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
            trigger=EventTrigger(
                expect={"unroll.drift"},
                match=ResourceSpecification({"prefect.resource.id": "unroll.project.*"}),
                posture=Posture.Reactive,
                threshold=1,
                within=timedelta(0),
            ),
            actions=telling(
                "Unroll: drift in {{ event.payload.project }}", "{{ event.payload.reason | truncate(3000) }}"
            ),
        ),
    ]


def _page_of_the_run() -> str:
    """Template of its address, as PREFECT_UI_URL says at this moment.

    The server has a filter for it, `ui_url`, but registers it only when it renders a webhook: a command alone would
    never be run.
    """
    any_run = UUID(int=0)
    return (url_for("flow-run", obj_id=any_run) or "").replace(str(any_run), "{{ flow_run.id }}")


def _on(*events: str) -> EventTrigger:
    return EventTrigger(
        expect=set(events),
        match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
        match_related=ResourceSpecification(OURS),
        for_each={"prefect.resource.id"},
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(0),
    )


def _after(begin: set[str], also: set[str] | frozenset[str], within: timedelta) -> EventTrigger:
    """Where, after one of ``begin``, neither an end nor one of ``also`` comes in time."""
    return EventTrigger(
        after=begin,
        expect={*ENDS, *also},
        match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
        match_related=ResourceSpecification(OURS),
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        threshold=1,
        within=within,
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
