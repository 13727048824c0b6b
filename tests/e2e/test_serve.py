"""`unroll serve` itself on a real registry: champions that change under load, a registry that goes, a graceful end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.serving import Server, make_registry, measure_crowd, promote, serving

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A working folder with two classifiers and a language model of a few units each."""
    return make_registry(tmp_path_factory.mktemp("serve"), "--small")


@pytest.fixture
def server(environment: dict[str, str]) -> Iterator[Server]:
    with serving(environment) as running:
        yield running


def serve(environment: dict[str, str], *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "flows.cli", "serve", "--port", "0", *options]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until(holds: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_two_swaps_under_load_lose_no_request(server: Server, environment: dict[str, str]) -> None:
    crowd = measure_crowd(server, environment, seconds=12)
    print(json.dumps(crowd))
    assert (crowd["errors"], crowd["lost"], crowd["swaps"]) == (0, 0, 2)
    assert set(crowd["versions"]) == {"1", "2"}
    assert all(row["requests"] > 0 for row in crowd["kinds"].values())


def test_schemathesis_finds_no_fault(server: Server, tmp_path: Path) -> None:
    # a body beyond its limit is refused before anybody looks at what is in it
    (tmp_path / "schemathesis.toml").write_text(
        "[checks.negative_data_rejection]\nexpected-statuses = [400, 401, 404, 405, 408, 413, 415, 422]\n"
    )
    command = [Path(sys.executable).with_name("schemathesis"), "--config-file", "schemathesis.toml", "run"]
    options = ["--checks", "all", "--max-examples", "60", "--seed", "1", "--no-color"]
    done = subprocess.run(
        [*command, f"{server.url}/openapi.json", *options], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]


def test_a_named_version_is_served_and_stays(environment: dict[str, str]) -> None:
    with serving(environment, "--model", "sentiment=2") as server:
        body = {"texts": ["A good film."]}
        assert httpx.post(f"{server.url}/v1/sentiment", json=body).json()["model"]["version"] == "2"


def test_a_registry_that_goes_leaves_the_models_serving(environment: dict[str, str], tmp_path: Path) -> None:
    shutil.copytree(environment["UNROLL_HOME"], tmp_path / ".unroll")
    ours = environment | {"UNROLL_HOME": str(tmp_path / ".unroll")}
    with serving(ours) as server:
        database = tmp_path / ".unroll" / "mlflow.db"
        database.write_bytes(b"no database" * 1000)
        wait_until(lambda: "does not answer" in httpx.get(f"{server.url}/readyz").text)
        assert httpx.get(f"{server.url}/readyz").status_code == 200
        assert 'unroll_registry_up{project="sentiment"} 0.0' in httpx.get(f"{server.url}/metrics").text
        assert httpx.post(f"{server.url}/v1/sentiment", json={"texts": ["good"]}).status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_is_under_way_is_finished_before_the_end(environment: dict[str, str], number: int) -> None:
    process = serve(environment)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    assert url.startswith("http://127.0.0.1:")
    wait_until(lambda: httpx.get(f"{url}/readyz").status_code == 200)
    answers: list[httpx.Response] = []
    body = {"prompt": "The ", "length": 10_000, "stream": True}
    request = threading.Thread(target=lambda: answers.append(httpx.post(f"{url}/v1/generate", json=body, timeout=60)))
    request.start()
    wait_until(lambda: "unroll_streams 1.0" in httpx.get(f"{url}/metrics").text)
    process.send_signal(number)
    request.join()
    assert process.wait(timeout=60) == 0
    assert '"reason":"length","length":10000' in answers[0].text
    assert process.stderr is not None
    log = process.stderr.read()
    assert "stopped" in log
    assert "Traceback" not in log
    assert process.stdout.read() == ""


def test_without_a_champion_the_server_waits_for_one(environment: dict[str, str], tmp_path: Path) -> None:
    script = (
        "from flows.embedded import *; p = workplace(); prepare_environment(p); "
        "from mlflow import MlflowClient; MlflowClient(tracking_uri=p.tracking_uri).search_registered_models()"
    )
    empty = environment | {"UNROLL_HOME": str(tmp_path / ".unroll")}
    subprocess.run([sys.executable, "-c", script], env=empty, check=True, capture_output=True)
    process = serve(empty, "--poll", "0.5")
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    try:
        wait_until(lambda: "no champion" in httpx.post(f"{url}/v1/generate", json={}).text)
        answer = httpx.post(f"{url}/v1/sentiment", json={"texts": ["good"]})
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert httpx.get(f"{url}/readyz").status_code == 503
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0


def test_a_token_is_read_from_the_environment_and_a_client_without_it_is_refused(environment: dict[str, str]) -> None:
    with serving(environment | {"SERVE_TOKEN": "a secret"}, "--token-env", "SERVE_TOKEN") as server:
        body = {"texts": ["good"]}
        assert httpx.post(f"{server.url}/v1/sentiment", json=body).status_code == 401
        headers = {"authorization": "Bearer a secret"}
        assert httpx.post(f"{server.url}/v1/sentiment", json=body, headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--token-env", "NOT_SET_ANYWHERE"], 2, "NOT_SET_ANYWHERE, which is not set or empty"),
        (
            ["--model", "translation=1"],
            2,
            "expected PROJECT=VERSION with one of the projects sentiment, language-model",
        ),
        (["--model", "sentiment=9"], 1, "no version, alias or run '9'"),
        (["--port", "65536"], 2, "should be less than or equal to 65535"),
    ],
)
def test_what_cannot_be_served_is_told_at_once(
    environment: dict[str, str], options: list[str], status: int, words: str
) -> None:
    process = serve(environment, *options)
    _, log = process.communicate(timeout=60)
    assert process.returncode == status
    assert words in " ".join(log.replace("│", " ").split())
    assert "Traceback" not in log


def test_in_a_folder_where_nothing_was_trained_one_is_told_to_train(
    environment: dict[str, str], tmp_path: Path
) -> None:
    process = serve(environment | {"UNROLL_HOME": str(tmp_path / ".unroll")})
    _, log = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Train one with 'unroll run'" in log
    assert not (tmp_path / ".unroll").exists()


def test_an_installed_wheel_has_the_page(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path)]
    done = subprocess.run([*pip, str(ROOT)], capture_output=True, text=True, check=False, env=os.environ)
    if "No matching distribution" in done.stderr:
        pytest.skip("NO WHEEL: the build backend cannot be fetched, so nobody looked into the wheel")
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    shutil.unpack_archive(wheel, tmp_path / "wheel", "zip")
    names = {path.name for path in (ROOT / "src/unroll/serving/static").iterdir()}
    assert {path.name for path in (tmp_path / "wheel/unroll/serving/static").iterdir()} == names
    assert {"index.html", "page.css", "page.js"} <= names


def test_promote_moves_the_alias(environment: dict[str, str], server: Server) -> None:
    promote(environment, "1")
    body = {"texts": ["good"]}
    wait_until(lambda: httpx.post(f"{server.url}/v1/sentiment", json=body).json()["model"]["version"] == "1")
