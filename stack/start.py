"""Start the local stack: each service once those it waits for are healthy, and say so as it goes."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.env_file import make_env
from stack import postgres, probe
from stack.leftovers import end_leftovers
from stack.run import environment_of, program
from stack.services import Service, port_variable
from stack.setup import Setup, env_file, read_setup
from stack.supervision import Process, Supervisor, is_free
from unroll.errors import UnrollError
from unroll.files import writing

logger = logging.getLogger("unroll.stack")

SECONDS_TO_START = 300.0
SECONDS_BETWEEN_WORDS = 10.0
SECONDS_BETWEEN_LOOKS = 0.2
LOG_LINES = 15


def start(without: Collection[str] = ()) -> Setup:
    """Bring the stack of this working folder up and wait until it is healthy; what runs already is left to run.

    without: services to leave out. Raises UnrollError where one does not come up; all is stopped again then.
    """
    from filelock import FileLock

    logger.info("starting the stack")
    if added := make_env(env_file()):
        logger.info("wrote %s: %s", env_file(), ", ".join(added))
    setup = read_setup()
    for name in without:
        setup.service(name)
    postgres.find_program("initdb", setup.database)
    _make_folders(setup)
    with FileLock(setup.folder / "stack.lock"), nobody_else_starts(setup):
        try:
            _Start(setup, without).run()
        except BaseException:
            logger.info("stopping what was started")
            stop(setup)
            raise
    return setup


def stop(setup: Setup) -> bool:
    """Stop every service and the supervisor; no process is left. Returns whether there was anything to stop."""
    supervisor = Supervisor(setup)
    was_up = supervisor.answers()
    if was_up:
        supervisor.shut_down()
    return bool(end_leftovers(setup.folder)) or was_up


def health(setup: Setup, service: Service) -> str | None:
    """Why a service that runs is not healthy; None where it is."""
    environment = environment_of(setup, service, os.environ)
    if service.check[:3] == ("python", "-m", "stack.probe"):
        return probe.trouble_with(service.check[3], environment)
    done = subprocess.run(program(setup, service.check), env=environment, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"{service.check[0]} ended with {done.returncode}"


def running(setup: Setup) -> list[str]:
    """Names of the services that run now."""
    supervisor = Supervisor(setup)
    return [name for name, process in supervisor.processes().items() if process.is_up] if supervisor.answers() else []


def never_started(setup: Setup) -> list[str]:
    """Names of the services that were left out when the stack came up; none where it is down."""
    supervisor = Supervisor(setup)
    processes = supervisor.processes() if supervisor.answers() else {}
    return [name for name, process in processes.items() if process.state == "STOPPED"]


@contextmanager
def nobody_else_starts(setup: Setup) -> Iterator[None]:
    """Within the block no other process starts this stack. Raises UnrollError if one does that now, or restores."""
    from filelock import FileLock, Timeout

    setup.folder.mkdir(parents=True, exist_ok=True)
    # one object for each process, so that a restore itself may start what it stopped
    lock = FileLock(setup.folder / "restore.lock", is_singleton=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UnrollError("Another command starts or restores this stack; wait until it has ended.") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def database_alone(setup: Setup, keep: bool = False) -> Iterator[None]:
    """PostgreSQL runs within the block, and of the other services none unless ``keep``; after it all is as before.

    After an error within the block, what ran before is started again too.
    """
    before, skipped = running(setup), never_started(setup)
    others = [service.name for service in reversed(setup.services) if service.name != "postgres"]
    if "postgres" not in before:
        start(without=others)
    elif not keep:
        logger.info("stopping %s", ", ".join(name for name in others if name in before))
        for name in others:
            Supervisor(setup).stop_service(name)
    try:
        yield
    finally:
        if "postgres" not in before:
            stop(setup)
        elif not keep and before != ["postgres"]:
            start(without=skipped)


class _Start:
    """One start, from what is there to everything healthy."""

    def __init__(self, setup: Setup, without: Collection[str]) -> None:
        self._setup = setup
        self._supervisor = Supervisor(setup)
        self._waiting = [service for service in setup.services if service.name not in without]
        self._healthy = set(without)
        self._started: dict[str, int] = {}
        self._trouble: dict[str, str] = {}

    def run(self) -> None:
        self._prepare()
        began = said = time.monotonic()
        while self._waiting:
            processes = self._supervisor.processes()
            for service in list(self._waiting):
                self._advance(service, processes[service.name])
            if time.monotonic() - began > SECONDS_TO_START:
                raise self._failure(self._waiting[0], f"not healthy after {SECONDS_TO_START:.0f} s")
            if time.monotonic() - said > SECONDS_BETWEEN_WORDS:
                said = time.monotonic()
                logger.info("waiting for %s", ", ".join(name for name in self._started if name not in self._healthy))
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def _prepare(self) -> None:
        """Up to a supervisor that runs whatever of the stack still is as it should be, and nothing else."""
        if not self._supervisor.answers():
            end_leftovers(self._setup.folder)
            self._check_ports(self._waiting)
            self._make_database()
            self._supervisor.start()
            return
        processes = self._supervisor.processes()
        changed = [
            service
            for service in self._waiting
            if not service.is_one_shot and not (processes[service.name].is_up and self._is_unchanged(service))
        ]
        if not changed:
            self._keep([*self._waiting])
            return
        self._keep([service for service in self._waiting if not service.is_one_shot and service not in changed])
        for service in reversed(changed):
            self._supervisor.stop_service(service.name)
        self._check_ports(changed)
        self._make_database()

    def _keep(self, kept: list[Service]) -> None:
        """Look at these services' health, and do not start them."""
        processes = self._supervisor.processes()
        for service in kept:
            if service.is_one_shot:
                self._done(service)
            else:
                self._started[service.name] = processes[service.name].process_id

    def _make_database(self) -> None:
        if not self._setup.database.exists():
            logger.info("making PostgreSQL's folder %s", self._setup.database)
        with writing(self._setup.database):
            postgres.prepare(self._setup.database, self._setup.service("postgres").environment)

    def _check_ports(self, those: list[Service]) -> None:
        for service in those:
            port = self._setup.place.ports.get(service.name)
            if service.listens and port is not None and not is_free(port):
                raise UnrollError(
                    f"Port {port} of {service.name} is taken by another program. End that one, or choose another port: "
                    f"{port_variable(service.name)}=… in {self._setup.env_file} or in the environment."
                )

    def _advance(self, service: Service, process: Process) -> None:
        if service.name not in self._started:
            if self._healthy.issuperset(service.waits_for):
                self._fingerprint_file(service).write_text(self._fingerprint(service), encoding="ascii")
                self._supervisor.start_service(service.name)
                self._started[service.name] = 0
        elif service.is_one_shot:
            if process.state == "EXITED" and process.exit_status == 0:
                self._done(service)
            elif process.state in ("EXITED", "FATAL", "BACKOFF"):
                raise self._failure(service, f"ended with {process.exit_status}")
        else:
            self._look_at(service, process)

    def _look_at(self, service: Service, process: Process) -> None:
        before = self._started[service.name] or process.process_id
        if process.state in ("BACKOFF", "FATAL", "EXITED") or (process.process_id or before) != before:
            raise self._failure(service, "ended while starting")
        self._started[service.name] = before
        if process.state == "RUNNING" and (trouble := health(self._setup, service)) is None:
            self._done(service)
        elif process.state == "RUNNING":
            self._trouble[service.name] = trouble or ""

    def _done(self, service: Service) -> None:
        self._healthy.add(service.name)
        self._waiting.remove(service)
        if service.name in self._started:
            logger.info("%s %s", service.name, "is done" if service.is_one_shot else "is healthy")

    def _fingerprint(self, service: Service) -> str:
        said = json.dumps([service.command, dict(service.environment)], sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()

    def _fingerprint_file(self, service: Service) -> Path:
        return self._setup.folder / "started" / service.name

    def _is_unchanged(self, service: Service) -> bool:
        path = self._fingerprint_file(service)
        return path.exists() and path.read_text(encoding="ascii") == self._fingerprint(service)

    def _failure(self, service: Service, what: str) -> UnrollError:
        log = self._setup.logs / f"{service.name}.log"
        text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
        tail = "\n".join(f"  {line}" for line in text.splitlines()[-LOG_LINES:])
        trouble = f" ({self._trouble[service.name]})" if service.name in self._trouble else ""
        return UnrollError(f"{service.name} {what}{trouble}. The end of its log, {log}:\n{tail}")


def _make_folders(setup: Setup) -> None:
    with writing(setup.folder):
        setup.folder.mkdir(parents=True, exist_ok=True)
        ignored = setup.place.home and Path(setup.place.home) / ".gitignore"
        if isinstance(ignored, Path) and ignored.parent.is_dir() and not ignored.exists():
            ignored.write_text("*\n", encoding="utf-8")
        # others may pass through to PostgreSQL's folder, which is its user's alone, and see nothing else
        setup.folder.chmod(0o711)
        for folder in (setup.logs, setup.artifacts, setup.folder / "started"):
            folder.mkdir(mode=0o700, exist_ok=True)
