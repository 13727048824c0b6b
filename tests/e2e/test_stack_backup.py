"""Backup, wipe, restore: runs, models, aliases and artifacts are all back, and the champion predicts the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from stack.archive import read_archive
from tests.command import SMALL
from tests.stack_world import Stack, new_stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TEXTS = ["I expected it to be dull, but it was moving.", "I expected it to be moving, but it was dull.", "good", "bad"]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """A stack with two versions of a model: a champion and a challenger."""
    with new_stack() as made:
        made.up()
        for seed in ("1", "2"):
            done = made.unroll("run", "sentiment", *SMALL, "--set", f"seed={seed}")
            assert done.returncode == 0, done.stderr
        yield made


def ask_mlflow(stack: Stack, path: str, body: dict[str, Any]) -> Any:
    known = stack.secrets
    url = f"http://127.0.0.1:{stack.ports['mlflow']}/api/2.0/mlflow/{path}"
    login = (known["MLFLOW_TRACKING_USERNAME"], known["MLFLOW_TRACKING_PASSWORD"])
    answer = httpx.post(url, json=body, auth=login, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


def contents(stack: Stack) -> dict[str, Any]:
    """All that a restore must bring back, as the servers tell it."""
    experiments = ask_mlflow(stack, "experiments/search", {"max_results": 100})["experiments"]
    runs = ask_mlflow(
        stack, "runs/search", {"experiment_ids": [each["experiment_id"] for each in experiments], "max_results": 100}
    ).get("runs", [])
    user, _, password = stack.secrets["PREFECT_API_AUTH_STRING"].partition(":")
    flow_runs = httpx.post(
        f"http://127.0.0.1:{stack.ports['prefect']}/api/flow_runs/filter", json={}, auth=(user, password), timeout=30
    ).json()
    return {
        "runs": sorted(runs, key=lambda run: run["info"]["run_id"]),
        "models": stack.unroll("models", "list").stdout,
        "history": stack.unroll("models", "history", "--json").stdout,
        "card": stack.unroll("models", "show", "unroll-sentiment").stdout,
        "predictions": stack.unroll("predict", *TEXTS).stdout,
        # those of `unroll run`; the worker goes on making others
        "flow runs": sorted((run["id"], run["state_type"]) for run in flow_runs if run["deployment_id"] is None),
        "artifacts": {
            str(path.relative_to(stack.data)): path.read_bytes()
            for path in (stack.data / "artifacts").rglob("*")
            if path.is_file()
        },
    }


def test_backup_wipe_restore(stack: Stack) -> None:
    before = contents(stack)
    assert len(before["runs"]) == len(before["flow runs"]) == 2
    assert "champion" in before["models"]
    assert len(before["predictions"].splitlines()) >= len(TEXTS)
    assert len(before["artifacts"]) > 10
    target = stack.folder / "kept.tar"
    done = stack("backup", str(target))
    assert done.returncode == 0, done.stderr
    assert len(stack.processes()) > 0, "a backup stops nothing"

    stack.down()
    shutil.rmtree(stack.folder / ".unroll")
    stack.up()
    wiped = contents(stack)
    assert (wiped["runs"], wiped["artifacts"], wiped["predictions"]) == ([], {}, "")

    done = stack("restore", str(target))
    assert done.returncode == 0, done.stderr
    after = contents(stack)
    assert {name for name in before if before[name] != after[name]} == set()


def test_a_restore_refuses_to_replace_what_it_was_not_told_to(stack: Stack) -> None:
    target = stack.folder / "again.tar"
    assert stack("backup", str(target)).returncode == 0
    before = contents(stack)
    done = stack("restore", str(target))
    assert done.returncode == 1
    assert "The stack is not empty" in done.stderr
    assert contents(stack) == before
    done = stack("restore", str(target), "--replace")
    assert done.returncode == 0, done.stderr
    assert contents(stack) == before


def test_a_damaged_backup_changes_nothing_and_stops_nothing(stack: Stack, tmp_path: Path) -> None:
    target = stack.folder / "damaged.tar"
    assert stack("backup", str(target)).returncode == 0
    members = read_archive(target).digests
    assert {"prefect.dump", "mlflow.dump"} <= set(members)
    whole = bytearray(target.read_bytes())
    whole[len(whole) // 2] ^= 0xFF
    target.write_bytes(whole)
    processes = {process.pid for process in stack.processes("prefect")}
    done = stack("restore", str(target), "--replace")
    assert done.returncode == 1
    assert "damaged" in done.stderr
    assert {process.pid for process in stack.processes("prefect")} == processes


def test_a_backup_of_a_stack_that_is_down_leaves_it_down(stack: Stack) -> None:
    stack.down()
    target = stack.folder / "down.tar"
    done = stack("backup", str(target))
    assert done.returncode == 0, done.stderr
    assert stack.processes() == []
    assert json.loads(json.dumps(dict(read_archive(target).about)))["made"].startswith("20")
