"""The vault that the backup commands work on: of the local stack, or of the containers from within one of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from flows.env_file import make_env
from stack.backup import Vault
from stack.services import artifacts_of
from stack.setup import env_file, read_setup
from stack.start import database_alone
from unroll.errors import ConfigError

CONNECTION = ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD")


@contextmanager
def open_vault(inside: bool, keep: bool) -> Iterator[Vault]:
    """Databases that answer, and where the artifacts are.

    inside: the environment says where; nothing is started or stopped. keep: other services may go on.
    """
    if inside:
        yield _vault_of_environment()
        return
    make_env(env_file())
    setup = read_setup()
    with database_alone(setup, keep):
        upgrade = setup.service("mlflow-upgrade").environment
        yield Vault(
            {name: upgrade[name] for name in CONNECTION}, artifacts_of(setup.settings, setup.place), setup.database
        )


def _vault_of_environment() -> Vault:
    missing = [name for name in (*CONNECTION, "UNROLL_ARTIFACTS") if not os.environ.get(name)]
    if missing:
        raise ConfigError(f"{', '.join(missing)} not set; --inside is for the container `tools` of docker-compose.yml.")
    return Vault({name: os.environ[name] for name in CONNECTION}, os.environ["UNROLL_ARTIFACTS"])
