"""What the server does by itself: whom it tells, and what it never does."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any
from uuid import uuid4

import pytest
from prefect.server.utilities.user_templates import render_user_template_sync, validate_user_template

from flows.automations import OURS, PREFIX, make_automations


def all_actions(**places: Any) -> list[Any]:
    given = {"webhook_block": None, "alert_deployment": None, **places}
    return [action for automation in make_automations(**given) for action in automation.actions]


def test_names_are_ours_and_unique() -> None:
    names = [automation.name for automation in make_automations(None, None)]
    assert len(set(names)) == len(names)
    assert all(name.startswith(PREFIX) for name in names)


def test_every_automation_on_flow_runs_looks_at_ours_only() -> None:
    for automation in make_automations(uuid4(), uuid4()):
        expected = automation.trigger.expect  # type: ignore[union-attr]
        if any(event.startswith("prefect.flow-run.") for event in expected):
            related = automation.trigger.match_related  # type: ignore[union-attr]
            assert str(OURS["prefect.resource.id"]) in str(related.model_dump())


@pytest.mark.parametrize(
    ("webhook", "command", "kinds"),
    [
        (False, False, {"do-nothing"}),
        (True, False, {"call-webhook"}),
        (False, True, {"run-deployment"}),
        (True, True, {"call-webhook", "run-deployment"}),
    ],
)
def test_people_are_told_in_the_ways_that_there_are(webhook: bool, command: bool, kinds: set[str]) -> None:
    actions = all_actions(webhook_block=uuid4() if webhook else None, alert_deployment=uuid4() if command else None)
    assert {action.type for action in actions} - {"change-flow-run-state"} == kinds


HOSTILE = 'a "quoted" \\ line\nand <b> {{ 7 * 7 }} {% raw %} é'
CONTEXT = {"event": {"payload": {"project": "p", "reason": HOSTILE, "subject": f"Unroll: {HOSTILE}", "body": HOSTILE}}}
"""What the server knows of an event when it renders what is told."""


def test_the_webhooks_payload_is_json_whatever_the_words_hold() -> None:
    for action in all_actions(webhook_block=uuid4()):
        if action.type == "call-webhook":
            validate_user_template(action.payload)
            said = json.loads(str(render_user_template_sync(action.payload, CONTEXT)))
            assert said["text"].startswith("Unroll: ")
            assert "49" not in said["text"]


def test_what_the_command_is_told_needs_no_filter_that_the_server_registers_only_for_webhooks() -> None:
    """In a process of its own: this one may have rendered a webhook already, as a server may or may not."""
    render = """
import json, sys
from prefect.server.utilities.user_templates import render_user_template_sync
templates, context = json.load(sys.stdin)
print(json.dumps([[render_user_template_sync(text, context) for text in each.values()] for each in templates]))
"""
    actions = all_actions(alert_deployment=uuid4())
    templates = [action.parameters for action in actions if action.type == "run-deployment"]
    given = json.dumps([templates, CONTEXT])
    done = subprocess.run([sys.executable, "-c", render], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [HOSTILE in body or subject == "Unroll: no worker" for subject, body in told] == [True] * 3
