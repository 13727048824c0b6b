"""What compose is asked to do: a restore and a rotation bring back what ran before, and `.env` means what it says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from flows.env_file import make_env, read_env
from stack import containers
from unroll.errors import ConfigError, UnrollError

ROOT = Path(__file__).resolve().parents[3]
COMPOSE = """#!{python}
import os, pathlib, sys
arguments = [os.environ["UNROLL_BACKUPS"]] if "UNROLL_BACKUPS" in os.environ and "run" in sys.argv else []
arguments += [word for word in sys.argv[1:] if not word.startswith("--env-file") and not word.endswith(".env")]
with open({folder!r} + "/asked", "a") as file:
    print(" ".join(arguments), file=file)
if "--services" in arguments:
    print(pathlib.Path({folder!r} + "/running").read_text())
elif "ps" in arguments:
    print("one two three")
elif "config" in arguments:
    print("services: {{worker: {{environment: {{}}}}}}")
elif "run" in arguments:
    sys.exit(int(pathlib.Path({folder!r} + "/fails").exists()))
"""
DOCKER = """#!/bin/sh
printf '%s\\n' '/one running 0 healthy' '/two exited 0 ' '/three running 0 healthy'
"""


class Asked:
    """A compose that does nothing, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.backup = folder / "backups" / "kept.tar"
        self.backup.parent.mkdir()
        self.backup.touch()

    def runs(self, *services: str) -> None:
        (self.folder / "running").write_text("\n".join(services))

    @property
    def lines(self) -> list[str]:
        """The calls that change something."""
        said = (self.folder / "asked").read_text().splitlines()
        return [line for line in said if not {"ps", "config"} & set(line.split())]


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in {
        "compose": COMPOSE.format(python=sys.executable, folder=str(tmp_path)),
        "docker": DOCKER,
    }.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv(containers.COMPOSE_VARIABLE, str(programs / "compose"))
    monkeypatch.setenv(containers.BACKUPS_VARIABLE, "elsewhere")  # put back after the test
    return Asked(tmp_path)


def test_a_restore_starts_the_gpus_worker_again_if_it_ran_before(asked: Asked) -> None:
    asked.runs("postgres", "prefect", "mlflow", "worker", "worker-gpu", "serve")
    containers.restore(asked.backup, replace=True)
    stop, run, up = asked.lines
    assert stop.startswith("--profile=gpu --profile=s3 rm --stop --force ")
    assert {"worker", "worker-gpu", "serve", "prefect", "mlflow"} <= set(stop.split())
    assert run == f"{asked.backup.parent} run --rm tools python -m stack restore --inside /backups/kept.tar --replace"
    assert up == "--profile=gpu up --detach"


def test_a_restore_starts_no_worker_that_did_not_run(asked: Asked) -> None:
    asked.runs("postgres", "worker")
    containers.restore(asked.backup, replace=False)
    assert asked.lines[1].endswith("/backups/kept.tar")
    assert asked.lines[-1] == "up --detach"


def test_a_restore_that_fails_starts_everything_again_and_says_so(asked: Asked) -> None:
    asked.runs("postgres", "worker-gpu")
    (asked.folder / "fails").touch()
    with pytest.raises(UnrollError, match="compose run ended with 1"):
        containers.restore(asked.backup, replace=False)
    assert asked.lines[-1] == "--profile=gpu up --detach"


def test_a_rotation_starts_what_ran_with_the_new_secrets(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    make_env(asked.folder / ".env")
    old = read_env(asked.folder / ".env")
    told: list[tuple[str, str]] = []
    monkeypatch.setattr(
        "stack.rotate._change_password",
        lambda setup, now, fresh: told.append((now["POSTGRES_PASSWORD"], fresh["POSTGRES_PASSWORD"])),
    )
    asked.runs("postgres", "worker-gpu", "s3")
    containers.rotate()
    new = read_env(asked.folder / ".env")
    assert told == [(old["POSTGRES_PASSWORD"], new["POSTGRES_PASSWORD"])]
    assert old["UNROLL_SERVE_TOKEN"] != new["UNROLL_SERVE_TOKEN"]
    assert asked.lines == ["up --detach postgres", "--profile=gpu --profile=s3 up --detach"]


def test_a_rotation_of_a_stack_that_is_down_leaves_it_down(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stack.rotate._change_password", lambda *_: None)
    asked.runs()
    containers.rotate()
    assert asked.lines == ["up --detach postgres", "rm --stop --force postgres"]


@pytest.mark.parametrize(
    ("state", "is_well"),
    [
        ("a running 0 healthy", True),
        ("a exited 0", True),
        ("a running 0 starting", False),
        ("a running 0 unhealthy", False),
        ("a exited 1", False),
        ("a running 0", False),
        ("a exited 0 healthy", False),
    ],
)
def test_what_counts_as_healthy(state: str, is_well: bool) -> None:
    assert containers._is_well(state) is is_well


DOCUMENTED = """'mail -s "$UNROLL_ALERT_SUBJECT" team@example.org'"""
needs_compose = pytest.mark.skipif(
    shutil.which("docker-compose") is None, reason="docker-compose is not installed (apt-get install)"
)


@pytest.fixture
def real_compose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the project's compose file and a full `.env`."""
    shutil.copy(ROOT / "docker-compose.yml", tmp_path)
    make_env(tmp_path / ".env")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(containers.COMPOSE_VARIABLE, "docker-compose")
    return tmp_path / ".env"


@needs_compose
def test_the_documented_alert_command_reaches_the_worker_whole(real_compose: Path) -> None:
    assert f"UNROLL_ALERT_COMMAND={DOCUMENTED}" in (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
    with real_compose.open("a") as file:
        file.write(f"UNROLL_ALERT_COMMAND={DOCUMENTED}\n")
    containers.check_env()
    read = subprocess.run(["docker-compose", "config"], capture_output=True, text=True, check=True).stdout
    assert 'UNROLL_ALERT_COMMAND: mail -s "$$UNROLL_ALERT_SUBJECT" team@example.org' in read  # $$ is a $ in this file


@needs_compose
def test_the_container_of_backups_has_the_folder_that_a_file_is_in(
    real_compose: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(containers.BACKUPS_VARIABLE, "/somewhere")
    command = ["docker-compose", "--profile", "tools", "config"]
    read = yaml.safe_load(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert [volume for volume in read["services"]["tools"]["volumes"] if "backups" in volume] == [
        "/somewhere:/backups:rw"
    ]


@needs_compose
@pytest.mark.parametrize("quote", ["", "'"])
def test_a_variable_that_compose_would_lose_is_refused(real_compose: Path, quote: str) -> None:
    with real_compose.open("a") as file:
        file.write(f'UNROLL_ALERT_COMMAND={quote}mail -s "${{UNROLL_ALERT_SUBJECT}}" team@example.org{quote}\n')
    with pytest.raises(ConfigError, match=r"UNROLL_ALERT_COMMAND in \.env .* single quotes, .* without braces"):
        containers.check_env()
