from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from flows import embedded
from flows.embedded import Workplace, prefect_server, prepare_environment, workplace
from unroll.errors import StoreError, UnrollError

PROJECT_ROOT = Path(embedded.__file__).resolve().parents[1]
REDIRECTED = ("PREFECT_", "MLFLOW_", "HF_", "MPL", "UNROLL_", "XDG_", "DO_NOT", "HOME", "NO_PROXY", "no_proxy")

FLOW = """
import sys, time
from flows.embedded import drain_history, prefect_server, prepare_environment, workplace
place = workplace()
prepare_environment(place)
server = prefect_server(place)
server.start()
from prefect import flow, task
from prefect.runtime import flow_run

@task
def step(number, seconds=0.0):
    time.sleep(seconds)
    return number

@flow
def steps(count):
    for number in range(count):
        step(number)
    return str(flow_run.id)
"""


def fresh_environment(home: Path, **variables: str) -> dict[str, str]:
    """The user's environment as it is before any command: a home, and nothing of ours."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(REDIRECTED)}
    path = os.pathsep.join([str(PROJECT_ROOT), str(PROJECT_ROOT / "src")])
    return plain | {"HOME": str(home), "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **variables}


def launch(code: str, folder: Path, **variables: str) -> subprocess.Popen[str]:
    home = folder / "home"
    home.mkdir(parents=True, exist_ok=True)
    (folder / "here").mkdir(exist_ok=True)
    command = [sys.executable, "-c", textwrap.dedent(code)]
    environment = fresh_environment(home, **variables)
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=folder / "here", env=environment, stdout=pipe, stderr=pipe, text=True)


def run(code: str, folder: Path, **variables: str) -> str:
    process = launch(code, folder, **variables)
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return output.strip()


def is_alive(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def ask(place: Workplace, path: str, question: dict[str, Any]) -> list[dict[str, Any]]:
    """Start the server anew and read from its history."""
    from prefect.client.orchestration import get_client

    with prefect_server(place), get_client(sync_client=True) as client:
        answer: list[dict[str, Any]] = client.request("POST", path, json=question).json()
    return answer


def states(place: Workplace, kind: str, flow_run_id: str) -> Counter[str]:
    """How many runs of this flow run the history holds, by state."""
    question = {"flow_runs": {"id": {"any_": [flow_run_id]}}}
    return Counter(found["state"]["name"] for found in ask(place, f"/{kind}/filter", question))


@pytest.fixture(scope="module")
def started_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workplace in which a server has started before: the first start takes three times as long."""
    folder = tmp_path_factory.mktemp("started")
    run(FLOW + "with server: pass", folder)
    return folder / "here" / ".unroll"


@pytest.fixture
def place(started_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    folder = tmp_path / "here" / ".unroll"
    shutil.copytree(started_once, folder)
    monkeypatch.setenv("PREFECT_HOME", str(folder / "prefect"))
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return Workplace(folder)


def test_naming_a_workplace_creates_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNROLL_HOME", "")
    assert workplace().root == tmp_path / ".unroll"
    monkeypatch.setenv("UNROLL_HOME", "elsewhere")
    assert workplace().store == tmp_path / "elsewhere" / "store"
    assert list(tmp_path.iterdir()) == []


def test_importing_the_environment_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys, flows.embedded; print({'prefect', 'mlflow', 'torch', 'httpx'} & set(sys.modules))"
    assert run(code, tmp_path) == "set()"


SHOW = """
import json, os
from flows.embedded import prepare_environment, workplace
prepare_environment(workplace())
print(json.dumps(dict(os.environ)))
"""


def test_everything_points_into_the_workplace(tmp_path: Path) -> None:
    shown = json.loads(run(SHOW, tmp_path, HTTP_PROXY="http://proxy.example:3128", no_proxy="intranet"))
    root = tmp_path / "here" / ".unroll"
    assert shown["PREFECT_HOME"] == f"{root}/prefect"
    assert shown["MLFLOW_TRACKING_URI"] == f"sqlite:///{root}/mlflow.db"
    assert Path(shown["HF_HOME"]).is_relative_to(root)
    assert Path(shown["MPLCONFIGDIR"]).is_relative_to(root)
    assert Path(shown["TORCHINDUCTOR_CACHE_DIR"]).is_relative_to(root)
    assert shown["DO_NOT_TRACK"] == shown["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert shown["NO_PROXY"] == "intranet,127.0.0.1,localhost"
    assert (root / ".gitignore").read_text() == "*\n"


def test_what_the_user_has_set_stays(tmp_path: Path) -> None:
    chosen = {"MLFLOW_TRACKING_URI": "http://mlflow:5000", "PREFECT_HOME": str(tmp_path / "p"), "HF_HOME": "/data/hf"}
    shown = json.loads(run(SHOW, tmp_path, **chosen))
    assert {name: shown[name] for name in chosen} == chosen


def test_a_working_folder_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/\.unroll cannot be written.*UNROLL_HOME"):
        prepare_environment(Workplace(tmp_path / "file" / ".unroll"))


def test_prefect_imported_too_early_is_an_error_not_a_silent_home_folder(tmp_path: Path) -> None:
    code = """
    import prefect
    from flows.embedded import prepare_environment, workplace
    from unroll.errors import UnrollError
    try:
        prepare_environment(workplace())
    except UnrollError as error:
        print(error)
    """
    assert "before importing prefect" in run(code, tmp_path)


def test_a_server_of_the_users_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect:4200/api")
    with prefect_server(Workplace(tmp_path)) as server:
        assert not server.is_private
        assert os.environ["PREFECT_API_URL"] == "http://prefect:4200/api"
    assert os.environ["PREFECT_API_URL"] == "http://prefect:4200/api"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("drains", [True, False], ids=["drained", "stopped only"])
def test_every_task_run_is_in_the_history_after_the_command(place: Workplace, tmp_path: Path, drains: bool) -> None:
    drain = "assert drain_history([flow_run_id]) == 0" if drains else "pass"
    tail = f"""
with server:
    flow_run_id = steps(30)
    {drain}
print(flow_run_id)
"""
    flow_run_id = run(FLOW + tail, tmp_path)
    assert states(place, "task_runs", flow_run_id) == {"Completed": 30}


@pytest.mark.slow
def test_a_process_that_imported_prefect_before_uses_the_private_server(place: Workplace) -> None:
    from prefect import flow, task
    from prefect.runtime import flow_run

    @task
    def step(number: int) -> int:
        return number

    @flow
    def steps() -> str:
        step.map(range(30)).wait()
        return str(flow_run.id)

    with prefect_server(place) as server:
        flow_run_id = steps()
        assert server.url == os.environ["PREFECT_API_URL"]
    assert "PREFECT_API_URL" not in os.environ
    assert states(place, "task_runs", flow_run_id) == {"Completed": 30}


@pytest.mark.slow
def test_two_commands_at_once_in_a_new_folder_both_work(tmp_path: Path) -> None:
    tail = """
with server:
    print(steps(10))
"""
    commands = [launch(FLOW + tail, tmp_path) for _ in range(2)]
    outputs = [command.communicate(timeout=240) for command in commands]
    assert [command.returncode for command in commands] == [0, 0], outputs
    shared = Workplace(tmp_path / "here" / ".unroll")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(shared.prefect))
        for output, _ in outputs:
            assert states(shared, "task_runs", output.strip()) == {"Completed": 10}


@pytest.mark.slow
@pytest.mark.faults
def test_a_killed_command_leaves_no_server_and_no_run_that_seems_to_go_on(place: Workplace, tmp_path: Path) -> None:
    tail = """
@flow
def endless():
    print(server._process.pid, flow_run.id, flush=True)
    step(1, 600)

with server:
    endless()
"""
    command = launch(FLOW + tail, tmp_path)
    assert command.stdout is not None
    server_process, flow_run_id = command.stdout.readline().split()
    assert is_alive(int(server_process))
    time.sleep(1.5)
    command.send_signal(signal.SIGKILL)
    command.communicate()
    killed = time.monotonic()
    while is_alive(int(server_process)) and time.monotonic() - killed < 20:
        time.sleep(0.1)
    assert not is_alive(int(server_process))
    assert time.monotonic() - killed < 10
    assert states(place, "flow_runs", flow_run_id) == {"Crashed": 1}
    assert states(place, "task_runs", flow_run_id) == {"Crashed": 1}


@pytest.mark.slow
@pytest.mark.faults
def test_a_database_whose_first_start_was_killed_is_made_anew(tmp_path: Path) -> None:
    home = tmp_path / "here" / ".unroll" / "prefect"
    home.mkdir(parents=True)
    (home / "first-start-unfinished").touch()
    (home / "prefect.db").write_bytes(b"half a schema")
    run(FLOW + "with server: assert steps(1)", tmp_path)
    assert not (home / "first-start-unfinished").exists()


@pytest.mark.slow
@pytest.mark.faults
def test_a_server_that_does_not_start_shows_its_log(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    database = "sqlite+aiosqlite:////nowhere/at/all/prefect.db"
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", database)
    with pytest.raises(UnrollError, match=r"(?s)server\.log.*PREFECT_API_URL") as caught, prefect_server(place):
        pytest.fail("it started")
    assert "unable to open database file" in str(caught.value)
    assert "PREFECT_API_URL" not in os.environ


@pytest.mark.slow
def test_a_command_writes_nothing_outside_the_workplace(place: Workplace, tmp_path: Path) -> None:
    tail = """
from matplotlib import pyplot
from tasks.tracking import open_run
from unroll.config import SentimentConfig
with server, open_run(SentimentConfig(), "key", {}) as tracked, tracked.system_metrics():
    steps(2)
    tracked.log_figure(pyplot.figure(), "empty.png")
"""
    (tmp_path / "system-tmp").mkdir()
    run(FLOW + tail, tmp_path, MPLBACKEND="agg", TMPDIR=str(tmp_path / "system-tmp"))
    assert list((tmp_path / "system-tmp").rglob("*")) == []
    assert [path.name for path in (tmp_path / "here").iterdir()] == [".unroll"]
    assert list((tmp_path / "home").rglob("*")) == []
