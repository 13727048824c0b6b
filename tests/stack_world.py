"""The whole stack on free ports in a folder of its own, with real PostgreSQL; for tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from flows.env_file import read_env
from stack.leftovers import MARK
from stack.services import PORTS, client_environment, local, port_variable
from tests.command import OURS, ROOT
from tests.ports import free_port

SECONDS_TO_START = 300


@dataclass
class Stack:
    """One stack; ``up`` and ``down`` as often as you like."""

    folder: Path
    """Working folder: `.env` and `.unroll` are in it, and the services' working folder is this."""
    ports: dict[str, int]
    without: tuple[str, ...] = ()
    extra: dict[str, str] = field(default_factory=dict)
    """More of the environment of every service."""
    seconds_to_start: float = 0.0
    """What the last ``up`` took."""

    @property
    def secrets(self) -> dict[str, str]:
        return read_env(self.folder / ".env")

    @property
    def data(self) -> Path:
        return self.folder / ".unroll" / "stack"

    @property
    def temporary(self) -> Path:
        """What the stack's commands take for the system's temporary folder."""
        return self.folder / "system-tmp"

    def client_environment(self) -> dict[str, str]:
        """What to add to the environment of a command so that it uses this stack."""
        place = local(self._port_variables(), self.data, self.folder / ".unroll")
        return client_environment(self.secrets, place)

    def environment(self) -> dict[str, str]:
        """The environment of the stack's own commands: nothing of this process that points anywhere."""
        plain = {name: value for name, value in os.environ.items() if not name.startswith((*OURS, "PG"))}
        path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
        ours = {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TMPDIR": str(self.temporary)}
        return plain | ours | self._port_variables() | self.extra

    def __call__(self, *arguments: str, timeout: float = SECONDS_TO_START + 100) -> subprocess.CompletedProcess[str]:
        """``python -m stack ARGUMENTS…`` to its end."""
        return subprocess.run(
            [sys.executable, "-m", "stack", *arguments],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def up(self) -> float:
        """Start everything; returns the seconds until all was healthy."""
        started = time.monotonic()
        done = self("up", *(option for name in self.without for option in ("--without", name)))
        assert done.returncode == 0, done.stderr
        self.seconds_to_start = time.monotonic() - started
        return self.seconds_to_start

    def status(self) -> dict[str, str]:
        """What `make stack-status` says of each service."""
        lines = [line.split(maxsplit=2) for line in self("status").stdout.splitlines()]
        return {line[0]: line[1] for line in lines}

    def down(self) -> None:
        done = self("down")
        assert done.returncode == 0, done.stderr

    def unroll(self, *arguments: str, timeout: float = 280) -> subprocess.CompletedProcess[str]:
        """``unroll ARGUMENTS…`` in the stack's folder, against its servers."""
        return subprocess.run(
            [sys.executable, "-m", "flows.cli", *arguments],
            cwd=self.folder,
            env=self.environment() | self.client_environment(),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def processes(self, service: str | None = None) -> list[psutil.Process]:
        """Processes of a service, or of all of them, with their children."""
        wanted = f"{self.data}:{service}" if service else f"{self.data}:"
        found = []
        for process in psutil.process_iter():
            try:
                mark = process.environ().get(MARK, "")
                is_over = process.status() == psutil.STATUS_ZOMBIE
            except (psutil.Error, OSError):
                continue
            if not is_over and (mark == wanted if service else mark.startswith(wanted)):
                found.append(process)
        return found

    def _port_variables(self) -> dict[str, str]:
        return {port_variable(name): str(port) for name, port in self.ports.items()}


def wait_until(holds: Callable[[], bool], seconds: float = 90, pause: float = 0.2) -> None:
    """Look until it holds, with a pause between the looks: a longer one if a look itself takes processor time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s"
        time.sleep(pause)


@contextmanager
def new_stack(**extra: str) -> Iterator[Stack]:
    """A stack that is not up yet, in a folder that PostgreSQL's user may enter; it is taken down and removed after."""
    # not below pytest's own folder, which none but this user may enter
    folder = Path(tempfile.mkdtemp(prefix="unroll-stack-"))
    folder.chmod(0o711)
    stack = Stack(folder, {name: free_port() for name in PORTS}, without=_not_there_yet(), extra=extra)
    stack.temporary.mkdir(mode=0o1777)
    try:
        yield stack
    finally:
        stack("down")
        shutil.rmtree(folder, ignore_errors=True)


def _not_there_yet() -> tuple[str, ...]:
    """`deploy`, while the command line has no such command."""
    from flows.cli import app

    names = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
    return () if "deploy" in names else ("deploy",)
