"""A real Prefect server that goes on from command to command; for tests."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from tests.ports import free_port


class PrefectServer:
    """``prefect server start`` on a loopback port."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.api = f"http://127.0.0.1:{port}/api"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        environment = kept | {"PREFECT_HOME": str(folder), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
        command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        with (folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            self._wait(folder / "server.log")
        except BaseException:
            self.close()
            raise

    def _wait(self, log: Path) -> None:
        deadline = time.monotonic() + 120
        while not self._answers():
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.2)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.api}/health", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def ask(self, path: str, question: dict[str, Any]) -> Any:
        answer = httpx.post(f"{self.api}{path}", json=question, timeout=30)
        answer.raise_for_status()
        return answer.json()

    def events(self, name: str) -> list[dict[str, Any]]:
        """Events of a name, oldest first."""
        found = self.ask("/events/filter", {"filter": {"event": {"name": [name]}}, "limit": 50})["events"]
        return sorted(found, key=lambda event: str(event["occurred"]))

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=60)
