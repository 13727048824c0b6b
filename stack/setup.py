"""The local stack's settings and folder, as the environment and `.env` give them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flows.embedded import workplace
from flows.env_file import DEFAULT_PATH, read_env
from stack.services import Place, Service, local, services
from unroll.errors import ConfigError

FOLDER_VARIABLE = "UNROLL_STACK_FOLDER"
ENV_FILE_VARIABLE = "UNROLL_ENV_FILE"
LONGEST_SOCKET_PATH = 100
"""Bytes; the kernel takes 107."""


@dataclass(frozen=True)
class Setup:
    """One local stack. Making one touches no disk."""

    folder: Path
    """Absolute folder of databases, artifacts, logs and the supervisor's files."""
    env_file: Path
    settings: Mapping[str, str]
    """The environment over `.env`."""
    place: Place
    services: tuple[Service, ...]

    def service(self, name: str) -> Service:
        """The service of that name. Raises ConfigError."""
        for service in self.services:
            if service.name == name:
                return service
        raise ConfigError(f"There is no service {name!r}; expected one of {', '.join(s.name for s in self.services)}.")

    @property
    def logs(self) -> Path:
        """Folder of a log for each service."""
        return self.folder / "logs"

    @property
    def artifacts(self) -> Path:
        """MLflow's artifacts."""
        return self.folder / "artifacts"

    @property
    def database(self) -> Path:
        """PostgreSQL's data."""
        return self.folder / "postgres"


def stack_folder() -> Path:
    """The folder of the local stack: `.unroll/stack`, unless UNROLL_STACK_FOLDER names another."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named).expanduser().absolute() if named else workplace().root / "stack"


def env_file() -> Path:
    """`.env` in the working folder, unless UNROLL_ENV_FILE names another."""
    return Path(os.environ.get(ENV_FILE_VARIABLE) or DEFAULT_PATH).expanduser().absolute()


def read_setup() -> Setup:
    """The stack of this working folder. Raises ConfigError: a secret is missing, or a port is none."""
    path, folder = env_file(), stack_folder()
    settings = read_env(path) | {name: value for name, value in os.environ.items() if value}
    place = local(settings, folder, workplace().root)
    return Setup(folder, path, settings, place, services(settings, place))
