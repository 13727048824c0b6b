"""``unroll ui``: the MLflow and Prefect pages on the embedded stores, or the addresses of the user's servers."""

from __future__ import annotations

import http.client
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator

from flows.embedded import Workplace, prepare_environment, workplace
from unroll.config import CONFIG_CLASSES
from unroll.errors import UnrollError

logger = logging.getLogger("unroll.ui")

SECONDS_TO_START = 90.0
STACK_LOGIN = "PREFECT_SERVER_API_AUTH_STRING"


def show_pages(open_browser: bool, mlflow_port: int, prefect_port: int) -> None:
    """Start what is not running already, print both addresses, and wait for Ctrl-C or SIGTERM."""
    place = workplace()
    prepare_environment(place)
    servers: list[subprocess.Popen[bytes]] = []
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    try:
        pages = {
            "MLflow": _mlflow_page(place, mlflow_port, servers),
            "Prefect": _prefect_page(place, prefect_port, servers),
        }
        for name, url in pages.items():
            print(f"{name:8} {url}", flush=True)
            if open_browser:
                webbrowser.open(url)
        for name, url in _views(pages["MLflow"]):
            print(f"{name:8} {url}", flush=True)
        if not servers:
            return
        logger.info("Ctrl-C ends both")
        while not stopped.wait(0.5):
            if any(server.poll() is not None for server in servers):
                raise UnrollError(f"A page's server ended by itself; its log is in {place.root / 'ui'}.")
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            _end(server)


def _mlflow_page(place: Workplace, port: int, servers: list[subprocess.Popen[bytes]]) -> str:
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if uri.startswith(("http://", "https://")):
        return uri
    port = _free_port(port)
    artifacts = place.mlflow_artifacts.as_uri()
    options = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--backend-store-uri", uri]
    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    command = [sys.executable, "-m", "mlflow", "server", *options, "--default-artifact-root", artifacts]
    servers.append(_launch(place, "mlflow", command, environment))
    return _wait(f"http://127.0.0.1:{port}", "/health", servers[-1], place)


def _views(page: str) -> Iterator[tuple[str, str]]:
    """The prepared run tables of the projects that have runs."""
    import httpx

    from tasks.run_table import VIEW_TAG, view_path

    login = (os.environ.get("MLFLOW_TRACKING_USERNAME"), os.environ.get("MLFLOW_TRACKING_PASSWORD"))
    auth = (login[0], login[1]) if login[0] and login[1] else None
    for project in CONFIG_CLASSES:
        name = f"unroll-{project.replace('_', '-')}"
        try:
            answer = httpx.get(
                f"{page}/api/2.0/mlflow/experiments/get-by-name",
                params={"experiment_name": name},
                auth=auth,
                timeout=10,
            )
            if answer.status_code == httpx.codes.OK:
                experiment = answer.json()["experiment"]
                if VIEW_TAG in {tag["key"] for tag in experiment.get("tags", [])}:
                    yield name, page + view_path(experiment["experiment_id"])
        except (httpx.HTTPError, ValueError, KeyError) as error:
            logger.debug("no view of %s: %s", name, error)


def _prefect_page(place: Workplace, port: int, servers: list[subprocess.Popen[bytes]]) -> str:
    api = os.environ.get("PREFECT_API_URL")
    if api:
        return api.removesuffix("/api")
    port = _free_port(port)
    environment = {"PREFECT_UI_API_URL": f"http://127.0.0.1:{port}/api", "PREFECT_API_URL": ""}
    options = ["--host", "127.0.0.1", "--port", str(port), "--no-services"]
    command = [sys.executable, "-m", "prefect", "server", "start", *options]
    servers.append(_launch(place, "prefect", command, environment))
    return _wait(f"http://127.0.0.1:{port}", "/api/health", servers[-1], place)


def _launch(place: Workplace, name: str, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
    logger.info("starting the %s page", name)
    folder = place.root / "ui"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "flows.leash", *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={name: value for name, value in os.environ.items() if name != STACK_LOGIN} | environment,
            # away from a `.env`, which Prefect would read: the stack's login is not this page's
            cwd=folder,
        )


def _wait(url: str, path: str, server: subprocess.Popen[bytes], place: Workplace) -> str:
    deadline = time.monotonic() + SECONDS_TO_START
    host = url.removeprefix("http://")
    while time.monotonic() < deadline and server.poll() is None:
        connection = http.client.HTTPConnection(host, timeout=5)
        try:
            connection.request("GET", path)
            if connection.getresponse().status == 200:
                return url
        except OSError:
            time.sleep(0.2)
        finally:
            connection.close()
    raise UnrollError(f"The page at {url} did not come up within {SECONDS_TO_START:.0f} s; see {place.root / 'ui'}.")


def _free_port(wanted: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            logger.info("port %d is taken; using another", wanted)
            probe.close()
            return _free_port(0)
        port: int = probe.getsockname()[1]
        return port


def _end(server: subprocess.Popen[bytes]) -> None:
    try:
        server.wait(timeout=15)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
