"""The stack in containers, from the first build to the last trace of it: steps of one story, in their order."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.containers.record import Record
from tests.containers.world import ALERTS, World
from tests.prefect_api import Prefect
from tests.stack_world import wait_until

pytestmark = [pytest.mark.containers, pytest.mark.timeout(2400)]

LARGEST_IMAGE = 2.5e9
SECONDS_TO_GO_ON = 240.0
SECONDS_TO_END = 420.0
IMAGE = "unroll:0.1.0"
OF_THE_IMAGE = (
    "constraints.txt",
    "pyproject.toml",
    "LICENSE",
    "prefect.yaml",
    "configs",
    "src",
    "flows",
    "tasks",
    "stack",
)
SECRETS = ("POSTGRES_PASSWORD", "PREFECT_API_AUTH_STRING", "MLFLOW_TRACKING_PASSWORD", "UNROLL_SERVE_TOKEN")
SMALL = ["data.sample_size=240", "training.epochs=1", "model.hidden_size=8", "model.embedding_dim=8"]
SMALL += ["evaluation.rival=false", "evaluation.bootstrap_samples=100"]
LONG = ["data.sample_size=4000", "training.epochs=500", "training.max_minutes=1.5", *SMALL[2:]]
LONG += ["training.checkpoint_seconds=1", "training.patience=500"]
"""A training of a minute and a half that saves a checkpoint every second."""


@pytest.fixture
def prefect(world: World) -> Prefect:
    return Prefect(world)  # type: ignore[arg-type] # it asks for ports and secrets


def goes_on(world: World, prefect: Prefect, break_it: Callable[[], None], seed: int) -> list[str]:
    """Train, break something in the middle, and see the same run go on and end well; what was seen."""
    settings = [*LONG, f"seed={seed}"]
    run_id = prefect.begin("train-sentiment/nightly", preset="sample", settings=settings)["id"]
    wait_until(lambda: prefect.run(run_id)["state_name"] == "Running", SECONDS_TO_END)
    checkpoints = world.until(r"train-(\w+)/.*progress.json", "worker", "find", "/data/unroll/work", seconds=180)
    time.sleep(random.uniform(2, 20))
    broken = time.monotonic()
    break_it()

    def states() -> list[str]:
        try:
            return prefect.states(run_id)
        except httpx.HTTPError:
            return []  # the server was broken too

    wait_until(lambda: states().count("Running") > 1, SECONDS_TO_GO_ON)
    seconds = time.monotonic() - broken
    ended = prefect.to_its_end(run_id, SECONDS_TO_END)
    assert ended["state_name"] == "Completed", ended["state"]["message"]
    trained = json.loads(world.exec("worker", "cat", f"/data/unroll/store/sentiment/train/{checkpoints}/training.json"))
    step = trained["resumed_from_step"]
    assert step > 0
    return [f"goes on after {seconds:.0f} s, from step {step:,}", " → ".join(states())]


def kept(world: World) -> dict[str, Any]:
    """What must outlive everything: models with their aliases, runs with their metrics, and what is predicted."""
    return {"models": world.models(), "runs": world.runs(), "predictions": world.predictions()}


def test_the_image_is_built_and_is_small(world: World, record: Record) -> None:
    with record.step("build the image") as step:
        world.compose("build", "worker", timeout=2000)
        [image] = json.loads(world.engine("image", "inspect", IMAGE))
        step.seen.append(f"{image['Size'] / 1e9:.2f} GB")
        assert image["Size"] < LARGEST_IMAGE
        found = world.engine("run", "--rm", "--network", "none", IMAGE, "ls", "-A", "/app").split()
        assert sorted(found) == sorted(OF_THE_IMAGE)


def test_make_up_returns_when_all_is_healthy(world: World, record: Record) -> None:
    with record.step("make up") as step:
        world.make("up", "COMPOSE=docker-compose")
        found = world.containers()
        health = {name: each["State"].get("Health", {}).get("Status", "ended") for name, each in found.items()}
        assert set(health.values()) == {"healthy", "ended"}
        step.seen.append(f"{list(health.values()).count('healthy')} services healthy")


def test_no_container_has_a_privilege_or_can_write_to_its_root(world: World, record: Record) -> None:
    with record.step("privileges") as step:
        found = world.containers()
        running = [name for name, each in found.items() if each["State"]["Running"]]
        assert set(running) == {"postgres", "prefect", "mlflow", "worker", "serve"}
        for name in running:
            status = dict(line.split(":", 1) for line in world.exec(name, "cat", "/proc/1/status").splitlines())
            assert "0" not in status["Uid"].split(), name
            assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0, name
            assert status["NoNewPrivs"].strip() == "1", name
            written = world.exec(name, "sh", "-c", "touch /here /app/here /usr/bin/here 2>&1 || true")
            assert written.count("Read-only file system") >= 2, (name, written)
        for name in found:
            assert found[name]["HostConfig"]["ReadonlyRootfs"], name
        step.seen.append("no root, no capability, read-only root in each")


def test_no_service_answers_without_credentials(world: World, record: Record) -> None:
    with record.step("credentials") as step:
        wrong = dict.fromkeys(world.secrets, "wrong:wrong")
        assert world.answers(wrong) == dict.fromkeys(("prefect", "mlflow", "serve"), 401)
        assert world.answers(world.secrets) == dict.fromkeys(("prefect", "mlflow", "serve"), 200)
        step.seen.append("401 with wrong ones, 200 with those of .env")


def test_a_deployment_trains_and_its_model_is_served(world: World, prefect: Prefect, record: Record) -> None:
    with record.step("train through the worker") as step:
        parameters = json.dumps({"preset": "sample", "settings": SMALL})
        command = ("prefect", "deployment", "run", "train-sentiment/nightly", "--params", parameters, "--watch")
        world.exec("worker", *command, timeout=600)
        assert "champion" in world.models()["unroll-sentiment"]
    with record.step("serve the champion") as step:
        wait_until(world.serves, 120)
        step.seen.append(f"{len(world.predictions())} predictions")


def test_an_alert_command_runs_with_its_subject(world: World, prefect: Prefect, record: Record) -> None:
    with record.step("alert command") as step:
        run = prefect.begin("alert/command", subject="it's $(here)", body="and what")
        assert prefect.to_its_end(run["id"])["state_name"] == "Completed"
        said = world.exec("worker", "cat", ALERTS)
        assert "it's $(here)|and what" in said
        step.seen.append("subject and words arrived")


def test_a_killed_workers_run_goes_on(world: World, prefect: Prefect, record: Record) -> None:
    def kill() -> None:
        # not `docker kill`, which counts as a person's wish: such a container is not started again
        os.kill(world.containers()["worker"]["State"]["Pid"], signal.SIGKILL)

    with record.step("kill the worker's container in mid-training") as step:
        step.seen += goes_on(world, prefect, kill, seed=11)


def test_a_killed_engines_run_goes_on(world: World, prefect: Prefect, record: Record) -> None:
    def kill() -> None:
        world.engine.kill()
        time.sleep(5)
        world.engine.start()

    with record.step("kill the engine in mid-training") as step:
        step.seen += goes_on(world, prefect, kill, seed=12)


def test_down_and_up_changes_nothing(world: World, record: Record) -> None:
    before = kept(world)
    with record.step("make down"):
        world.make("down", "COMPOSE=docker-compose")
        assert world.engine("ps", "--all", "--quiet") == ""
    with record.step("make up again"):
        world.make("up", "COMPOSE=docker-compose")
        wait_until(world.serves, 120)
        assert kept(world) == before


def test_backup_wipe_restore(world: World, record: Record, scratch: Path) -> None:
    before, file = kept(world), scratch / "kept" / "backup.tar"
    with record.step("make backup") as step:
        world.make("backup", "COMPOSE=docker-compose", f"FILE={file}")
        step.seen.append(f"{file.stat().st_size / 2**20:.1f} MiB")
    with record.step("wipe the volumes") as step:
        world.compose("down", "--volumes")
        world.make("up", "COMPOSE=docker-compose")
        assert (world.models(), world.runs()) == ({}, {})
    with record.step("make restore") as step:
        world.make("restore", "COMPOSE=docker-compose", f"FILE={file}")
        wait_until(world.serves, 120)
        assert kept(world) == before
        step.seen.append("models, history and predictions are back")


def test_rotated_secrets_replace_the_old_ones(world: World, record: Record) -> None:
    before, old = kept(world), world.secrets
    with record.step("make rotate") as step:
        world.make("rotate", "COMPOSE=docker-compose")
        assert [name for name in SECRETS if world.secrets[name] == old[name]] == []
        wait_until(world.serves, 120)
        assert set(world.answers(old).values()) == {401}
        assert set(world.answers(world.secrets).values()) == {200}
        assert kept(world) == before
        step.seen.append("old ones refused, new ones taken, models as before")


def test_nothing_is_left_behind(world: World, record: Record, scratch: Path) -> None:
    with record.step("take it down") as step:
        world.compose("--profile", "gpu", "--profile", "s3", "down", "--volumes")
        assert world.engine("ps", "--all", "--quiet") == ""
        assert world.engine("volume", "ls", "--quiet") == ""
        assert world.engine("network", "ls", "--quiet", "--filter", "type=custom") == ""
        world.engine.stop()
        shutil.rmtree(scratch)
        assert world.engine.leftovers() == []
        step.seen.append("no container, volume, network, process, mount, firewall rule or folder is left")
