from __future__ import annotations

import logging
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from tasks import metric_logger as metric_logger_module
from tasks import tracking
from tasks.metric_logger import MlflowMetricLogger
from tasks.owner import PID_TAG, STARTED_TAG, owner_tags
from tasks.provenance import git_tags
from tasks.tracked_run import ERROR_TAG
from tasks.tracking import RUN_KEY_TAG, open_run, sweep_dead_runs
from unroll.config import LanguageModelConfig, SentimentConfig, flatten
from unroll.errors import InterruptedTraining, RegistryError

CONFIG = SentimentConfig()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One SQLite store for the module: making its tables takes seconds."""
    return tmp_path_factory.mktemp("a folder, ümlauts & spaces") / "mlflow.db"


@pytest.fixture
def client(store: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")
    return MlflowClient()


@pytest.fixture
def key() -> str:
    return uuid4().hex


def curve(client: MlflowClient, run_id: str, name: str = "train/loss") -> list[tuple[int, float]]:
    points = client.get_metric_history(run_id, name)
    return sorted((point.step, point.value) for point in points)


def test_a_command_started_again_goes_on_in_its_run(client: MlflowClient, key: str) -> None:
    with pytest.raises(KeyboardInterrupt), open_run(CONFIG, key, {}) as first:
        raise KeyboardInterrupt
    with open_run(CONFIG, key, {}) as second:
        assert client.get_run(second.run_id).info.status == "RUNNING"
    run = client.get_run(second.run_id)
    assert second.run_id == first.run_id
    assert run.info.status == "FINISHED"
    assert ERROR_TAG not in run.data.tags


def test_another_key_or_a_deleted_run_gets_a_new_run(client: MlflowClient, key: str) -> None:
    with open_run(CONFIG, key, {}) as first, open_run(CONFIG, uuid4().hex, {}) as other:
        pass
    client.delete_run(first.run_id)
    with open_run(CONFIG, key, {}) as again:
        pass
    assert len({first.run_id, other.run_id, again.run_id}) == 3


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("bad weights"), "FAILED"),
        (InterruptedTraining("asked to stop", 15), "KILLED"),
        (KeyboardInterrupt("ctrl-c"), "KILLED"),
        (SystemExit(143), "KILLED"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value,
)
def test_a_run_ends_as_its_block_ended(client: MlflowClient, key: str, error: BaseException, status: str) -> None:
    with pytest.raises(type(error)) as caught, open_run(CONFIG, key, {}) as run:
        raise error
    assert caught.value is error
    stored = client.get_run(run.run_id)
    assert stored.info.status == status
    assert stored.data.tags[ERROR_TAG] == f"{type(error).__name__}: {error}"


def test_a_store_that_fails_at_the_end_masks_no_error(
    client: MlflowClient, key: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*arguments: Any, **named: Any) -> None:
        raise MlflowException("store is gone")

    monkeypatch.setattr(MlflowClient, "set_terminated", refuse)
    with pytest.raises(ZeroDivisionError), open_run(CONFIG, key, {}):
        raise ZeroDivisionError
    assert "store is gone" in caplog.text


def test_every_setting_is_a_parameter_and_none_changes_on_resume(client: MlflowClient, key: str) -> None:
    for config in (LanguageModelConfig(seed=7), LanguageModelConfig(seed=8)):
        with open_run(config, key, {"unroll.preset": "fast"}) as run:
            pass
    stored = client.get_run(run.run_id)
    expected = flatten(LanguageModelConfig(seed=7).model_dump(mode="json"))
    assert stored.data.params == {name: str(value) for name, value in expected.items()}
    assert (stored.info.run_name or "").startswith("fast lstm-128x1 ")
    assert stored.data.tags["unroll.project"] == "language_model"


def test_artifacts_lie_beside_the_database(client: MlflowClient, store: Path, key: str, tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    (tmp_path / "report.json").write_text("{}")
    with open_run(CONFIG, key, {}) as run:
        run.log_artifact(tmp_path / "report.json", "reports")
        run.log_text("a passage", "passages/1.txt")
        run.log_figure(Figure(), "plots/roc.png")
    folder = store.parent / "mlartifacts" / "unroll-sentiment" / run.run_id / "artifacts"
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert found == {"reports/report.json", "passages/1.txt", "plots/roc.png"}


def test_a_dataset_keeps_its_whole_digest_and_is_listed_once(client: MlflowClient, key: str) -> None:
    digest = "0123456789abcdef" * 4
    for _ in range(2):
        with open_run(CONFIG, key, {}) as run:
            run.log_dataset("imdb", digest, "sample", "train")
    (used,) = client.get_run(run.run_id).inputs.dataset_inputs
    assert used.dataset.digest == digest[:36]
    assert {tag.key: tag.value for tag in used.tags} == {"mlflow.data.context": "train", "unroll.digest": digest}


def test_long_tags_and_descriptions_are_cut_not_refused(client: MlflowClient, key: str) -> None:
    with open_run(CONFIG, key, {"long": "x" * 20_000}) as run:
        run.set_tag("other", "y" * 20_000)
        run.describe("z" * 20_000)
    tags = client.get_run(run.run_id).data.tags
    assert tags["long"].strip("x") == ""
    assert tags["other"].strip("y") == ""
    assert tags["mlflow.note.content"].endswith("(cut)")


def test_final_metrics_are_written_once(client: MlflowClient, key: str) -> None:
    for _ in range(2):
        with open_run(CONFIG, key, {}) as run:
            run.log_final_metrics({"test/accuracy": 0.9, "test/loss": math.inf})
    assert curve(client, run.run_id, "test/accuracy") == [(0, 0.9)]
    assert curve(client, run.run_id, "test/loss") == []


def test_a_replayed_history_leaves_one_curve(client: MlflowClient, key: str) -> None:
    for last_step in (700, 1500):
        with open_run(CONFIG, key, {}) as run:
            for step in range(1, last_step + 1):
                run.logger().log({"train/loss": 1 / step}, step)
    assert curve(client, run.run_id) == [(step, 1 / step) for step in range(1, 1501)]


def test_nan_is_kept_and_infinity_noted(client: MlflowClient, key: str, caplog: pytest.LogCaptureFixture) -> None:
    with open_run(CONFIG, key, {}) as run:
        for step, value in enumerate([math.nan, math.inf, -math.inf, 2.0]):
            run.logger().log({"train/loss": value}, step)
    points = curve(client, run.run_id)
    assert [step for step, _ in points] == [0, 3]
    assert math.isnan(points[0][1])
    assert caplog.text.count("train/loss was") == 1


def test_flush_returns_when_everything_is_stored(client: MlflowClient, key: str) -> None:
    with open_run(CONFIG, key, {}) as run:
        for step in range(2_500):
            run.logger().log({"train/loss": float(step)}, step)
        assert run.logger().flush()
        assert len(curve(client, run.run_id)) == 2_500


class FlakyStore:
    """Stands for a tracking server that stops answering."""

    def __init__(self) -> None:
        self.is_down = True
        self.tries = 0
        self.steps: list[int] = []

    def get_run(self, run_id: str) -> Any:
        raise AssertionError("replaced by the fixture")

    def log_batch(self, run_id: str, metrics: list[Any], synchronous: bool) -> None:
        self.tries += 1
        if self.is_down:
            raise ConnectionError("connection refused")
        self.steps += [metric.step for metric in metrics]


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[FlakyStore, MlflowMetricLogger]]:
    monkeypatch.setattr(metric_logger_module, "_last_steps", lambda client, run_id: {})
    monkeypatch.setattr(metric_logger_module, "SEND_SECONDS", 0.02)
    flaky_store = FlakyStore()
    metric_logger = MlflowMetricLogger(flaky_store, "run")  # type: ignore[arg-type]
    yield flaky_store, metric_logger
    metric_logger.close(timeout=2)


def test_points_outlive_a_store_that_is_away_for_a_while(
    flaky: tuple[FlakyStore, MlflowMetricLogger], caplog: pytest.LogCaptureFixture
) -> None:
    flaky_store, metric_logger = flaky
    started = time.perf_counter()
    for step in range(3_000):
        metric_logger.log({"train/loss": 1.0}, step)
    assert time.perf_counter() - started < 1.0
    while flaky_store.tries < 2:
        time.sleep(0.01)
    assert not metric_logger.flush(timeout=1)
    flaky_store.is_down = False
    assert metric_logger.close() == 0
    assert flaky_store.steps == list(range(3_000))
    assert caplog.text.count("does not answer") == 1


def test_points_that_a_dead_store_never_took_are_counted(
    flaky: tuple[FlakyStore, MlflowMetricLogger], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(metric_logger_module, "LARGEST_BUFFER", 100)
    _, metric_logger = flaky
    for step in range(130):
        metric_logger.log({"train/loss": 1.0}, step)
    started = time.perf_counter()
    assert metric_logger.close() == 130
    assert time.perf_counter() - started < 2
    assert "130 points" in caplog.text


def test_system_metrics_leave_no_thread_and_pass_errors_on(client: MlflowClient, key: str) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        open_run(CONFIG, key, {}) as run,
        run.system_metrics(),
    ):
        raise ZeroDivisionError
    names = {thread.name for thread in threading.enumerate()}
    assert not {"SystemMetricsMonitor", "mlflow-metrics"} & names


def test_broken_system_metrics_do_not_stop_a_run(
    client: MlflowClient, key: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from mlflow.system_metrics import system_metrics_monitor

    def fail(*arguments: Any, **named: Any) -> None:
        raise RuntimeError("no sensors")

    monkeypatch.setattr(system_metrics_monitor, "CPUMonitor", fail)
    with open_run(CONFIG, key, {}) as run, run.system_metrics():
        pass
    assert client.get_run(run.run_id).info.status == "FINISHED"
    assert "no sensors" in caplog.text


def test_two_commands_at_once_share_experiment_and_run(
    client: MlflowClient, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"race-{key}"
    monkeypatch.setattr(tracking, "experiment_name", lambda project: name)
    together = threading.Barrier(4)

    def start(_: int) -> str:
        together.wait()
        with open_run(CONFIG, key, {}) as run:
            return run.run_id

    with ThreadPoolExecutor(4) as pool:
        run_ids = set(pool.map(start, range(4)))
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    (kept,) = client.search_runs([experiment.experiment_id])
    assert run_ids == {kept.info.run_id}


def running(client: MlflowClient, key: str, tags: dict[str, str]) -> str:
    with open_run(CONFIG, key, {}) as run:
        pass
    client.update_run(run.run_id, status="RUNNING")
    for name, value in tags.items():
        client.set_tag(run.run_id, name, value)
    return run.run_id


def test_runs_of_dead_processes_are_swept_and_no_others(client: MlflowClient) -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    dead = running(client, "dead", {PID_TAG: str(child.pid)})
    reused_pid = running(client, "reused", {STARTED_TAG: "1000.0"})
    resumed = running(client, "resumed", {PID_TAG: str(child.pid)})
    alive = running(client, "alive", owner_tags())
    elsewhere = running(client, "elsewhere", {"unroll.owner_place": owner_tags()["unroll.owner_place"][:12] + "/other"})
    foreign = running(client, "foreign", {})
    client.delete_tag(foreign, "unroll.owner_place")

    assert set(sweep_dead_runs(except_key="resumed")) == {dead, reused_pid}
    status = {run_id: client.get_run(run_id).info.status for run_id in (dead, reused_pid, resumed, alive, elsewhere)}
    assert status == {dead: "KILLED", reused_pid: "KILLED", resumed: "RUNNING", alive: "RUNNING", elsewhere: "RUNNING"}
    assert client.get_run(dead).data.tags[RUN_KEY_TAG] == "dead"


def test_a_server_that_is_not_there_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    message = r"http://127\.0\.0\.1:9.*MLFLOW_TRACKING_URI"
    with pytest.raises(RegistryError, match=message) as caught, open_run(CONFIG, key, {}):
        pytest.fail("there is no server")
    assert "secret" not in str(caught.value)


def test_git_tags_tell_commit_and_dirt_of_the_project_only(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    assert git_tags(tmp_path) == {}
    git("init")
    assert git_tags(tmp_path) == {}
    (tmp_path / "code.py").write_text("1")
    git("add", ".")
    git("commit", "-m", "first")
    clean = git_tags(tmp_path)
    assert len(clean["mlflow.source.git.commit"]) == 40
    assert clean["unroll.git_dirty"] == "false"
    (tmp_path / "code.py").write_text("2")
    assert git_tags(tmp_path) == clean | {"unroll.git_dirty": "true"}
    (tmp_path / "site-packages").mkdir()
    assert git_tags(tmp_path / "site-packages") == {}


def test_without_git_there_are_no_git_tags(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_tags(Path(os.getcwd())) == {}


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="unroll")
