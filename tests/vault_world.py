"""Real PostgreSQL with small databases, artifacts beside it, and processes that die at any line; for tests."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import psycopg
from psycopg import sql

from stack import exchange, postgres, restore
from stack.services import DATABASES
from stack.vault import Vault

TRACED = (restore.__file__, exchange.__file__)
"""Modules whose lines are counted."""
SETTINGS = {
    "POSTGRES_USER": "unroll",
    "POSTGRES_PASSWORD": "secret",
    "POSTGRES_INITDB_ARGS": "--auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8",
}


@dataclass
class VaultWorld:
    """One PostgreSQL that can be killed and started again, and a folder of artifacts."""

    folder: Path
    port: int
    server: subprocess.Popen[bytes] | None = None
    contents: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def vault(self) -> Vault:
        where = {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": "unroll", "PGPASSWORD": "secret"}
        return Vault(where, str(self.folder / "artifacts"), self.folder / "postgres")

    def start(self) -> None:
        data = self.folder / "postgres"
        postgres.drop_stale_lock(data)
        owner = postgres.account()
        as_owner: dict[str, Any] = {"user": owner.user_id, "group": owner.group_id} if owner else {}
        # killed processes lose nothing that the kernel has, so the disk need not be waited for
        settings = ("-c", "fsync=off", "-c", "full_page_writes=off", "-c", "autovacuum=off")
        command = [str(postgres.find_program("postgres", data)), "-D", str(data), "-p", str(self.port), *settings]
        with (self.folder / "postgres.log").open("ab") as log:
            self.server = subprocess.Popen(command, cwd=data, stderr=log, stdout=log, **as_owner)
        deadline = time.monotonic() + 60
        while True:
            with suppress(psycopg.OperationalError):
                self.vault.connect().close()
                return
            assert time.monotonic() < deadline, (self.folder / "postgres.log").read_text()
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        if self.server is not None:
            self.server.send_signal(how)
            self.server.wait()
        self.server = None

    def fill(self, name: str) -> None:
        """Make databases and artifacts whose every part says ``name``."""
        with self.vault.connect() as connection:
            for database in DATABASES:
                there = sql.Identifier(database)
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(there))
                connection.execute(sql.SQL("CREATE DATABASE {}").format(there))
        for database in DATABASES:
            with self.vault.connect(database) as connection:
                connection.execute("CREATE TABLE runs (name text)")
                connection.execute("INSERT INTO runs VALUES (%s)", [name])
        artifacts = self.folder / "artifacts"
        shutil.rmtree(artifacts, ignore_errors=True)
        for number in range(3):  # the same names in each, as MLflow's numbers of experiments are
            path = artifacts / str(number) / name / "model.bin"
            path.parent.mkdir(parents=True)
            path.write_text(name)
        (artifacts / f"only-{name}").write_text(name)
        self.contents[name] = self.read()

    def read(self) -> dict[str, Any]:
        """All that somebody could find: databases with their rows, files with their text."""
        found: dict[str, Any] = {}
        with self.vault.connect() as connection:
            names = [name for (name,) in connection.execute("SELECT datname FROM pg_database WHERE NOT datistemplate")]
            found["tables of postgres"] = connection.execute(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            ).fetchall()
        for name in set(names) - {"postgres"}:
            with self.vault.connect(name) as connection:
                found[name] = connection.execute("SELECT name FROM runs").fetchall()
        artifacts = self.folder / "artifacts"
        return found | {
            str(path.relative_to(artifacts)): path.read_text(errors="replace") if path.is_file() else None
            for path in artifacts.rglob("*")
        }

    def whole(self) -> str:
        """Which of the contents there is, without anything left over. Fails if it is none of them."""
        found = self.read()
        matching = [name for name, contents in self.contents.items() if contents == found]
        assert matching, found
        return matching[0]


@contextmanager
def new_vault_world() -> Iterator[VaultWorld]:
    """PostgreSQL runs, and nothing is in it; all is removed after."""
    folder = Path(tempfile.mkdtemp(prefix="unroll-vault-"))  # pytest's own folder none but this user may enter
    folder.chmod(0o711)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        world = VaultWorld(folder, int(probe.getsockname()[1]))
    try:
        postgres.prepare(folder / "postgres", SETTINGS)
        world.start()
        yield world
    finally:
        world.stop()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class End:
    """How a process ended that `in_child` ran."""

    was_killed: bool
    error: str
    """Empty if there was none."""
    lines: int
    """Lines of `stack.restore` and `stack.exchange` that it ran."""


def in_child(work: Callable[[], object], at_line: int = -1, do: Callable[[], object] = lambda: None) -> End:
    """Run ``work`` in a process of its own, and ``do`` there just before one of those lines, counted from 1."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        tracer = _Tracer(at_line, do)
        error = ""
        try:
            sys.settrace(tracer)
            work()
        except BaseException as found:
            error = f"{type(found).__name__}: {found}"
        finally:
            sys.settrace(None)
            os.write(writing, f"{tracer.lines}\n{error}"[:4000].encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    lines, _, error = said.partition("\n")
    return End(os.WIFSIGNALED(status), error, int(lines or 0))


def kill_now() -> None:
    """The end of this process, without a chance to do anything."""
    os.kill(os.getpid(), signal.SIGKILL)


def kill_later(rng: random.Random, longest: float) -> Callable[[], None]:
    """What has this process killed within some seconds, in the midst of whatever it or its children do then."""
    seconds = rng.uniform(0, longest)

    def wait_and_kill() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # which ends the process
        signal.setitimer(signal.ITIMER_REAL, seconds)

    return wait_and_kill


class _Tracer:
    def __init__(self, at_line: int, do: Callable[[], object]) -> None:
        self.lines = 0
        self._at_line, self._do = at_line, do

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        if frame.f_code.co_filename not in TRACED:
            return None
        if event == "line":
            self.lines += 1
            if self.lines == self._at_line:
                self._do()
        return self
