"""Both databases and MLflow's artifacts in one file; `stack.restore` puts them back.

Prefect's history, deployments and blocks; MLflow's runs, models, aliases, ledger of decisions and users; every
artifact. Not in it: the stage store below UNROLL_HOME, which runs make again, and `.env`, which belongs elsewhere.
"""

from __future__ import annotations

import logging
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from stack.archive import Contents, write_archive
from stack.census import files_below
from stack.exchange import NEW
from stack.progress import ArchiveProgress
from stack.restore import settle
from stack.services import DATABASES
from stack.vault import Vault, asking_postgres, give_to_owner_of
from unroll.files import writing

logger = logging.getLogger("unroll.stack")


def default_name() -> str:
    """Name of a backup that is made now; they sort by age."""
    return f"unroll-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.tar"


def write_backup(vault: Vault, target: Path) -> Contents:
    """Write the backup while the servers go on; whole or not at all.

    Databases come first: an artifact is stored before the database speaks of it, so none that it speaks of is missing.
    Raises StoreError: the disk is full, or ``target`` is there. UnrollError: a database cannot be read, or a restore is
    under way.
    """
    settle(vault)
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with (
        asking_postgres(),
        vault.locked(shared=True),
        tempfile.TemporaryDirectory(prefix=".backup-", dir=target.parent) as scratch,
    ):
        members = {}
        for name in DATABASES:
            logger.info("reading the database %s", name)
            members[f"{name}.dump"] = dump = Path(scratch) / f"{name}.dump"
            vault.run("pg_dump", "--format=custom", f"--file={dump}", f"--dbname={name}")
        folder = vault.artifact_folder
        if folder is None:
            logger.warning("the artifacts are in %s and not in this backup; that store needs its own", vault.artifacts)
        else:
            members |= {f"{NEW}/{path.relative_to(folder).as_posix()}": path for path in files_below(folder)}
        about = {"made": datetime.now(UTC).isoformat(timespec="seconds"), "artifacts": vault.artifacts}
        contents = write_archive(target, members, about, ArchiveProgress("packed", len(members)))
    give_to_owner_of(target.parent, target)
    return contents
