"""The vault that the backup commands work on: of the local stack, or of the containers from within one of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from flows.env_file import make_env
from stack.services import artifacts_of
from stack.setup import env_file, read_setup
from stack.start import database_alone, nobody_else_starts
from stack.vault import CONNECTION, Vault, vault_of_environment


@contextmanager
def open_vault(inside: bool, keep: bool) -> Iterator[Vault]:
    """Databases that answer, and where the artifacts are.

    inside: the environment says where; nothing is started or stopped. keep: other services may go on, and be started.
    """
    if inside:
        yield vault_of_environment()
        return
    make_env(env_file())
    setup = read_setup()
    with ExitStack() as held:
        if not keep:
            held.enter_context(nobody_else_starts(setup))
        held.enter_context(database_alone(setup, keep))
        upgrade = setup.service("mlflow-upgrade").environment
        yield Vault(
            {name: upgrade[name] for name in CONNECTION}, artifacts_of(setup.settings, setup.place), setup.database
        )
