"""A Prefect server of a test's own, and a webhook that keeps what it is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from tests.ports import free_port

SECONDS_TO_START = 120


class PrefectServer:
    """``prefect server start`` on a loopback port."""

    def __init__(self, folder: Path, **settings: str) -> None:
        port = free_port()
        self.api = f"http://127.0.0.1:{port}/api"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        environment = kept | {"PREFECT_HOME": str(folder), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"} | settings
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        with (folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            self._wait(folder / "server.log")
        except BaseException:
            self.close()
            raise

    def _wait(self, log: Path) -> None:
        deadline = time.monotonic() + SECONDS_TO_START
        while not self._answers():
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.api}/health", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def ask(self, path: str, question: Any) -> Any:
        for _ in range(10):
            answer = httpx.post(f"{self.api}{path}", json=question, timeout=90)
            if answer.status_code != 503:  # SQLite was locked; Prefect's own client asks again too
                break
            time.sleep(0.5)
        assert answer.status_code < 300, f"{path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def events(self, name: str) -> list[dict[str, Any]]:
        """Events of a name, oldest first."""
        found = self.ask("/events/filter", {"filter": {"event": {"name": [name]}}, "limit": 50})["events"]
        return sorted(found, key=lambda event: str(event["occurred"]))

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=60)


class Hook:
    """A webhook that keeps what it is told, and takes its time to answer."""

    def __init__(self, seconds: float = 0) -> None:
        told = self.told = list[str]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                text = json.loads(self.rfile.read(int(self.headers["content-length"])))["text"]
                time.sleep(seconds)
                told.append(text)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/alerts"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def was_told(self, *words: str) -> bool:
        return any(all(word in text for word in words) for text in self.told)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
