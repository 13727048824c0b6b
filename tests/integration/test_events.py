"""The watcher and drift on a real Prefect server: one event each, there to be read, and notes that are shared."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.command import CALL_MAIN, Command
from tests.prefect_world import Hook, PrefectServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    running = PrefectServer(tmp_path_factory.mktemp("prefect"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def shared_command(server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Command:
    return Command(tmp_path_factory.mktemp("work"), server.api)


def write_corpus(path: Path, seed: int) -> None:
    chance = random.Random(seed)
    rows = [{"text": f"a film {chance.random()}", "label": number % 2} for number in range(20)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_each_change_is_one_event_on_the_server_whichever_folder_looks(server: PrefectServer, tmp_path: Path) -> None:
    here, there = (Command(tmp_path / name, server.api) for name in ("here", "there"))
    corpus = tmp_path / "reviews.jsonl"
    for command in (here, there):
        command.folder.mkdir()

    def look(command: Command) -> subprocess.CompletedProcess[str]:
        settings = ["--set", f"data.source={corpus}"]
        return command("watch", "sentiment", *settings)

    write_corpus(corpus, 1)
    assert "first look, noted" in look(here).stdout
    assert "unchanged" in look(there).stdout  # another worker's folder, the same server
    assert server.events("unroll.corpus.changed") == []

    write_corpus(corpus, 2)
    changed = look(there)
    assert changed.returncode == 0, changed.stderr
    assert "the corpus changed: data.source has the digest .jsonl" in changed.stdout
    assert "unchanged" in look(here).stdout
    (event,) = server.events("unroll.corpus.changed")
    assert event["resource"]["prefect.resource.id"] == "unroll.project.sentiment"
    assert event["resource"]["prefect.resource.name"] == "sentiment"
    assert event["payload"] == {
        "project": "sentiment",
        "preset": "sample",
        "settings": [f"data.source={corpus}"],
        "reason": changed.stdout.partition(": ")[2].strip().rstrip("."),
    }
    assert any(related["prefect.resource.id"].startswith("prefect.flow-run.") for related in event["related"])

    corpus.unlink()
    gone = look(here)
    assert gone.returncode == 1
    assert f"There is no file or folder {corpus}" in gone.stderr
    assert "Traceback" not in gone.stderr
    runs = server.ask("/flow_runs/filter", {"sort": "START_TIME_DESC", "limit": 1})
    assert (runs[0]["name"], runs[0]["state"]["type"]) == ("watch", "FAILED")
    assert f"There is no file or folder {corpus}" in runs[0]["state"]["message"]
    assert len(server.events("unroll.corpus.changed")) == 1


def test_a_look_that_was_killed_before_it_noted_leaves_one_event(server: PrefectServer, tmp_path: Path) -> None:
    command = Command(tmp_path, server.api)
    preset = tmp_path / "mine.yaml"
    preset.write_text("seed: 2\n")
    assert command("watch", "language-model", "--config", "mine.yaml").returncode == 0
    preset.write_text("seed: 3\n")
    script = """
import os
from flows.embedded import prepare_environment, workplace
prepare_environment(workplace())
from tasks import watch
watch._write_note = lambda *_: os._exit(9)
from flows.cli import main
main()
"""
    killed = command.python(script, "watch", "language-model", "--config", "mine.yaml")
    assert killed.returncode == 9, killed.stderr
    again = command("watch", "language-model", "--config", "mine.yaml")
    assert "seed is 3, was 2" in again.stdout
    assert "unchanged" in command("watch", "language-model", "--config", "mine.yaml").stdout
    (event,) = server.events("unroll.preset.changed")
    assert event["resource"]["prefect.resource.id"] == "unroll.project.language_model"
    assert event["payload"]["preset"] == "mine.yaml"


TELL = """
import logging, sys
from datetime import timedelta
from uuid import UUID
from flows.embedded import prepare_environment, workplace
from flows.logs import set_up_logs
prepare_environment(workplace())
set_up_logs(logging.INFO)
from pydantic import SecretStr
from prefect import get_client
from prefect.blocks.webhook import Webhook
from prefect.events.actions import CallWebhook
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from tasks import events
from unroll.errors import UnrollError
address, enabled, seconds, number = sys.argv[1:]
with get_client(sync_client=True) as client:
    known = {automation.name: automation.id for automation in client.read_automations()}
    block = Webhook(method="POST", url=SecretStr(address)).save("here", overwrite=True)
    for event in ("unroll.drift", "unroll.preset.changed"):
        trigger = EventTrigger(
            expect={event}, match={"prefect.resource.id": "unroll.project.*"},
            posture=Posture.Reactive, threshold=1, within=timedelta(0),
        )
        action = CallWebhook(block_document_id=block, payload='{"text": "{{ event.id }}"}')
        name = f"call at {event}"
        automation = AutomationCore(name=name, trigger=trigger, actions=[action], enabled=enabled == "yes")
        if name in known:
            client.update_automation(known[name], automation)
        else:
            client.create_automation(automation)
events.SECONDS_TO_ACT = float(seconds)
try:
    events.tell(events.DRIFT, "sentiment", "sample", [], "a test", UUID(int=int(number)))
except UnrollError as error:
    print(error)
else:
    print("told")
"""


@pytest.fixture(scope="module")
def hook() -> Iterator[Hook]:
    made = Hook(seconds=4)
    yield made
    made.close()


@pytest.fixture
def tell(server: PrefectServer, hook: Hook, command: Command) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Emit event NUMBER on a server with an automation that calls the webhook at it, and one for another event."""

    def told(number: int, enabled: str = "yes", seconds: float = 60, url: str = "") -> subprocess.CompletedProcess[str]:
        arguments = (url or hook.url, enabled, str(seconds), str(number))
        return command.python(TELL, *arguments, environment={"PREFECT_API_URL": server.api})

    return told


def test_an_event_is_told_only_once_its_automation_has_acted(tell: Callable[..., Any], hook: Hook) -> None:
    first = tell(1)
    assert first.stdout == "told\n", first.stderr
    assert hook.told == [str(UUID(int=1))]
    begun = time.monotonic()
    assert tell(1).stdout == "told\n"
    print(f"told again, without a call, in {time.monotonic() - begun:.1f} s with the start of the process")
    assert hook.told == [str(UUID(int=1))]


def test_an_automation_that_does_not_act_in_time_is_named_and_one_that_fails_is_a_warning(
    tell: Callable[..., Any], hook: Hook
) -> None:
    late = tell(2, seconds=1).stdout
    assert "has the event unroll.drift of the sentiment project" in late
    assert "within 1 s it did not do what it is to do then (call at unroll.drift); it was not noted as told" in late
    failed = tell(3, url="http://127.0.0.1:9/closed")
    assert failed.stdout == "told\n"
    assert "warning: call at unroll.drift: what is to be done failed" in failed.stderr


def test_an_automation_that_is_switched_off_is_not_waited_for(tell: Callable[..., Any], hook: Hook) -> None:
    assert tell(4, enabled="no", seconds=0).stdout == "told\n"
    assert str(UUID(int=4)) not in hook.told


def test_what_cannot_be_looked_at_does_not_keep_the_others_from_being_looked_at(
    server: PrefectServer, tmp_path: Path
) -> None:
    script = """
from flows.embedded import prepare_environment, workplace
prepare_environment(workplace())
from flows.watch import watch
from tasks.watch import Watched
state = watch([Watched(preset="none"), Watched(project="language_model", preset="fast")], return_state=True)
print(state.type.value, state.message)
"""
    answer = Command(tmp_path, server.api).python(script)
    assert answer.returncode == 0, answer.stderr
    assert "FAILED sentiment none: cannot be looked at: There is no preset 'none'" in answer.stdout
    assert "language model fast: first look, noted" in answer.stdout


def test_progress_is_shown_while_training_runs_with_the_time_left(server: PrefectServer, tmp_path: Path) -> None:
    options = ["--set", "training.epochs=400", "--set", "data.sample_size=600", "--set", "evaluation.rival=false"]
    command = Command(tmp_path, server.api)
    training = subprocess.Popen(
        [sys.executable, "-c", CALL_MAIN, "run", "sentiment", *options],
        cwd=tmp_path,
        env=command.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        seen: list[tuple[float, str]] = []
        deadline = time.monotonic() + 120
        while len(seen) < 3 and time.monotonic() < deadline and training.poll() is None:
            found = server.ask("/artifacts/filter", {"artifacts": {"key": {"any_": ["training-sentiment"]}}})
            now = [(artifact["data"], artifact["description"]) for artifact in found if artifact["data"]]
            seen += [one for one in now if one not in seen]
            time.sleep(0.3)
    finally:
        training.terminate()
        training.wait(timeout=60)
    assert len(seen) == 3
    assert [share for share, _ in seen] == sorted(share for share, _ in seen)
    assert all(0 < share < 100 for share, _ in seen)
    assert " tokens/s, " in seen[-1][1]
    assert seen[-1][1].endswith(" left")
    (ended,) = server.ask("/artifacts/filter", {"artifacts": {"key": {"any_": ["training-sentiment"]}}})
    assert ended["description"].endswith("ended by InterruptedTraining")


def test_drifted_reviews_and_texts_are_told_and_like_ones_are_not(
    server: PrefectServer, shared_command: Command
) -> None:
    before = {event["id"] for event in server.events("unroll.drift")}

    def drifts() -> list[dict[str, Any]]:
        """Events that other tests have not made."""
        return [event for event in server.events("unroll.drift") if event["id"] not in before]

    shared_command.run("all")
    make_inputs = """
import json
from unroll.data.sample import iter_reviews, make_prose
reviews = [review.text for chunk in iter_reviews(1500, seed=77) for review in chunk]
for name, texts in {"same": reviews, "other": [f"zwölf boxkämpfer {text} {text} {text}" for text in reviews]}.items():
    with open(f"{name}.jsonl", "w") as file:
        file.writelines(json.dumps({"text": text}) + "\\n" for text in texts)
prose = make_prose(60_000, seed=9).text
for name, text in {"same": prose, "other": prose.upper()}.items():
    open(f"{name}.txt", "w").write(text)
"""
    assert shared_command.python(make_inputs).returncode == 0
    said = {}
    for name in ("same.jsonl", "other.jsonl", "same.txt", "other.txt"):
        answer = shared_command("score", name, f"drift-{name}")
        assert answer.returncode == 0, answer.stderr
        said[name] = answer.stdout
    for name in ("same.jsonl", "same.txt"):
        assert "drift: none; within the bounds" in said[name]
    for name in ("other.jsonl", "other.txt"):
        assert "drift: drifted; past the bound" in said[name]
    assert "bits per character" in said["same.txt"]
    events = {event["resource"]["prefect.resource.id"]: event for event in drifts()}
    assert set(events) == {"unroll.project.sentiment", "unroll.project.language_model"}
    assert len(drifts()) == 2
    payload = events["unroll.project.sentiment"]["payload"]
    assert payload["preset"] == "sample"
    assert "training.epochs=1" in payload["settings"]
    assert payload["reason"].startswith("other.jsonl has drifted from what version 1 was validated on: past the bound")
    wide = ["--set", "drift.stability_index=50", "--set", "drift.unknown_rise=0.9"]
    answer = shared_command("score", "other.jsonl", "wide", *wide)
    assert "drift: none" in answer.stdout
    assert len(drifts()) == 2
    wrong = shared_command("score", "other.jsonl", "wrong", "--set", "drift.stability=1")
    assert wrong.returncode == 2
    assert "unknown setting drift.stability; did you mean drift.stability_index?" in wrong.stderr
