"""Where the stack's databases and artifacts are, and how to reach them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stack.postgres import find_program
from unroll.errors import ConfigError, UnrollError

if TYPE_CHECKING:
    from psycopg import Connection

CONNECTION = ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD")
SCRATCH = ".restore-"
"""How the folders begin in which a restore works, among the artifacts."""

BACKUP_LOCK = 8_317_203_441
"""PostgreSQL's advisory lock that backups share and a restore has for itself."""
SECONDS_TO_WAIT = 60


@dataclass(frozen=True)
class Vault:
    """Where the databases and the artifacts are."""

    connection: Mapping[str, str]
    """PGHOST, PGPORT, PGUSER and PGPASSWORD."""
    artifacts: str
    """Folder, or an address such as ``s3://bucket/path``, whose store has backups of its own."""
    data: Path | None = None
    """PostgreSQL's data folder, if it is of this machine: its programs' version is the one to use."""

    @property
    def artifact_folder(self) -> Path | None:
        """The folder of artifacts; None if they are elsewhere."""
        return None if "://" in self.artifacts else Path(self.artifacts)

    def connect(self, database: str = "postgres") -> Connection[Any]:
        """A connection on which every statement is its own transaction."""
        import psycopg

        where = self.connection
        return psycopg.connect(
            host=where["PGHOST"],
            port=int(where["PGPORT"]),
            user=where["PGUSER"],
            password=where["PGPASSWORD"],
            dbname=database,
            autocommit=True,
            connect_timeout=15,
        )

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs. Raises UnrollError if it fails."""
        command = [str(find_program(program, self.data)), *arguments]
        environment = {**os.environ, **self.connection}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = "\n".join(f"  {line}" for line in done.stderr.splitlines()[-8:])
            raise UnrollError(f"{program} ended with {done.returncode}:\n{said}")

    @contextmanager
    def locked(self, *, shared: bool) -> Iterator[Connection[Any]]:
        """Within the block no restore is under way, and if not ``shared`` no backup either.

        The connection that is given holds the lock, so that it is free once its holder is dead. Raises UnrollError if
        somebody else keeps it for `SECONDS_TO_WAIT`.
        """
        from psycopg import errors

        with self.connect() as connection:
            function = "pg_advisory_lock_shared" if shared else "pg_advisory_lock"
            try:
                connection.execute(f"SET lock_timeout = '{SECONDS_TO_WAIT}s'")
                connection.execute(f"SELECT {function}({BACKUP_LOCK})")
                connection.execute("RESET lock_timeout")
            except errors.LockNotAvailable:
                others = "a restore" if shared else "a backup or a restore"
                raise UnrollError(
                    f"{others.capitalize()} of this stack is under way (for {SECONDS_TO_WAIT} s at least); wait until "
                    "it has ended, then run the same command again."
                ) from None
            yield connection


@contextmanager
def asking_postgres() -> Iterator[None]:
    """Within the block, what goes wrong with PostgreSQL becomes an UnrollError."""
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UnrollError(
            f"PostgreSQL refuses or does not answer: {said}. See its log, then run the same command again."
        ) from error


def vault_of_environment() -> Vault:
    """The vault that the environment names. Raises ConfigError if it does not."""
    missing = [name for name in (*CONNECTION, "UNROLL_ARTIFACTS") if not os.environ.get(name)]
    if missing:
        raise ConfigError(
            f"{', '.join(missing)} not set; the stack's own services and the container `tools` of docker-compose.yml "
            "have them."
        )
    return Vault({name: os.environ[name] for name in CONNECTION}, os.environ["UNROLL_ARTIFACTS"])


def children(folder: Path) -> list[Path]:
    """The entries of a folder of artifacts that are artifacts: it may be the root of a disk, and a restore's place."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith(SCRATCH) and path.name != "lost+found")


def give_to_owner_of(folder: Path, path: Path) -> None:
    """What root writes belongs to whose folder it is in: MLflow's server in its container is not root."""
    if os.geteuid() == 0:
        owner = folder.stat()
        for each in [path, *path.rglob("*")] if path.is_dir() else [path]:
            os.chown(each, owner.st_uid, owner.st_gid)
