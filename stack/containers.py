"""The stack in containers: what `make up`, `make restore` and `make rotate` ask of compose.

Compose itself reads docker-compose.yml and `.env`; both forms of it do, the plugin and Debian's docker-compose 1.29.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from flows.env_file import make_env, read_env
from stack.rotate import change_secrets
from stack.services import WISHES
from stack.setup import env_file, read_setup
from unroll.errors import ConfigError, UnrollError

logger = logging.getLogger("unroll.stack")

COMPOSE_VARIABLE = "COMPOSE"
BACKUPS_VARIABLE = "UNROLL_BACKUPS"
"""The folder of this machine that the container `tools` has as /backups."""
PROFILES = ("gpu", "s3")
WRITERS = ("serve", "worker", "worker-gpu", "mlflow", "prefect")
"""Services that use the databases or the artifacts; a restore ends them."""
SECONDS_TO_START = 600.0
SECONDS_BETWEEN_LOOKS = 1.0
STATE = "{{.Name}} {{.State.Status}} {{.State.ExitCode}} {{if .State.Health}}{{.State.Health.Status}}{{end}}"


def up(profiles: Collection[str] = ()) -> None:
    """Build the images, start every service and those of the profiles; return when all are healthy.

    Raises ConfigError if compose reads something else in `.env` than what stands there; UnrollError if a service does
    not come up.
    """
    if added := make_env(env_file()):
        logger.info("wrote %s: %s", env_file(), ", ".join(added))
    check_env()
    _compose(profiles, "up", "--build", "--detach")
    _wait(profiles)


def restore(file: Path, replace: bool) -> None:
    """Put back a backup, with the services that write stopped meanwhile. Raises UnrollError if it cannot be done."""
    if not file.is_file():
        raise ConfigError(f"make restore FILE=backups/…: there is no file {file}")
    make_env(env_file())
    before = _running()
    # removed, not stopped: an engine that starts in the middle of this would start them too
    _compose(PROFILES, "rm", "--stop", "--force", *WRITERS)
    try:
        command = ("python", "-m", "stack", "restore", "--inside", f"/backups/{file.name}")
        os.environ[BACKUPS_VARIABLE] = str(file.absolute().parent)
        _compose((), "run", "--rm", "tools", *command, *(["--replace"] if replace else []))
    finally:
        _start(before)


def rotate() -> None:
    """A new value for every secret of `.env`, and what runs started anew with them."""
    make_env(env_file())
    before = _running()
    change_secrets(read_setup(), _database())
    if before:
        _start(before)
    else:
        _compose((), "rm", "--stop", "--force", "postgres")


@contextmanager
def _database() -> Iterator[None]:
    """PostgreSQL answers within the block; it goes on after it."""
    _compose((), "up", "--detach", "postgres")
    _wait((), "postgres")
    yield


def _start(before: Collection[str]) -> None:
    """Every service, and those of the profiles that ran before."""
    profiles = [profile for profile, service in {"gpu": "worker-gpu", "s3": "s3"}.items() if service in before]
    _compose(profiles, "up", "--detach")
    _wait(profiles)


def _running() -> list[str]:
    return _compose(PROFILES, "ps", "--services", "--filter", "status=running", quiet=True).split()


def check_env() -> None:
    """Compose knows variables in `.env`, we do not: a command with one in it would be another after compose read it."""
    wanted = {name: value for name, value in (read_env(env_file()) | dict(os.environ)).items() if name in WISHES}
    read = yaml.safe_load(_compose((), "config", quiet=True))["services"]["worker"]["environment"]
    for name, value in wanted.items():
        if (found := str(read.get(name, "")).replace("$$", "$")) != value:
            raise ConfigError(
                f"{name} in {env_file().name} is {value!r}, and compose makes {found!r} of it. Put the value between "
                "single quotes, and write variables without braces: NAME='… \"$VARIABLE\" …'."
            )


def _wait(profiles: Collection[str], *services: str) -> None:
    """Until every container is healthy, or has ended well if it has no health. Raises UnrollError after a while."""
    deadline = time.monotonic() + SECONDS_TO_START
    while waiting := [line for line in _states(profiles, services) if not _is_well(line)]:
        if time.monotonic() > deadline:
            raise UnrollError(f"Not healthy after {SECONDS_TO_START:.0f} s: {', '.join(waiting)}; see make logs.")
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _states(profiles: Collection[str], services: Collection[str]) -> list[str]:
    containers = _compose(profiles, "ps", "--all", "--quiet", *services, quiet=True).split()
    done = subprocess.run(
        ["docker", "inspect", "--format", STATE, *containers], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        raise UnrollError(f"docker inspect ended with {done.returncode}; what it said stands above.")
    return [line.strip().removeprefix("/") for line in done.stdout.splitlines()]


def _is_well(state: str) -> bool:
    _, status, exit_code, *health = state.split()
    return (status, health) == ("running", ["healthy"]) or (status, exit_code, health) == ("exited", "0", [])


def _compose(profiles: Collection[str], *arguments: str, quiet: bool = False) -> str:
    """Run compose to its end; with ``quiet`` what it printed. Raises UnrollError if it fails."""
    options = ["--env-file", str(env_file()), *(f"--profile={profile}" for profile in profiles)]
    done = subprocess.run(
        [*_program(), *options, *arguments], stdout=subprocess.PIPE if quiet else None, text=True, check=False
    )
    if done.returncode != 0:
        raise UnrollError(f"compose {arguments[0]} ended with {done.returncode}; what it said stands above.")
    return done.stdout or ""


def _program() -> list[str]:
    """What COMPOSE names; else docker's plugin, or the program docker-compose."""
    if named := os.environ.get(COMPOSE_VARIABLE, "").split():
        return named
    plugin = ["docker", "compose"]
    if (
        shutil.which("docker")
        and subprocess.run([*plugin, "version"], capture_output=True, check=False).returncode == 0
    ):
        return plugin
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    raise ConfigError("Neither docker compose nor docker-compose is installed; the stack without them: make stack.")
