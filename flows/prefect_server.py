"""The private Prefect server as the command sees it: start it, wait for it, stop it with its history complete.

Prefect's own temporary server loses most task runs of a short flow, dies with half its history unwritten, and outlives
a killed parent. This one writes what it was sent before it ends, and ends when the command does.
"""

from __future__ import annotations

import atexit
import http.client
import logging
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID

from flows.private_server import GOODBYE, QUIET_PATH
from unroll.errors import StoreError, UnrollError

if TYPE_CHECKING:
    from flows.embedded import Workplace

logger = logging.getLogger("unroll.prefect_server")

API_VARIABLE = "PREFECT_API_URL"
SCRIPT = Path(__file__).with_name("private_server.py")
LARGEST_LOG = 4_000_000
UI_PAGE = "http://127.0.0.1:4200"
"""Where `unroll ui` shows what the private server has written, unless told otherwise: it has no page itself."""
SECONDS_TO_SEND = 60.0
SECONDS_TO_STOP = 45.0

# What records runs stays on: the task run recorder, the event persister and the distributors. What acts on deployments
# and automations is off: nothing of the kind lives as long as one command, and two servers may share the database.
_SERVICES_OFF = ("SCHEDULER", "LATE_RUNS", "FOREMAN", "PAUSE_EXPIRATIONS", "CANCELLATION_CLEANUP", "TRIGGERS")
_SERVER_SETTINGS = {
    **{f"PREFECT_SERVER_SERVICES_{name}_ENABLED": "false" for name in _SERVICES_OFF},
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
    "PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
    "PREFECT_SERVER_UI_ENABLED": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "",
}


class PrefectServer:
    """The server that flows of this process report to: a private one, or the user's, which is left alone.

    `start` returns at once, so that heavy imports and the server's start overlap; a ``with`` block starts it if need
    be, waits until it answers, and stops it.
    """

    def __init__(self, place: Workplace) -> None:
        """Nothing is started yet; the user's server is taken where PREFECT_API_URL is set."""
        self.place = place
        self.url = os.environ.get(API_VARIABLE, "")
        self.is_private = not self.url
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0
        self._started = 0.0
        self._log_begins = 0
        self._settings = ExitStack()

    def start(self) -> None:
        """Start the private server and set PREFECT_API_URL, without waiting for the server to answer.

        Raises StoreError where its log cannot be written, and UnrollError where it dies at once.
        """
        if not self.is_private or self._process is not None:
            return
        logger.info("starting the private Prefect server")
        self._started = time.monotonic()
        self._process = self._launch()
        atexit.register(self.stop)
        assert self._process.stdout is not None
        with self._process.stdout as announcement:
            port = announcement.readline().strip()
        if not port:
            raise self._failure("ended before it had a port")
        self._port = int(port)
        self.url = f"http://127.0.0.1:{self._port}/api"
        os.environ[API_VARIABLE] = self.url

    def wait_ready(self, timeout: float = 90.0) -> None:
        """Wait until the private server answers, ``timeout`` seconds from its start at most.

        Raises UnrollError with the end of the server's log where it does not.
        """
        if not self.is_private:
            return
        self.start()
        hint_after = self._started + 8.0
        while _ask(self._port, "/api/health") is None:
            if self._process is None or self._process.poll() is not None:
                raise self._failure("ended while starting")
            if time.monotonic() - self._started > timeout:
                raise self._failure(f"did not answer within {timeout:.0f} s")
            if time.monotonic() > hint_after:
                logger.info("still starting it; the first start in a folder writes its database")
                hint_after = float("inf")
            time.sleep(0.05)
        logger.info("the private Prefect server is ready after %.1f s", time.monotonic() - self._started)
        self._point_prefect_here()

    def stop(self) -> None:
        """Send what this process still holds, let the server write it, and end the server. Never raises."""
        if self._process is None:
            return
        process, self._process = self._process, None
        atexit.unregister(self.stop)
        if process.poll() is None:
            _send_what_is_queued(SECONDS_TO_SEND)
        self._settings.close()
        os.environ.pop(API_VARIABLE, None)
        try:
            process.communicate(GOODBYE, timeout=SECONDS_TO_STOP)
        except (subprocess.TimeoutExpired, OSError, ValueError):
            logger.warning("the private Prefect server does not end by itself; ending it")
            process.kill()
            process.wait()
        self.url = ""

    def __enter__(self) -> PrefectServer:
        try:
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _launch(self) -> subprocess.Popen[bytes]:
        home = Path(os.environ.get("PREFECT_HOME") or self.place.prefect).absolute()
        # the stack's login, if the shell has it, is not this server's: nobody but this command is to reach it
        not_ours = (API_VARIABLE, "PREFECT_SERVER_API_AUTH_STRING")
        settings = {name: value for name, value in os.environ.items() if name not in not_ours}
        settings |= _SERVER_SETTINGS | {"PREFECT_HOME": str(home)}
        log = self.place.server_log
        try:
            home.mkdir(parents=True, exist_ok=True)
            log.parent.mkdir(parents=True, exist_ok=True)
            is_large = log.exists() and log.stat().st_size > LARGEST_LOG
            with log.open("wb" if is_large else "ab") as sink:
                self._log_begins = sink.tell()
                # In a session of its own: Ctrl-C ends the command, and the server only after it.
                return subprocess.Popen(
                    [sys.executable, "-P", str(SCRIPT)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=sink,
                    env=settings,
                    cwd=home,
                    start_new_session=True,
                )
        except OSError as error:
            raise StoreError(
                f"The private Prefect server cannot be started in {home}: {error}; make that folder writable, "
                "or set PREFECT_API_URL to a server of yours."
            ) from error

    def _point_prefect_here(self) -> None:
        from prefect.settings import (
            PREFECT_API_URL,
            PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
            PREFECT_UI_URL,
            temporary_settings,
        )

        # These warn of what is still in their queues whenever they are emptied, which each flow does at its end.
        for name in ("EventsWorker", "APILogWorker"):
            logging.getLogger(name).setLevel(logging.ERROR)
        # Heartbeats tell a living server of dead clients. This one dies with its client, and they cost each flow a
        # second at its end.
        here: dict[Any, Any] = {
            PREFECT_API_URL: self.url,
            PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
            PREFECT_UI_URL: UI_PAGE,
        }
        self._settings.enter_context(temporary_settings(here))

    def _failure(self, what: str) -> UnrollError:
        log = self.place.server_log
        said = log.read_bytes()[self._log_begins :] if log.exists() else b""
        tail = said.decode("utf-8", errors="replace").splitlines()[-12:]
        return UnrollError(
            f"The private Prefect server {what}. The end of its log, {log}:\n"
            + "\n".join(f"  {line}" for line in tail)
            + "\nRun again, or set PREFECT_API_URL to a server of yours."
        )


def prefect_server(place: Workplace) -> PrefectServer:
    """The server for one command; use it in a ``with`` block, after an early `PrefectServer.start` if you like."""
    return PrefectServer(place)


def drain_history(flow_run_ids: Sequence[UUID | str], timeout: float = 15.0) -> int:
    """Wait until every task run of the given flow runs is recorded in a terminal state.

    Call it after the flows ended, before the server stops. Returns how many are still open after ``timeout`` seconds:
    0 unless a task was cut short. Never raises: a history with gaps must not fail a command whose work is done.
    """
    deadline = time.monotonic() + timeout
    _send_what_is_queued(timeout)
    while not (is_quiet := _has_written_all()) and time.monotonic() < deadline:
        time.sleep(0.05)
    if is_quiet and _private_port():
        # All is written: a run that is still open was cut short and stays so.
        deadline = min(deadline, time.monotonic() + 1.0)
    ids = [str(flow_run_id) for flow_run_id in flow_run_ids]
    open_task_runs = 0
    try:
        while open_task_runs := _count_open(ids):
            if time.monotonic() > deadline:
                logger.warning("%d task runs are not finished in Prefect's history", open_task_runs)
                break
            time.sleep(0.2)
    except Exception as error:
        logger.warning("Prefect's history cannot be read (%s); it may have gaps", error)
    return open_task_runs


def _private_port() -> int | None:
    """The port of a server on the loopback address, which alone may be a private one."""
    address = urlsplit(os.environ.get(API_VARIABLE, ""))
    return address.port if address.hostname == "127.0.0.1" else None


def _has_written_all() -> bool:
    """Whether a private server has written all it was sent; a server of the user's lives on and is not asked."""
    port = _private_port()
    return port is None or _ask(port, QUIET_PATH) != b"false"


def _ask(port: int, path: str) -> bytes | None:
    """The body of a 200 answer from the loopback address, else None."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.read() if response.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _count_open(flow_run_ids: Sequence[str]) -> int:
    from prefect.client.orchestration import get_client

    if not flow_run_ids:
        return 0
    state = {"type": {"any_": ["SCHEDULED", "PENDING", "RUNNING", "PAUSED", "CANCELLING"]}}
    question = {"flow_runs": {"id": {"any_": flow_run_ids}}, "task_runs": {"state": state}}
    with get_client(sync_client=True) as client:
        response = client.request("POST", "/task_runs/count", json=question)
    return int(response.json())


def _send_what_is_queued(timeout: float) -> None:
    if "prefect" not in sys.modules:
        return
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    for worker in (APILogWorker, EventsWorker):
        try:
            worker.drain_all(timeout=timeout, at_exit=False)
        except Exception as error:
            logger.warning("some of Prefect's history was not sent: %s", error)
