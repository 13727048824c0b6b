"""A Prefect and an MLflow server on free ports of this machine, for the length of a row."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

SECONDS_TO_START = 120.0
SECONDS_TO_STOP = 20.0


@contextmanager
def running_servers(folder: Path) -> Iterator[dict[str, str]]:
    """What to set so that `unroll` uses them. Raises RuntimeError where one does not come up; its log is in folder."""
    folder.mkdir(parents=True, exist_ok=True)
    prefect, mlflow = _free_port(), _free_port()
    servers = [
        _start(
            "prefect",
            ["prefect", "server", "start", "--host", "127.0.0.1", "--port", str(prefect)],
            {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"},
            folder,
        ),
        _start(
            "mlflow",
            [
                *("mlflow", "server", "--host", "127.0.0.1", "--port", str(mlflow), "--workers", "1"),
                *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
                *("--artifacts-destination", str(folder / "artifacts")),
            ],
            {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            folder,
        ),
    ]
    try:
        _await(f"http://127.0.0.1:{prefect}/api/health", servers[0], folder)
        _await(f"http://127.0.0.1:{mlflow}/health", servers[1], folder)
        yield {
            "PREFECT_API_URL": f"http://127.0.0.1:{prefect}/api",
            "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{mlflow}",
        }
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            try:
                server.wait(SECONDS_TO_STOP)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _start(name: str, arguments: list[str], settings: Mapping[str, str], folder: Path) -> subprocess.Popen[bytes]:
    usual = {"DO_NOT_TRACK": "true", "PREFECT_API_URL": "", "PREFECT_LOGGING_LEVEL": "WARNING"}
    # on a leash: should this process be killed, its servers end too
    command = [sys.executable, "-m", "flows.leash", sys.executable, "-m", *arguments]
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **usual, **settings},
        )


def _await(url: str, server: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"{url} did not answer within {SECONDS_TO_START:.0f} s; see the logs in {folder}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
