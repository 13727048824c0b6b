"""The processes of the local stack under `supervisord`: its configuration, and a client of its control socket."""

from __future__ import annotations

import hashlib
import http.client
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stack.services import Service
from stack.setup import LONGEST_SOCKET_PATH, Setup
from unroll.errors import UnrollError
from unroll.processes import is_start_of, start_of

SECONDS_TO_ANSWER = 15.0
SECONDS_TO_SHUT_DOWN = 120.0
LOG_SIZE = "10MB"
LOG_COUNT = 5
"""Files that a log is rotated through."""


@dataclass(frozen=True)
class Process:
    """What supervisord knows of a service."""

    state: str
    """STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL or UNKNOWN."""
    process_id: int
    """0 while there is none."""
    exit_status: int

    @property
    def is_up(self) -> bool:
        """Whether there is a process, or there is about to be one."""
        return self.state in ("STARTING", "RUNNING")


class Supervisor:
    """The supervisord of one stack, whether it runs or not."""

    def __init__(self, setup: Setup) -> None:
        """Nothing is started, read or written yet."""
        self._setup = setup
        self.socket = control_socket(setup.folder)

    def answers(self) -> bool:
        """Whether it runs."""
        if not self.socket.exists():
            return False
        try:
            self._call("getState")
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            return False
        return True

    def start(self) -> None:
        """Start it in the background, with no service running. Raises UnrollError: it does not come up."""
        configuration = self._setup.folder / "supervisord.conf"
        configuration.write_text(configure(self._setup), encoding="utf-8")
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(configuration)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        deadline = time.monotonic() + SECONDS_TO_ANSWER
        while not self.answers():
            if done.returncode != 0 or time.monotonic() > deadline:
                said = (done.stderr or done.stdout).strip()[-1000:]
                raise UnrollError(f"supervisord did not start: {said or self._setup.logs / 'supervisord.log'}")
            time.sleep(0.05)

    def processes(self) -> dict[str, Process]:
        """Every service that it knows, by name."""
        return {
            found["name"]: Process(found["statename"], found["pid"], found["exitstatus"])
            for found in self._call("getAllProcessInfo")
        }

    def start_service(self, name: str) -> None:
        """Start it, without waiting. Raises UnrollError: supervisord cannot."""
        try:
            self._call("startProcess", name, False)
        except xmlrpc.client.Fault as fault:
            raise UnrollError(f"supervisord does not start {name}: {fault.faultString}.") from fault

    def stop_service(self, name: str) -> None:
        """Stop it and wait until it has stopped; nothing happens where it does not run."""
        with suppress(xmlrpc.client.Fault):  # NOT_RUNNING
            self._call("stopProcess", name, True)

    def shut_down(self) -> None:
        """Stop the services, the last started first, and supervisord itself. Raises UnrollError: it goes on."""
        process_id = int(self._call("getPID"))
        start = start_of(process_id)
        self._call("shutdown")
        deadline = time.monotonic() + SECONDS_TO_SHUT_DOWN
        while start is not None and is_start_of(start, process_id):
            if time.monotonic() > deadline:
                raise UnrollError(f"supervisord (process {process_id}) did not end in {SECONDS_TO_SHUT_DOWN:.0f} s.")
            time.sleep(0.1)

    def _call(self, method: str, *arguments: Any) -> Any:
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        with xmlrpc.client.ServerProxy("http://localhost", transport=transport) as server:
            return getattr(server.supervisor, method)(*arguments)


def control_socket(folder: Path) -> Path:
    """Where the stack of a folder listens for commands: in it, or where its name would be too long, beside others."""
    path = folder / "supervisord.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"unroll-{os.getuid()}-{name}.sock"


def configure(setup: Setup) -> str:
    """The text of supervisord's configuration. No secret is in it: `stack.run` reads them."""
    general: dict[str, dict[str, object]] = {
        "unix_http_server": {"file": control_socket(setup.folder), "chmod": "0700"},
        "supervisord": {
            "logfile": setup.logs / "supervisord.log",
            "logfile_maxbytes": LOG_SIZE,
            "logfile_backups": LOG_COUNT,
            "pidfile": setup.folder / "supervisord.pid",
            "childlogdir": setup.logs,
            "directory": Path.cwd(),
            **({"user": "root"} if os.geteuid() == 0 else {}),
        },
        "rpcinterface:supervisor": {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        },
    }
    programs = {
        f"program:{service.name}": _program(setup, service, order) for order, service in enumerate(setup.services)
    }
    return "\n".join(_section(name, values) for name, values in (general | programs).items())


def _program(setup: Setup, service: Service, order: int) -> dict[str, object]:
    is_postgres = service.name == "postgres"
    return {
        "command": shlex.join([sys.executable, "-m", "stack.run", service.name]),
        "autostart": "false",  # `stack.start` does, in order and by health
        "autorestart": "false" if service.is_one_shot else "true",
        "startsecs": 0 if service.is_one_shot else 1,
        "startretries": 1_000_000,  # each a second later than the one before
        "priority": 100 + order,  # the last started is stopped first
        "stopsignal": "INT" if is_postgres else "TERM",  # INT is PostgreSQL's fast shutdown
        "stopwaitsecs": 60 if service.name in ("postgres", "worker") else 15,
        "stopasgroup": "false" if is_postgres else "true",
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": setup.logs / f"{service.name}.log",
        "stdout_logfile_maxbytes": LOG_SIZE,
        "stdout_logfile_backups": LOG_COUNT,
    }


def _section(name: str, values: Mapping[str, object]) -> str:
    # supervisord expands %(name)s
    lines = [f"{key}={str(value).replace('%', '%%')}" for key, value in values.items()]
    return "\n".join([f"[{name}]", *lines, ""])


def is_free(port: int) -> bool:
    """Whether nothing listens on a port of the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
