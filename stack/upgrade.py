"""Make a database of the stack and bring its tables to this version: ``python -m stack.upgrade prefect|mlflow``.

Runs to its end before the server starts, and may be run at any time: what is up to date stays as it is. Where
PostgreSQL stands, the variables PGHOST, PGPORT, PGUSER and PGPASSWORD say; where the artifacts are, UNROLL_ARTIFACTS
says to the one for MLflow, which first undoes or finishes a restore that was cut short.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from typing import Any

from flows.logs import set_up_logs
from stack.restore import check_no_earlier, settle
from stack.services import DATABASES
from stack.vault import vault_of_environment
from unroll.errors import UnrollError

MLFLOW_DATABASE = "postgresql+psycopg:///mlflow"
"""No host and no password: libpq takes them from the environment, where `ps` does not show them."""


def make_database(name: str) -> None:
    """Create a database where there is none of that name."""
    import psycopg
    from psycopg import errors, sql

    with psycopg.connect(dbname="postgres", autocommit=True) as connection:
        check_no_earlier(None, connection)  # there is one, under another name
        if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone() is None:
            try:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
            except (errors.DuplicateDatabase, errors.UniqueViolation):
                return  # another start was quicker
            print(f"made the database {name}", flush=True)


def upgrade_prefect() -> None:
    """Prefect's own command."""
    _run("prefect", "server", "database", "upgrade", "--yes")


def upgrade_mlflow() -> None:
    """MLflow's own command, which also fills an empty database; then its users' tables and the administrator."""
    _run("mlflow", "db", "upgrade", MLFLOW_DATABASE)
    set_administrator(os.environ["MLFLOW_AUTH_ADMIN_USERNAME"], os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"])


def set_administrator(name: str, password: str) -> None:
    """Give MLflow's administrator this password.

    MLflow itself reads it only while there is no such user; this is what lets a secret be changed in `.env`.
    """
    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    store: Any = SqlAlchemyStore()
    store.init_db(MLFLOW_DATABASE)
    if not store.has_user(name):
        store.create_user(name, password, is_admin=True)
    elif not store.authenticate_user(name, password):
        store.update_user(name, password=password, is_admin=True)
        print(f"MLflow's administrator {name} has the password of the settings now", flush=True)


def _run(*command: str) -> None:
    subprocess.run([sys.executable, "-m", *command], check=True)


def main() -> int:
    """Make and upgrade the database that the first argument names."""
    name = sys.argv[1]
    assert name in DATABASES
    set_up_logs(logging.INFO)
    try:
        if name == "mlflow":  # whose artifacts come and go with both databases
            settle(vault_of_environment())
        make_database(name)
        upgrade_prefect() if name == "prefect" else upgrade_mlflow()
    except subprocess.CalledProcessError as error:
        return error.returncode if error.returncode > 0 else 1
    except UnrollError as error:
        print(f"Error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
