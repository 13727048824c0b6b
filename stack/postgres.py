"""PostgreSQL of the local stack: where its programs are, whose processes they are, and its first folder."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unroll.errors import StoreError, UnrollError

if TYPE_CHECKING:
    import psutil  # type: ignore[import-untyped]

DEBIAN = Path("/usr/lib/postgresql")
"""Debian keeps each version's programs here, off the PATH."""

ROOTS_STAND_IN = "postgres"
"""PostgreSQL does not run as root; started by root, it runs as this user, whom Debian's package makes."""

LOCAL_SETTINGS = """
# Unroll's stack: the loopback interface only, and no socket file beside it that would ask for other passwords
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
password_encryption = 'scram-sha-256'
"""


@dataclass(frozen=True)
class Account:
    """The user whose processes PostgreSQL's are, where that is not the user of this process."""

    name: str
    user_id: int
    group_id: int

    def become(self) -> None:
        """Make this process his; there is no way back."""
        os.setgroups([])
        os.setgid(self.group_id)
        os.setuid(self.user_id)


def find_program(name: str, data: Path | None = None) -> Path:
    """A program of PostgreSQL: the newest version's below Debian's folder, else that on PATH.

    data: a data folder; where it is filled, only programs of the version that filled it will do.
    Raises UnrollError: PostgreSQL, or that version of it, is not installed.
    """
    version = _version_of(data)
    versions = [folder for folder in DEBIAN.glob("*/bin") if folder.parent.name.isdecimal()]
    if version is not None and versions:
        versions = [folder for folder in versions if folder.parent.name == version]
        if not versions:
            raise UnrollError(
                f"{data} was made by PostgreSQL {version}, which is not installed. Install postgresql-{version}; to "
                "move to another version, make backup with this one and restore it with that one."
            )
    for folder in sorted(versions, key=lambda folder: int(folder.parent.name), reverse=True):
        if os.access(folder / "postgres", os.X_OK) and os.access(folder / name, os.X_OK):
            return folder / name
    if found := shutil.which(name):
        return Path(found).resolve()
    raise UnrollError(
        f"PostgreSQL's program {name} is neither in {DEBIAN}/*/bin nor on PATH. Install the package postgresql "
        "(apt-get install postgresql, dnf install postgresql-server, brew install postgresql), or use containers: "
        "make up."
    )


def _version_of(data: Path | None) -> str | None:
    path = data / "PG_VERSION" if data is not None else None
    return path.read_text(encoding="ascii").strip() if path is not None and path.exists() else None


def account() -> Account | None:
    """Who is to run PostgreSQL; None where this process's own user can. Raises UnrollError: there is nobody."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(ROOTS_STAND_IN)
    except KeyError:
        raise UnrollError(
            f"PostgreSQL does not run as root, and there is no user {ROOTS_STAND_IN} to run it as. Run as another "
            "user, or install the package postgresql, which makes that one."
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def prepare(folder: Path, environment: Mapping[str, str]) -> bool:
    """Make the data folder where there is none, whole or not at all; whether one was made.

    environment: of the service `postgres`: user, password and initdb's arguments. Raises UnrollError: initdb fails.
    StoreError: its user cannot reach the folder.
    """
    owner = account()
    if owner is not None:
        _check_reachable(folder.parent, owner)
    if (folder / "PG_VERSION").exists():
        return False
    partial = folder.with_name("postgres.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    password = folder.with_name("postgres.password")
    descriptor = os.open(password, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(environment["POSTGRES_PASSWORD"])
        if owner is not None:
            os.chown(partial, owner.user_id, owner.group_id)
            os.chown(password, owner.user_id, owner.group_id)
        arguments = shlex.split(environment["POSTGRES_INITDB_ARGS"])
        user = f"--username={environment['POSTGRES_USER']}"
        _run_as(owner, [str(find_program("initdb")), *arguments, user, f"--pwfile={password}", f"--pgdata={partial}"])
        with (partial / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(LOCAL_SETTINGS)
        partial.rename(folder)
    finally:
        password.unlink(missing_ok=True)
        shutil.rmtree(partial, ignore_errors=True)
    return True


def drop_stale_lock(folder: Path) -> None:
    """Remove the lock file of a server that was killed.

    PostgreSQL itself takes the lock for held while any process has that number: after a reboot perhaps another
    program, another PostgreSQL, or a dead one that nobody has reaped.
    """
    import psutil

    lock = folder / "postmaster.pid"
    try:
        holder = psutil.Process(int(lock.read_text(encoding="ascii").split()[0]))
        is_postgres = holder.name().startswith(("postgres", "postmaster"))
        is_held = is_postgres and holder.status() != psutil.STATUS_ZOMBIE and _works_in(holder, folder)
    except (OSError, ValueError, IndexError, psutil.NoSuchProcess):
        is_held = False
    if not is_held:
        lock.unlink(missing_ok=True)


def _works_in(process: psutil.Process, folder: Path) -> bool:
    """Whether a server is that of a data folder, in which it then works; taken for granted if nobody may know."""
    import psutil

    try:
        return Path(process.cwd()).samefile(folder)
    except (psutil.AccessDenied, OSError):
        return True


def _run_as(owner: Account | None, command: Sequence[str]) -> None:
    other: dict[str, Any] = (
        {} if owner is None else {"user": owner.user_id, "group": owner.group_id, "extra_groups": []}
    )
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False, **other)
    if done.returncode != 0:
        said = "\n".join(f"  {line}" for line in (done.stderr or done.stdout).splitlines()[-8:])
        raise UnrollError(f"{Path(command[0]).name} ended with {done.returncode}:\n{said}")


def _check_reachable(folder: Path, owner: Account) -> None:
    """Whether the user may enter every folder down to this one."""
    for parent in [*reversed(folder.parents), folder]:
        status = parent.stat()
        is_his = status.st_uid == owner.user_id
        if not status.st_mode & (0o100 if is_his else 0o001):
            raise StoreError(
                f"PostgreSQL runs as the user {owner.name} here, who may not enter {parent} "
                f"(mode {status.st_mode & 0o777:04o}). Run as another user than root, allow it with "
                f"'chmod o+x {parent}', or name another folder in UNROLL_STACK_FOLDER."
            )
