"""``mlflow models serve`` answers by the registered models, with no network to reach."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.ports import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SECONDS_TO_START = 120.0
NOWHERE = "http://127.0.0.1:9"
"""A proxy that is not there: whatever would leave this machine fails."""


@pytest.fixture(scope="module")
def trained(served_command: Any) -> Any:
    served_command.run("all")
    return served_command


@contextmanager
def serving(command: Any, model: str) -> Iterator[str]:
    """Serve a model; its address."""
    port = free_port()
    arguments = ["models", "serve", "--model-uri", model, "--env-manager", "local"]
    arguments += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = command.environment() | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{command.home}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # the command starts its server by name
        "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]),
        **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"), NOWHERE),
        "no_proxy": "127.0.0.1",
    }
    log_path = command.folder / "serve.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *arguments],
            cwd=command.folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + SECONDS_TO_START
        while not answers(url):
            assert process.poll() is None, log_path.read_text()
            assert time.monotonic() < deadline, log_path.read_text()
            time.sleep(0.1)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(url: str) -> bool:
    try:
        with open_url(f"{url}/ping"):
            return True
    except (urllib.error.URLError, OSError):
        return False


def open_url(request: Any) -> Any:
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60)


def ask(url: str, **payload: Any) -> list[dict[str, Any]]:
    body = json.dumps(payload).encode()
    request = urllib.request.Request(f"{url}/invocations", body, {"Content-Type": "application/json"})
    with open_url(request) as response:
        rows: list[dict[str, Any]] = json.load(response)["predictions"]
    return rows


def test_a_classifier_is_served_offline(trained: Any) -> None:
    texts = ["a good film", "I expected a bore, but it was a delight.", ""]
    plain = trained("predict", *texts)
    with serving(trained, "models:/unroll-sentiment@champion") as url:
        rows = ask(url, inputs=texts)
        frame = ask(url, dataframe_split={"columns": ["text"], "data": [[text] for text in texts]})
    assert rows == frame
    expected = [line.split("\t")[:2] for line in plain.stdout.splitlines()]
    for row, (label, prob) in zip(rows, expected, strict=True):
        assert row["label"] == label
        assert row[f"probability_{label}"] == pytest.approx(float(prob), abs=1e-4)
        assert row["probability_negative"] + row["probability_positive"] == pytest.approx(1)


def test_a_language_model_is_served_offline_with_every_sampling_setting(trained: Any) -> None:
    settings = ("--length", "40", "--temperature", "0.7", "--top-k", "9", "--top-p", "0.9", "--min-p", "0.01")
    plain = trained("generate", "The ", *settings, "--seed", "5")
    params = {"length": 40, "temperature": 0.7, "top_k": 9, "top_p": 0.9, "min_p": 0.01, "seed": 5}
    with serving(trained, "models:/unroll-language-model@champion") as url:
        one = ask(url, inputs=["The "], params=params)
        two = ask(url, inputs=["The ", "The "], params=params)
        stopped = ask(url, inputs=["The "], params={**params, "length": 400, "stop": ["e"]})
    assert one[0]["text"] == plain.stdout.removesuffix("\n")
    assert two[0]["text"] == one[0]["text"] != two[1]["text"]
    assert stopped[0]["text"].endswith("e")
