"""Become one service of the local stack: ``python -m stack.run NAME``. The supervisor starts each of them so.

Settings are read at this moment, so a service that is started again has what `.env` says now, and no secret stands in
the supervisor's file or on a command line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from stack import postgres
from stack.leftovers import MARK, end_leftovers, fresh_scratch
from stack.services import Service
from stack.setup import Setup, read_setup

MODULES = {"python": (), "unroll": ("-m", "flows.cli"), "prefect": ("-m", "prefect"), "mlflow": ("-m", "mlflow")}
"""How this Python is given each of its programs."""

FOREIGN = ("PREFECT_", "MLFLOW_", "PG", "POSTGRES_", "UNROLL_STACK_MARK")
"""Variables that a service takes from its description alone, whatever the shell had."""


def program(setup: Setup, command: tuple[str, ...]) -> list[str]:
    """The command with its program found: this Python's, or one of PostgreSQL's."""
    name, *arguments = command
    if name in MODULES:
        return [sys.executable, *MODULES[name], *arguments]
    return [str(postgres.find_program(name, setup.database)), *arguments]


def environment_of(setup: Setup, service: Service, inherited: Mapping[str, str]) -> dict[str, str]:
    """What the service's process sees."""
    plain = {name: value for name, value in inherited.items() if not name.startswith(FOREIGN)}
    mark = {MARK: f"{setup.folder}:{service.name}", "PYTHONUNBUFFERED": "1"}
    return plain | mark | dict(service.environment)


def main() -> None:
    """End what an earlier process of this service left behind, then become the service."""
    setup = read_setup()
    service = setup.service(sys.argv[1])
    # the children of a killed server would keep its port, and a killed worker's run would go on with nobody watching
    end_leftovers(setup.folder, service.name)
    environment = environment_of(setup, service, os.environ)
    command = program(setup, service.command)
    if service.name == "postgres":
        postgres.drop_stale_lock(setup.database)
        owner = postgres.account()
        if owner is not None:
            os.chdir(Path(environment["PGDATA"]))
            owner.become()
    elif scratch := fresh_scratch(setup.folder, service.name):
        environment["TMPDIR"] = str(scratch)
    os.execvpe(command[0], command, environment)


if __name__ == "__main__":
    main()
