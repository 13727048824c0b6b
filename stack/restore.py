"""What a backup holds put back, all or nothing, whenever it is cut short.

1. Everything new is laid beside what is there: databases named ``…_restoring``, artifacts in a scratch folder.
2. A table in the database ``postgres`` says that the artifacts are about to be exchanged; then they are.
3. One transaction renames every database and says in that table that the restore is made. This is the one instant at
   which it happens: before it whatever fails is undone, after it only what was replaced is still to be removed.

A process that is killed undoes nothing. `settle` does, from what the table says; it is asked before anything is served
(`stack.upgrade`), and by every backup and restore.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stack.archive import Contents, read_archive
from stack.census import what_is_there
from stack.exchange import exchange, prepare, undo
from stack.progress import ArchiveProgress
from stack.services import DATABASES
from stack.vault import SCRATCH, Vault, asking_postgres, give_to_owner_of
from unroll.errors import StoreError, UnrollError
from unroll.files import sync_folder, sync_path, writing

if TYPE_CHECKING:
    from psycopg import Connection

logger = logging.getLogger("unroll.stack")

JOURNAL = "unroll_restore"
TRIES = 5
"""Times that others are sent out of the databases: somebody may come back between that and the renaming."""

SECONDS_TO_COME_BACK = 15.0
"""How long a server that went away is waited for."""


@dataclass(frozen=True)
class Entry:
    """What the table says of a restore that has not ended."""

    scratch: str
    """Name of its folder among the artifacts; empty if they are in a bucket and stay there."""
    is_made: bool


def restore_backup(vault: Vault, source: Path, replace: bool = False) -> Contents:
    """Put back what a backup holds, after checking all of it. Only PostgreSQL may be running.

    Raises StoreError: the backup is damaged, or the disk is full. UnrollError: something is there already, and not
    ``replace``; or PostgreSQL does not take a dump. After any of them everything is as it was.
    """
    with asking_postgres(), vault.locked(shared=False) as connection:
        _settle(vault, connection)
        _check_empty(vault, replace)
        folder = vault.artifact_folder
        scratch = _make_scratch(folder)
        try:
            contents = _lay_beside(vault, connection, source, scratch)
            _begin(connection, scratch.name if folder else "")
            if folder is not None:
                exchange(folder, scratch)
            _make(connection)
        except BaseException as error:
            if not _is_made_after_all(vault, connection, error):
                raise
        finally:
            if folder is None:
                shutil.rmtree(scratch, ignore_errors=True)
        _settle_after(vault, connection)
    return contents


def settle(vault: Vault) -> None:
    """Undo or finish a restore that was cut short; nothing happens if there is none.

    Raises UnrollError, or StoreError, if that cannot be done now: then nothing may be served. Waits for a restore that
    is under way.
    """
    with asking_postgres():
        with vault.locked(shared=True) as connection:
            if not _leftovers(vault, connection):
                return
        with vault.locked(shared=False) as connection:
            check_no_earlier(vault, connection)
            _settle(vault, connection)


def check_no_earlier(vault: Vault | None, connection: Connection[Any]) -> None:
    """Raises UnrollError if a restore of an earlier version was cut short, which kept no account of how far it was."""
    there = _databases(connection)
    left = [f"{name}_replaced" for name in DATABASES if name not in there and f"{name}_replaced" in there]
    folder = vault.artifact_folder if vault else None
    left += [str(each) for each in (folder.glob(f"{SCRATCH}*/replaced/*") if folder else ())]
    if left:
        raise UnrollError(
            f"A restore by an earlier version was cut short: it left {left[0]}. Nothing is started on what is half "
            "replaced; run that restore again: make restore FILE=… REPLACE=yes."
        )


def _check_empty(vault: Vault, replace: bool) -> None:
    there = what_is_there(vault)
    if there and not replace:
        raise UnrollError(
            f"The stack is not empty: {', '.join(there)}. A restore would replace that; back it up first, then say so: "
            "make restore FILE=… REPLACE=yes."
        )


def _make_scratch(folder: Path | None) -> Path:
    """On the artifacts' own disk, so that they need only be renamed."""
    if folder is None:
        return Path(tempfile.mkdtemp(prefix=f"unroll{SCRATCH}"))
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=SCRATCH, dir=folder))


def _lay_beside(vault: Vault, connection: Connection[Any], source: Path, scratch: Path) -> Contents:
    """Unpack and check the backup, and fill new databases from it; all of it is on the disk then."""
    logger.info("checking and unpacking %s", source)
    contents = read_archive(source, scratch, ArchiveProgress("unpacked"))
    missing = [name for name in DATABASES if f"{name}.dump" not in contents.digests]
    if missing:
        raise StoreError(f"{source} holds no dump of {', '.join(missing)}; it is no backup of a stack.")
    for name in DATABASES:
        logger.info("writing the database %s", name)
        _fill(vault, connection, f"{name}_restoring", scratch / f"{name}.dump")
    if (folder := vault.artifact_folder) is not None:
        prepare(scratch)
        give_to_owner_of(folder, scratch)  # who starts next is to be able to undo this
        sync_folder(scratch)
        sync_path(folder)
    return contents


def _fill(vault: Vault, connection: Connection[Any], name: str, dump: Path) -> None:
    """A fresh database with a dump's tables."""
    from psycopg import sql

    # where the lock is held: a server goes on making a database whose client was killed
    connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    options = ("--exit-on-error", "--no-owner", "--no-privileges", f"--dbname={name}")
    vault.run("pg_restore", *options, str(dump))


def _begin(connection: Connection[Any], scratch: str) -> None:
    """From here on a kill leaves something to be undone."""
    with connection.transaction():
        connection.execute(f"CREATE TABLE {JOURNAL} (scratch text NOT NULL, is_made boolean NOT NULL)")
        connection.execute(f"INSERT INTO {JOURNAL} VALUES (%s, false)", [scratch])


def _make(connection: Connection[Any]) -> None:
    """The instant at which the restore happens: every ``…_restoring`` takes its name, or none does."""
    from psycopg import errors

    for tries_left in reversed(range(TRIES)):
        try:
            with connection.transaction():
                _rename_databases(connection)
                connection.execute(f"UPDATE {JOURNAL} SET is_made = true")
            return
        except errors.ObjectInUse:
            if not tries_left:
                raise


def _rename_databases(connection: Connection[Any]) -> None:
    from psycopg import sql

    there = _databases(connection)
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ANY(%s) AND pid <> pg_backend_pid()",
        [[*DATABASES, *(f"{name}_restoring" for name in DATABASES)]],
    )
    rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
    for name in DATABASES:
        new, old, now = (sql.Identifier(text) for text in (f"{name}_restoring", f"{name}_replaced", name))
        if name in there:
            connection.execute(rename.format(now, old))
        connection.execute(rename.format(new, now))


def _is_made_after_all(vault: Vault, connection: Connection[Any], error: BaseException) -> bool:
    """Undo a restore that failed. Whether it did not: PostgreSQL made it, and could not say so any more."""
    try:
        return _settle_patiently(vault, connection)
    except Exception as trouble:
        logger.error(
            "the restore failed (%s) and could not be undone now (%s); the next start, backup or restore does that",
            error,
            trouble,
        )
        return False


def _settle_patiently(vault: Vault, connection: Connection[Any]) -> bool:
    """Settle on this connection, or if it was cut on another one; PostgreSQL may be starting again."""
    import psycopg

    deadline = time.monotonic() + SECONDS_TO_COME_BACK
    while True:
        try:
            if not connection.closed:
                return _settle(vault, connection)
            with vault.locked(shared=False) as another:
                return _settle(vault, another)
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _settle_after(vault: Vault, connection: Connection[Any]) -> None:
    """Remove what was replaced. The restore is made, so trouble with that is no failure of it."""
    try:
        _settle(vault, connection, is_told=True)
    except Exception as trouble:
        logger.warning("what was replaced could not be removed now (%s); the next start does that", trouble)


def _settle(vault: Vault, connection: Connection[Any], is_told: bool = False) -> bool:
    """Undo or finish the restore that the table tells of; whether it was made. ``is_told``: nobody need hear of it."""
    entry = _read_entry(connection)
    if not is_told and _leftovers(vault, connection):
        when = "after it was made; removing what it replaced"
        if entry is None or not entry.is_made:
            when = "before it was made; the databases and artifacts from before stay"
        logger.warning("a restore was cut short %s", when)
    if entry is not None and not entry.is_made:
        if entry.scratch:
            undo(*_where(vault, entry.scratch))
        connection.execute(f"DROP TABLE {JOURNAL}")
    _remove_databases(connection)
    _remove_scratch(vault)
    connection.execute(f"DROP TABLE IF EXISTS {JOURNAL}")
    return entry is not None and entry.is_made


def _where(vault: Vault, name: str) -> tuple[Path, Path]:
    folder = vault.artifact_folder
    if folder is None or not (folder / name).is_dir():
        raise UnrollError(
            f"A restore was cut short while it exchanged the artifacts, and its folder {name} is not in "
            f"{vault.artifacts}. Make UNROLL_ARTIFACTS name the folder that was restored to, then start again."
        )
    return folder, folder / name


def _read_entry(connection: Connection[Any]) -> Entry | None:
    if connection.execute("SELECT to_regclass(%s)", [JOURNAL]).fetchone() == (None,):
        return None
    row = connection.execute(f"SELECT scratch, is_made FROM {JOURNAL}").fetchone()
    return Entry(*row) if row else None


def _leftovers(vault: Vault, connection: Connection[Any]) -> bool:
    """Whether there is anything of a restore that did not end."""
    folder = vault.artifact_folder
    others = {f"{name}_{what}" for name in DATABASES for what in ("restoring", "replaced")}
    is_scratch = folder is not None and any(folder.glob(f"{SCRATCH}*"))
    return is_scratch or bool(others & _databases(connection)) or _read_entry(connection) is not None


def _databases(connection: Connection[Any]) -> set[str]:
    return {name for (name,) in connection.execute("SELECT datname FROM pg_database")}


def _remove_databases(connection: Connection[Any]) -> None:
    from psycopg import sql

    there = _databases(connection)
    for name in DATABASES:
        for left in (f"{name}_restoring", f"{name}_replaced"):
            # an earlier version may have left a database under this name alone
            if left in there and (name in there or left.endswith("_restoring")):
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(left)))


def _remove_scratch(vault: Vault) -> None:
    folder = vault.artifact_folder
    for left in folder.glob(f"{SCRATCH}*") if folder else ():
        shutil.rmtree(left, ignore_errors=True)
        if left.exists():
            logger.warning("%s, of a restore that was cut short, is in nobody's way; remove it (as root)", left)
