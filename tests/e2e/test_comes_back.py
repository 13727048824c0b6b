"""A deployed training goes on, whatever takes its process away, at whatever moment; and never runs for ever."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import recovery_world
from tests.prefect_api import Prefect
from tests.prefect_world import Hook
from tests.recovery_world import DEATHS, try_death
from tests.stack_world import Stack, new_stack, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

UNFIT = "flows/nowhere.py:train"
"""The entry point of a flow that cannot be imported."""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the alert command writes."""
    return tmp_path_factory.mktemp("alerts") / "said"


@pytest.fixture(scope="module")
def stack(hook: Hook, said: Path) -> Iterator[Stack]:
    command = f'(echo "$UNROLL_ALERT_SUBJECT"; cat) >> {said}'
    with new_stack(UNROLL_WEBHOOK_URL=hook.url, UNROLL_ALERT_COMMAND=command) as made:
        made.up()
        yield made


@pytest.mark.parametrize("kind", DEATHS)
def test_a_training_goes_on_whatever_takes_its_process_away(
    stack: Stack, prefect: Prefect, hook: Hook, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = random.randrange(10**6)
    monkeypatch.setattr(recovery_world, "SECONDS_DARK", random.uniform(5, 180))
    is_watched_to_its_end = kind == "worker killed"
    trial = try_death(stack, prefect, kind, random.Random(seed), minutes=1.5 if is_watched_to_its_end else 30)
    print(f"{trial}, seed {seed}")
    assert math.isfinite(trial.seconds)
    if is_watched_to_its_end:
        ended = prefect.to_its_end(trial.run_id)
        assert ended["state_name"] == "Completed", ended["state"]["message"]
        assert ended["run_count"] == 2
        wait_until(lambda: hook.was_told("crashed", ended["name"], "Started again"), 30)
    else:
        prefect.cancel(trial.run_id)
    # nothing is left that looks alive and holds the queue
    held = {"flow_runs": {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}}}
    left = prefect("POST", "/flow_runs/filter", held).json()
    assert [run["name"] for run in left if run["work_queue_name"] == "training"] == []


def test_what_cannot_be_imported_is_started_three_times_and_told_of_once(
    stack: Stack, prefect: Prefect, hook: Hook, said: Path
) -> None:
    nightly = prefect.deployment("train-sentiment/nightly")
    copied = ("flow_id", "work_pool_name", "work_queue_name", "tags", "pull_steps", "job_variables")
    body = {name: nightly[name] for name in copied} | {"name": "unfit", "entrypoint": UNFIT}
    body["work_queue_name"] = "light"
    answer = prefect("POST", "/deployments/", body)
    assert answer.status_code in (200, 201), answer.text
    run_id = prefect.begin("train-sentiment/unfit")["id"]
    ended = prefect.to_its_end(run_id)
    assert ended["state_type"] == "FAILED"
    assert "an import that fails" in ended["state"]["message"]
    assert prefect.states(run_id).count("Crashed") == 3

    def told() -> list[str]:
        return [text for text in hook.told if ended["name"] in text]

    wait_until(lambda: bool(told()), 60)
    wait_until(lambda: said.exists() and ended["name"] in said.read_text(), 90)
    assert len(told()) == 1
    assert said.read_text().count(ended["name"]) == 1
