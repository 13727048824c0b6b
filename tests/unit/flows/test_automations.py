"""What the server does by itself: whom it tells, and what it never does."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.server.utilities.user_templates import render_user_template_sync, validate_user_template
from prefect.settings import PREFECT_UI_URL, temporary_settings

from flows.automations import OURS, PREFIX, make_automations

STUCK = timedelta(hours=6)
PAGES = "https://prefect.example/of/ours"


def command_parameters() -> list[dict[str, str]]:
    """Templates of what the command is given."""
    actions = all_actions(alert_deployment=uuid4())
    return [action.parameters for action in actions if action.type == "run-deployment"]


def all_actions(**places: Any) -> list[Any]:
    given = {"webhook_block": None, "alert_deployment": None, "stuck_after": STUCK, **places}
    with temporary_settings({PREFECT_UI_URL: PAGES}):
        return [action for automation in make_automations(**given) for action in automation.actions]


def test_names_are_ours_and_unique() -> None:
    names = [automation.name for automation in make_automations(None, None, STUCK)]
    assert len(set(names)) == len(names)
    assert all(name.startswith(PREFIX) for name in names)


def test_every_automation_on_flow_runs_looks_at_ours_only() -> None:
    for automation in make_automations(uuid4(), uuid4(), STUCK):
        match = automation.trigger.match.model_dump()  # type: ignore[union-attr]
        if match.get("prefect.resource.id") == ["prefect.flow-run.*"] or "prefect.flow-run.*" in str(match):
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
RUN = UUID("12345678-1234-5678-1234-567812345678")


def context(words: str) -> dict[str, Any]:
    """What the server knows of an event when it renders what is told."""
    return {
        "flow_run": {"id": RUN, "name": words, "state": {"message": words}},
        "deployment": {"name": "nightly"},
        "event": {"payload": {"project": words[:20], "reason": words}},
    }


def test_the_webhooks_payload_is_json_whatever_the_words_hold() -> None:
    for action in all_actions(webhook_block=uuid4()):
        if action.type == "call-webhook":
            validate_user_template(action.payload)
            said = json.loads(str(render_user_template_sync(action.payload, context(HOSTILE))))
            assert said["text"].startswith("Unroll: ")
            assert "49" not in said["text"]


def test_what_is_told_needs_no_filter_that_the_server_registers_only_for_webhooks() -> None:
    """In a process of its own: this one may have rendered a webhook already, as a server may or may not."""
    render = """
import json, sys
from prefect.server.utilities.user_templates import render_user_template_sync
templates, context = json.load(sys.stdin)
print(json.dumps([[render_user_template_sync(text, context) for text in each.values()] for each in templates]))
"""
    given = json.dumps([command_parameters(), context(HOSTILE)], default=str)
    done = subprocess.run([sys.executable, "-c", render], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told) == 5
    assert sum(f"{PAGES}/runs/flow-run/{RUN}" in body for _, body in told) == 3
    assert sum(HOSTILE in subject + body for subject, body in told) == 4


def test_long_words_are_cut() -> None:
    for told in command_parameters():
        words = [render_user_template_sync(text, context("word " * 200_000)) for text in told.values()]
        assert len("".join(words)) < 4000


def test_a_run_out_of_time_is_a_failure() -> None:
    (told,) = [each for each in make_automations(None, None, STUCK) if each.name.endswith("tell of a failure")]
    assert told.trigger.expect == {"prefect.flow-run.Failed", "prefect.flow-run.TimedOut"}  # type: ignore[union-attr]
