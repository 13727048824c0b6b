from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from stack.probe import HEARTBEAT_SECONDS, trouble_with


class _Server(HTTPServer):
    answer: tuple[int, bytes] = (200, b"ok")


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        status, body = self.server.answer
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - the base class asks for these names

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[_Server]:
    with _Server(("127.0.0.1", 0), _Handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def url(server: _Server) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def test_an_address_is_healthy_when_it_answers_well(server: _Server) -> None:
    assert trouble_with(url(server), {}) is None
    server.answer = (503, b"")
    assert "503" in str(trouble_with(url(server), {}))


def test_nobody_there_is_said(server: _Server) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stack.probe", "http://127.0.0.1:1/"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("http://127.0.0.1:1/: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("silent_for", "is_healthy"), [([], False), ([1], True), ([HEARTBEAT_SECONDS + 5], False), ([100, 2], True)]
)
def test_a_worker_is_healthy_while_its_heart_beats(server: _Server, silent_for: list[float], is_healthy: bool) -> None:
    beats = [datetime.now(UTC) - timedelta(seconds=seconds) for seconds in silent_for]
    server.answer = (200, json.dumps([{"last_heartbeat_time": beat.isoformat()} for beat in beats]).encode())
    environment = {"PREFECT_API_URL": f"{url(server)}/api", "PREFECT_API_AUTH_STRING": "a:b"}
    assert (trouble_with("worker", environment) is None) == is_healthy


@pytest.mark.parametrize("answer", [(401, b"{}"), (404, b"{}"), (200, b"no json")])
def test_a_server_that_does_not_say_leaves_the_worker_unwell(server: _Server, answer: tuple[int, bytes]) -> None:
    server.answer = answer
    environment = {"PREFECT_API_URL": f"{url(server)}/api", "PREFECT_API_AUTH_STRING": "a:b"}
    assert trouble_with("worker", environment)
