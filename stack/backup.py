"""Both databases and MLflow's artifacts in one file, and back.

Prefect's history, deployments and blocks; MLflow's runs, models, aliases, ledger of decisions and users; every
artifact. Not in it: the stage store below UNROLL_HOME, which runs make again, and `.env`, which belongs elsewhere.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stack.archive import Contents, read_archive, write_archive
from stack.postgres import find_program
from stack.services import DATABASES
from unroll.errors import StoreError, UnrollError
from unroll.files import sync_folder, writing

logger = logging.getLogger("unroll.stack")

ARTIFACTS = "artifacts"
REPLACED = "replaced"
SCRATCH = ".restore-"
SECONDS_BETWEEN_WORDS = 5.0
COUNTED = {
    "prefect": {
        # every start makes the deployments anew, the scheduler their next runs, and `watch` looks every few minutes
        "flow runs": "SELECT count(*) FROM flow_run JOIN flow ON flow.id = flow_run.flow_id "
        "WHERE flow_run.start_time IS NOT NULL AND flow.name <> 'watch'",
    },
    "mlflow": {
        "runs": "SELECT count(*) FROM runs",
        "registered models": "SELECT count(*) FROM registered_models",
    },
}
"""What somebody would miss, by database, with the question that counts it."""


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
        """The folder of artifacts; None where they are elsewhere."""
        return None if "://" in self.artifacts else Path(self.artifacts)


def default_name() -> str:
    """Name of a backup that is made now; they sort by age."""
    return f"unroll-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar"


def write_backup(vault: Vault, target: Path) -> Contents:
    """Write the backup while the servers go on; whole or not at all.

    Databases come first: an artifact is stored before the database speaks of it, so none that it speaks of is missing.
    Raises StoreError: the disk is full, or ``target`` is there. UnrollError: a database cannot be read.
    """
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".backup-", dir=target.parent) as scratch:
        members = {}
        for name in DATABASES:
            logger.info("reading the database %s", name)
            members[f"{name}.dump"] = dump = Path(scratch) / f"{name}.dump"
            _run(vault, "pg_dump", "--format=custom", f"--file={dump}", f"--dbname={name}")
        folder = vault.artifact_folder
        if folder is None:
            logger.warning("the artifacts are in %s and not in this backup; that store needs its own", vault.artifacts)
        else:
            members |= {f"{ARTIFACTS}/{path.relative_to(folder).as_posix()}": path for path in _files(folder)}
        about = {"made": datetime.now(UTC).isoformat(timespec="seconds"), "artifacts": vault.artifacts}
        contents = write_archive(target, members, about, _Progress("packed", len(members)))
    _give_to_owner_of(target.parent, target)
    return contents


def restore_backup(vault: Vault, source: Path, replace: bool = False) -> Contents:
    """Put back what a backup holds, after checking all of it. Only PostgreSQL may be running.

    What there is stays untouched until everything new lies beside it; then it is exchanged.
    Raises StoreError: the backup is damaged. UnrollError: something is there already, and not ``replace``; or
    PostgreSQL does not take a dump.
    """
    there = what_is_there(vault)
    if there and not replace:
        raise UnrollError(
            f"The stack is not empty: {', '.join(there)}. A restore would replace that; back it up first, then say so: "
            "make restore FILE=… REPLACE=yes."
        )
    folder = vault.artifact_folder
    for left in folder.glob(f"{SCRATCH}*") if folder else ():
        shutil.rmtree(left)  # of a restore that was killed
    # on the artifacts' own disk, so that they need only be renamed
    with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=folder or None) as scratch:
        logger.info("checking and unpacking %s", source)
        contents = read_archive(source, Path(scratch), _Progress("unpacked"))
        missing = [name for name in DATABASES if f"{name}.dump" not in contents.digests]
        if missing:
            raise StoreError(f"{source} holds no dump of {', '.join(missing)}; it is no backup of a stack.")
        for name in DATABASES:
            logger.info("writing the database %s", name)
            _fill(vault, f"{name}_restoring", Path(scratch) / f"{name}.dump")
        unpacked = Path(scratch) / ARTIFACTS
        if folder is not None and unpacked.exists():
            sync_folder(unpacked)
        for name in DATABASES:
            _exchange_database(vault, name)
        if folder is not None:
            _exchange_children(folder, unpacked, Path(scratch) / REPLACED)
    return contents


def what_is_there(vault: Vault) -> list[str]:
    """What a restore would replace, in words; empty for a stack that was never used."""
    import psycopg
    from psycopg import errors

    there = []
    for database, questions in COUNTED.items():
        try:
            with _connect(vault, database) as connection:
                for what, question in questions.items():
                    try:
                        (count,) = connection.execute(question).fetchone() or (0,)
                    except errors.UndefinedTable:
                        continue
                    if count:
                        there.append(f"{count} {what} in {'Prefect' if database == 'prefect' else 'MLflow'}")
        except psycopg.OperationalError as error:
            if "does not exist" not in str(error):
                raise UnrollError(f"PostgreSQL does not answer: {error}") from error
    if (folder := vault.artifact_folder) is not None and any(_files(folder)):
        there.append(f"artifacts in {folder}")
    return there


def _fill(vault: Vault, name: str, dump: Path) -> None:
    """A fresh database with a dump's tables."""
    from psycopg import sql

    with _connect(vault, "postgres") as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    options = ("--exit-on-error", "--no-owner", "--no-privileges", f"--dbname={name}")
    _run(vault, "pg_restore", *options, str(dump))


def _exchange_database(vault: Vault, name: str) -> None:
    """Make ``name_restoring`` the database ``name``."""
    from psycopg import sql

    new, old, now = (sql.Identifier(text) for text in (f"{name}_restoring", f"{name}_replaced", name))
    with _connect(vault, "postgres") as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(old))
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
            [name],
        )
        is_there = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
        if is_there:
            connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(now, old))
        connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(new, now))
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(old))


def _exchange_children(folder: Path, new: Path, old: Path) -> None:
    """Give ``folder`` the entries of ``new``; its own go to ``old``. It may be a mount, which cannot be renamed."""
    with writing(folder):
        old.mkdir()
        for child in list(folder.iterdir()):
            if not _is_scratch(child):
                child.rename(old / child.name)
        if new.exists():
            _give_to_owner_of(folder, new)
            for child in new.iterdir():
                child.rename(folder / child.name)
        shutil.rmtree(old)


def _give_to_owner_of(folder: Path, path: Path) -> None:
    """What root writes belongs to whose folder it is in: MLflow's server in its container is not root."""
    if os.geteuid() == 0:
        owner = folder.stat()
        for each in [path, *path.rglob("*")] if path.is_dir() else [path]:
            os.chown(each, owner.st_uid, owner.st_gid)


def _files(folder: Path) -> list[Path]:
    if not folder.exists():
        return []
    inside = (path for child in folder.iterdir() if not _is_scratch(child) for path in [child, *child.rglob("*")])
    return sorted(path for path in inside if path.is_file())


def _is_scratch(path: Path) -> bool:
    return path.name.startswith(SCRATCH)


def _connect(vault: Vault, database: str) -> Any:
    import psycopg

    where = vault.connection
    return psycopg.connect(
        host=where["PGHOST"],
        port=int(where["PGPORT"]),
        user=where["PGUSER"],
        password=where["PGPASSWORD"],
        dbname=database,
        autocommit=True,
        connect_timeout=15,
    )


def _run(vault: Vault, program: str, *arguments: str) -> None:
    command = [str(find_program(program, vault.data)), *arguments]
    environment = {**os.environ, **vault.connection}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = "\n".join(f"  {line}" for line in done.stderr.splitlines()[-8:])
        raise UnrollError(f"{program} ended with {done.returncode}:\n{said}")


class _Progress:
    """Says how far a long archive is, every few seconds."""

    def __init__(self, verb: str, count: int | None = None) -> None:
        self._verb, self._of = verb, f" of {count:,}" if count else ""
        self._files = self._bytes = 0
        self._began = self._said = time.monotonic()

    def __call__(self, name: str, size: int) -> None:
        self._files, self._bytes = self._files + 1, self._bytes + size
        now = time.monotonic()
        if now - self._said > SECONDS_BETWEEN_WORDS:
            self._said = now
            rate = self._bytes / 2**20 / (now - self._began)
            logger.info("%s %s%s files, %.0f MiB/s", self._verb, f"{self._files:,}", self._of, rate)
