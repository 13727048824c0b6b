"""A Prefect server for the length of one command. `flows.prefect_server` runs this file as a script.

It picks a free loopback port, prints it, serves Prefect's own application, and ends by itself when its standard input
reaches its end: the parent holds the other end, so any death of the parent, SIGKILL included, ends the server too.
Before it ends it finishes writing what it was sent. A parent that dies without a goodbye leaves runs behind that would
stay "Running" for ever; they are set to "Crashed".
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

GOODBYE = b"done\n"
QUIET_PATH = "/unroll/quiet"
SECONDS_TO_SETTLE = 30.0
SECONDS_TO_CLOSE = 3

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_SET_STATE = re.compile(r"/api/flow_runs/([0-9a-f-]{36})/set_state$")


class Traffic:
    """Stands before Prefect's application and knows whether everything that was sent is also written."""

    def __init__(self, app: App) -> None:
        """``app`` is the ASGI application that answers."""
        self.app = app
        self.flow_run_ids: set[str] = set()
        self._open_event_streams = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer ``QUIET_PATH`` here, and pass everything else on."""
        path = scope.get("path", "")
        if scope["type"] == "http" and path == QUIET_PATH:
            await self._answer(send)
        elif scope["type"] == "websocket" and path.endswith(("/events/in", "/logs/in")):
            self._open_event_streams += 1
            try:
                await self.app(scope, receive, send)
            finally:
                self._open_event_streams -= 1
        else:
            if match := _SET_STATE.search(path):
                self.flow_run_ids.add(match.group(1))
            await self.app(scope, receive, send)

    def is_quiet(self) -> bool:
        """Whether no event is on its way to the database."""
        from prefect.server.utilities.messaging.memory import METRICS

        # One process is producer and consumer, so what was published and not consumed is still to be written.
        return self._open_event_streams == 0 and all(
            counts["consumed"] >= counts["published"] for counts in list(METRICS.values())
        )

    async def settle(self) -> None:
        """Wait until quiet, for ``SECONDS_TO_SETTLE`` at most."""
        deadline = time.monotonic() + SECONDS_TO_SETTLE
        while not self.is_quiet() and time.monotonic() < deadline:
            await asyncio.sleep(0.05)

    async def _answer(self, send: Send) -> None:
        body = b"true" if self.is_quiet() else b"false"
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Parent:
    """The process that started this one, seen through standard input and its process id."""

    def __init__(self) -> None:
        """Start watching; ``gone`` is set when the parent is."""
        self.gone = threading.Event()
        self.said_goodbye = False
        self._parent_id = os.getppid()
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._poll, daemon=True).start()

    def _read(self) -> None:
        heard = b""
        while chunk := os.read(0, 64):
            heard += chunk
        self.said_goodbye = heard.endswith(GOODBYE)
        self.gone.set()

    def _poll(self) -> None:
        # A forked data-loading worker may outlive the parent and hold the pipe open.
        while not self.gone.wait(1.0):
            if os.getppid() != self._parent_id:
                self.gone.set()


async def mark_crashed(app: Any, flow_run_ids: set[str]) -> None:
    """Set those of the runs, and their task runs, that are not finished to "Crashed"."""
    import httpx

    state = {"type": "CRASHED", "name": "Crashed", "message": "The command that ran this was killed."}
    unfinished = {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}}
    ids = {"id": {"any_": sorted(flow_run_ids)}}
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://private/api", timeout=20) as client:
        tasks = await client.post("/task_runs/filter", json={"flow_runs": ids, "task_runs": unfinished})
        flows = await client.post("/flow_runs/filter", json={"flow_runs": ids | unfinished})
        places = [f"/task_runs/{run['id']}" for run in tasks.json()] + [
            f"/flow_runs/{run['id']}" for run in flows.json()
        ]
        for place in places:
            await client.post(f"{place}/set_state", json={"state": state, "force": True})


@contextmanager
def one_start_at_a_time(home: Path) -> Iterator[None]:
    """Hold a lock while the database is made or migrated, and throw a half-made one away.

    The first start writes the schema, in a few seconds; killed within them it would leave a database that no later
    start can mend. Such a database holds no history yet.
    """
    from filelock import FileLock

    unfinished = home / "first-start-unfinished"
    database = home / "prefect.db"
    with FileLock(home / "start.lock"):
        if unfinished.exists():
            for path in home.glob("prefect.db*"):
                path.unlink()
        if not database.exists():
            unfinished.touch()
        yield
        unfinished.unlink(missing_ok=True)


async def _serve_without_exit(server: Any, listener: socket.socket) -> None:
    try:
        await server.serve(sockets=[listener])
    except SystemExit:
        # uvicorn has logged why; its exit within a task would bury that under tracebacks of the event loop
        sys.stderr.flush()


async def serve(listener: socket.socket, parent: Parent) -> None:
    """Serve until the parent is gone, then settle and close."""
    import uvicorn
    from prefect.server.api.server import create_app

    app = create_app(final=True)
    traffic = Traffic(app)
    config = uvicorn.Config(
        traffic, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=SECONDS_TO_CLOSE
    )
    server = uvicorn.Server(config)
    with one_start_at_a_time(Path(os.environ["PREFECT_HOME"])):
        serving = asyncio.create_task(_serve_without_exit(server, listener))
        while not (server.started or serving.done()):
            await asyncio.sleep(0.02)
    if not server.started:
        os._exit(1)

    while not (parent.gone.is_set() or serving.done()):
        await asyncio.sleep(0.05)
    await traffic.settle()
    if not parent.said_goodbye and traffic.flow_run_ids:
        await mark_crashed(app, traffic.flow_run_ids)
    server.should_exit = True
    await serving


def main() -> None:
    """Announce a port at once, then do the slow imports."""
    parent = Parent()
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.bind(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    asyncio.run(serve(listener, parent))
    # Everything is written and closed; taking apart Prefect's modules would keep the command waiting for two seconds.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
