"""Whatever was lost of the curves on their way to MLflow is there in the end, and nothing twice."""

from __future__ import annotations

import random
import shutil
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from mlflow import MlflowClient

from tasks import metric_logger
from tasks import train as train_stage
from tasks.curves import fill_curves
from tasks.metric_logger import ROLLBACKS, MlflowMetricLogger
from tasks.stage import StageResult
from tasks.tracked_run import TrackedRun
from unroll.config import SentimentConfig
from unroll.store import Artifact
from unroll.training.metrics import History

LAST_STEP = 300


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> MlflowClient:
    """On one SQLite store for the module: making its tables takes seconds."""
    return MlflowClient(f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db")


@pytest.fixture
def run_id(client: MlflowClient, tmp_path: Path) -> str:
    experiment = client.create_experiment(tmp_path.name, (tmp_path / "artifacts").as_uri())
    return client.create_run(experiment).info.run_id


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SEND_SECONDS": 0.002, "LONGEST_PAUSE": 0.004, "SEND_AT": 30, "LARGEST_BUFFER": 90}.items():
        monkeypatch.setattr(metric_logger, name, value)


class Line:
    """The way of one process to MLflow: sometimes down, sometimes without an answer, dead for good after a kill."""

    def __init__(self, client: MlflowClient, rng: random.Random) -> None:
        self._client, self._rng = client, rng
        self.is_down = self.is_dead = False

    def get_run(self, run_id: str) -> Any:
        return self._client.get_run(run_id)

    def log_batch(self, run_id: str, metrics: list[Any], synchronous: bool) -> None:
        if self.is_down or self.is_dead:
            raise ConnectionError("refused")
        self._client.log_batch(run_id, metrics=metrics, synchronous=synchronous)
        if self._rng.random() < 0.2:
            raise ConnectionError("the answer was lost")


class Training:
    """Stands for the trainer: curves in a file and to MLflow, rewound after a kill, made anew after a roll-back."""

    def __init__(self, history: History, rng: random.Random, may_roll_back: bool) -> None:
        self.history, self.step, self.size = history, 0, 0
        self._rng, self._may_roll_back = rng, may_roll_back
        self._rollbacks = self._saved_rollbacks = self._saved_step = 0

    def run(self, line: Line, live: MlflowMetricLogger, steps: int) -> None:
        for _ in range(steps):
            if self._rng.random() < 0.05:
                line.is_down = not line.is_down
            if self._may_roll_back and self._rng.random() < 0.01:
                self._roll_back(live)
            self.step += 1
            self._log(live, {"loss": 1000 * self._rollbacks + self.step, "rate": self._rng.random()})
            if self.step % 20 == 0:
                self._log(live, {"validation": self.step})
            if self._rng.random() < 0.1:
                self._save()

    def resume(self) -> None:
        self.history.rewind(self.size)
        self.step, self._rollbacks = self._saved_step, self._saved_rollbacks

    def _roll_back(self, live: MlflowMetricLogger) -> None:
        rollbacks = self._rollbacks + 1
        time.sleep(0.002)  # reading a checkpoint takes longer
        self.resume()
        self._rollbacks = rollbacks
        self._log(live, {ROLLBACKS: rollbacks})
        self._save()

    def _save(self) -> None:
        self.size, self._saved_step, self._saved_rollbacks = self.history.size(), self.step, self._rollbacks

    def _log(self, live: MlflowMetricLogger, metrics: Mapping[str, float]) -> None:
        self.history.append(metrics, self.step)
        live.log(metrics, self.step)


@pytest.mark.parametrize("may_roll_back", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_no_outage_and_no_kill_leaves_a_gap_or_a_point_twice(
    client: MlflowClient, run_id: str, tmp_path: Path, seed: int, may_roll_back: bool
) -> None:
    rng = random.Random(seed)
    training = Training(History(tmp_path / "history.jsonl"), rng, may_roll_back)
    while training.step < LAST_STEP:  # each time round is a process
        fill_curves(client, run_id, training.history.read())
        training.resume()
        line = Line(client, rng)
        live = MlflowMetricLogger(line, run_id)  # type: ignore[arg-type]
        training.run(line, live, rng.randint(1, 150))
        line.is_dead = rng.random() < 0.7  # killed, rather than asked to stop
        live.close(timeout=0.5)
        line.is_dead = True
    fill_curves(client, run_id, training.history.read())
    assert fill_curves(client, run_id, training.history.read()) == 0

    kept = points_of(training.history)
    there = {
        name: Counter((point.step, point.value) for point in client.get_metric_history(run_id, name)) for name in kept
    }
    assert len(kept["loss"]) >= LAST_STEP
    for name in kept:
        if name != "rate":  # clocks do not say the same twice
            assert not kept[name] - there[name], name
        if not may_roll_back:
            assert sorted(step for step, _ in there[name].elements()) == sorted(
                step for step, _ in kept[name].elements()
            ), name
    assert max(there["loss"].values()) == 1


def points_of(history: History) -> dict[str, Counter[tuple[int, float]]]:
    """Steps and values by metric."""
    found: dict[str, Counter[tuple[int, float]]] = {}
    for point in history.read():
        for name, value in point.items():
            if name != "step":
                found.setdefault(name, Counter())[int(point["step"]), value] += 1
    return found


def test_points_at_one_step_and_points_without_end_are_told_apart(client: MlflowClient, run_id: str) -> None:
    points = [
        {"step": 3, "skipped": 1.0},
        {"step": 3, "skipped": 2.0},
        {"step": 3, "skipped": 3.0, "loss": float("nan"), "norm": float("inf")},
    ]
    assert fill_curves(client, run_id, points[:1]) == 1
    assert fill_curves(client, run_id, points) == 3
    assert fill_curves(client, run_id, points) == 0
    assert {point.value for point in client.get_metric_history(run_id, "skipped")} == {1.0, 2.0, 3.0}
    assert client.get_metric_history(run_id, "norm") == []


def test_the_stage_sends_what_was_lost_before_it_goes_on_and_when_it_is_done(
    client: MlflowClient, run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, model = History(tmp_path / "work" / "history.jsonl"), tmp_path / "model"
    run = TrackedRun(client, run_id, "0")
    for folder in (work.path.parent, model):
        folder.mkdir()
    for step in range(1, 6):  # of which a killed process has sent two
        work.append({"train/loss": 1 / step}, step)
    fill_curves(client, run_id, work.read()[:2])

    def train(config: Any, encoded: Any, folder: Path, out: Path, live: MlflowMetricLogger, shown: Any) -> None:
        assert len(client.get_metric_history(run_id, "train/loss")) == 5
        for step in range(6, 12):
            work.append({"train/loss": 1 / step}, step)
            if step % 2:  # MLflow is away, and away again
                live.log({"train/loss": 1 / step}, step)
        shutil.copy(work.path, out)
        (out / "training.json").write_text('{"weights_sha256": "0", "device": "cpu"}')

    monkeypatch.setattr("unroll.stages.train", train)
    monkeypatch.setattr(train_stage, "ProgressArtifact", MagicMock())
    encoded = StageResult("encode", Artifact("encode", "0", str(tmp_path), "0"), False, "", 0.0)
    train_stage._train(SentimentConfig(), encoded, work.path.parent, model, run)
    assert len(client.get_metric_history(run_id, "train/loss")) < 11
    made = StageResult("train", Artifact("train", "0", str(model), "0"), False, "", 0.0)
    train_stage._log_training(run, made)
    points = [(point.step, point.value) for point in client.get_metric_history(run_id, "train/loss")]
    assert sorted(points) == [(step, 1 / step) for step in range(1, 12)]
