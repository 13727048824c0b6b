"""Running the application on a port until SIGTERM or Ctrl-C; what is under way then is finished first."""

from __future__ import annotations

import logging
import signal
import socket
import sys
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from unroll.errors import UnrollError

SECONDS_TO_FINISH = 30
"""What is still under way so long after SIGTERM is broken off. A second Ctrl-C does not wait for it."""
SECONDS_TO_SWITCH = 0.0005
BACKLOG = 2048
SECONDS_TO_KEEP_ALIVE = 75
"""An idle connection is kept longer than clients and proxies keep theirs: whoever closes one may cut off a request that
is on its way, and a client, unlike a server, knows that it has sent none."""


def run_server(app: FastAPI, host: str, port: int, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT. Port 0 takes a free one; announce: is told the address once it answers.

    Raises UnrollError where the address is not to be had.
    """
    listener = _listen(host, port)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    # each prompt with a character that the model never saw would be a line; the answer says so already
    logging.getLogger("unroll.generation").setLevel(logging.ERROR)
    # The event loop gives the interpreter away at each read and write, and gets it back from a busy thread only after
    # this time: 5 ms by default, several times a request.
    sys.setswitchinterval(SECONDS_TO_SWITCH)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        server_header=False,
        timeout_keep_alive=SECONDS_TO_KEEP_ALIVE,
        timeout_graceful_shutdown=SECONDS_TO_FINISH,
    )
    # uvicorn ends by raising its signal again, for whoever handled it before; this command is then done
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        _AnnouncedServer(config, lambda: announce(_url(listener))).run([listener])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _AnnouncedServer(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say the address as soon as it answers."""
        await super().startup(sockets)
        if self.started:
            self._announce()


def _listen(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        family, kind, protocol, _, address = found
        # asyncio turns Nagle's algorithm off only where the protocol is named; with it, an answer waits 40 ms for the
        # client's delayed acknowledgement of its head
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnrollError(
            f"{host} port {port} is not to be had ({reason}); name another with --host and --port, 0 for a free one."
        ) from error
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
