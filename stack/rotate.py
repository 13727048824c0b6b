"""New values for every secret of the stack, without losing what they guard.

PostgreSQL is told its new password here; MLflow's administrator gets theirs from `stack.upgrade` at the next start; the
rest is read from `.env` by whoever starts. A kill at any instant leaves `.env.next` to go on from.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager

from flows.env_file import fresh_env, read_env, with_values, write_private
from stack.setup import Setup, read_setup
from stack.start import database_alone, never_started, running, start
from unroll.errors import ConfigError

logger = logging.getLogger("unroll.stack")


def rotate() -> Setup:
    """Change every secret of the local stack, and start anew what runs. Raises as `change_secrets`."""
    setup = read_setup()
    was_up, skipped = running(setup), never_started(setup)
    change_secrets(setup, database_alone(setup, keep=True) if setup.database.exists() else None)
    if was_up:
        return start(without=skipped)
    return read_setup()


def change_secrets(setup: Setup, database: AbstractContextManager[None] | None) -> None:
    """Put new values into `.env` once PostgreSQL has its new password.

    database: PostgreSQL answers within it; None if there is none yet. Raises ConfigError if the shell has secrets that
    would stay.
    """
    old = read_env(setup.env_file)
    kept = [name for name in fresh_env(old) if os.environ.get(name)]
    if kept:
        raise ConfigError(
            f"The environment sets {', '.join(kept)}, which would go before {setup.env_file}; unset them."
        )
    next_file = setup.env_file.with_name(f"{setup.env_file.name}.next")
    if database is not None:
        with database:
            if not (next_file.exists() and _accepts(setup, read_env(next_file))):
                fresh = fresh_env(old)
                write_private(next_file, with_values(setup.env_file.read_text(encoding="utf-8"), fresh))
                _change_password(setup, old, fresh)
    else:
        write_private(next_file, with_values(setup.env_file.read_text(encoding="utf-8"), fresh_env(old)))
    os.replace(next_file, setup.env_file)
    logger.info("%s has new values", setup.env_file)


def _accepts(setup: Setup, secrets: Mapping[str, str]) -> bool:
    import psycopg

    try:
        _connect(setup, secrets).close()
    except psycopg.OperationalError:
        return False
    return True


def _change_password(setup: Setup, old: Mapping[str, str], fresh: Mapping[str, str]) -> None:
    """Tell PostgreSQL; what travels and what is stored is the SCRAM verifier."""
    with _connect(setup, old) as connection:
        connection.pgconn.change_password(connection.info.user.encode(), fresh["POSTGRES_PASSWORD"].encode())


def _connect(setup: Setup, secrets: Mapping[str, str]):  # type: ignore[no-untyped-def]
    import psycopg

    upgrade = setup.service("mlflow-upgrade").environment
    return psycopg.connect(
        host=upgrade["PGHOST"],
        port=int(upgrade["PGPORT"]),
        user=upgrade["PGUSER"],
        password=secrets["POSTGRES_PASSWORD"],
        dbname="postgres",
        autocommit=True,
        connect_timeout=15,
    )
