"""Killed at any instant and started again, a run ends in the bits of one that was never stopped."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from unroll.config import CharEncodingConfig, WordEncodingConfig
from unroll.data.encoded import encode_reviews, encode_text
from unroll.data.sample import iter_reviews, make_prose
from unroll.presets import make_config

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(600)]

PROJECTS = ["sentiment", "language_model"]
KILLS = 3
SECONDS_FOR_CHILDREN = 60

# the train stage alone

TRAIN = """
import json, logging, shutil, sys
from pathlib import Path
from unroll.presets import make_config
from unroll.errors import UnrollError
from unroll.training.fit import train
from unroll.training.metrics import SilentLogger
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
place = Path(sys.argv[1])
settings = json.loads((place / "config.json").read_text())
shutil.rmtree(place / "model", ignore_errors=True)
(place / "model").mkdir()
try:
    config = make_config(settings["project"], settings)
    train(config, Path(sys.argv[2]), place / "work", place / "model", SilentLogger())
except UnrollError as error:
    print(type(error).__name__, error)
    sys.exit(error.exit_code)
"""

STAGE: dict[str, dict[str, Any]] = {
    "sentiment": {
        "model": {"embedding_dim": 8, "hidden_size": 8, "num_layers": 2, "dropout": 0.2, "word_dropout": 0.1},
        "training": {"batch_size": 8, "epochs": 60, "patience": 60, "evaluations_per_epoch": 2},
    },
    "language_model": {
        "model": {"embedding_dim": 8, "hidden_size": 16, "num_layers": 2, "dropout": 0.2},
        "training": {"batch_size": 4, "epochs": 80, "window": 10, "evaluations_per_epoch": 2},
        "evaluation": {"sample_length": 20},
    },
}


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small encoded corpus of each project."""
    folders = {project: tmp_path_factory.mktemp(project) for project in PROJECTS}
    reviews = [review for chunk in iter_reviews(120, seed=3) for review in chunk]
    parts = {"train": reviews[:90], "validation": reviews[90:]}
    encode_reviews(
        lambda split: iter([[review.text for review in parts[split]]]),
        {split: np.array([review.label for review in part], np.int64) for split, part in parts.items()},
        {split: np.arange(len(part)) for split, part in parts.items()},
        ("negative", "positive"),
        WordEncodingConfig(vocab_size=300),
        folders["sentiment"],
    )
    text = make_prose(1_000, seed=3).text
    encode_text({"train": text[:800], "validation": text[800:]}, CharEncodingConfig(), folders["language_model"])
    return folders


def curve(place: Path) -> list[dict[str, float]]:
    """Every point, but for what clocks measure."""
    points = map(json.loads, (place / "model" / "history.jsonl").read_text().splitlines())
    return [{name: value for name, value in point.items() if "per_second" not in name} for point in points]


@dataclass(frozen=True)
class Stage:
    """The train stage in a child process; its state lies in ``place``."""

    project: str
    place: Path
    encoded: Path

    def prepare(self) -> Stage:
        self.place.mkdir()
        settings = {name: dict(section) for name, section in STAGE[self.project].items()}
        settings["training"] |= {"checkpoint_seconds": 0.05, "device": "cpu"}
        config = make_config(self.project, settings)
        (self.place / "config.json").write_text(config.model_dump_json())
        return self

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", TRAIN, str(self.place), str(self.encoded)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
        )

    def stop_while_training(self, number: signal.Signals, chance: random.Random) -> subprocess.Popen[str]:
        """Start it, and send a signal at a random moment after it has gone on by some steps."""
        process = self.start()
        assert process.stdout is not None
        for line in process.stdout:
            if ", batch " in line:
                break
        time.sleep(chance.uniform(0.0, 0.8))
        assert process.poll() is None, "the training is too short to be killed"
        process.send_signal(number)
        return process

    def finish(self) -> dict[str, Any]:
        """Run it to its end; returns what it took."""
        process = self.start()
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        training: dict[str, Any] = json.loads((self.place / "model" / "training.json").read_text())
        return training | {"curve": curve(self.place)}


@pytest.fixture(scope="module")
def unstopped(encoded: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What training took, by project, without a kill."""
    root = tmp_path_factory.mktemp("unstopped")
    return {project: Stage(project, root / project, encoded[project]).prepare().finish() for project in PROJECTS}


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("project", PROJECTS)
def test_training_killed_three_times_ends_in_the_same_weights(
    project: str, seed: int, encoded: dict[str, Path], unstopped: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    stage = Stage(project, tmp_path / "place", encoded[project]).prepare()
    chance = random.Random(seed)
    for _ in range(KILLS):
        process = stage.stop_while_training(signal.SIGKILL, chance)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    training = stage.finish()
    assert training["resumed_from_step"] > 0
    for name in ("weights_sha256", "steps", "best_step", "best_validation", "gradient_norm_p50", "clipped_fraction"):
        assert training[name] == unstopped[project][name]
    assert curve(stage.place) == unstopped[project]["curve"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("project", PROJECTS)
def test_training_asked_to_stop_saves_its_state_and_ends_in_the_same_weights(
    project: str,
    number: signal.Signals,
    encoded: dict[str, Path],
    unstopped: dict[str, dict[str, Any]],
    tmp_path: Path,
) -> None:
    stage = Stage(project, tmp_path / "place", encoded[project]).prepare()
    process = stage.stop_while_training(number, random.Random(3))
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"InterruptedTraining Stopped by {number.name}" in output
    assert "Traceback" not in output
    training = stage.finish()
    assert training["resumed_from_step"] > 0
    assert training["weights_sha256"] == unstopped[project]["weights_sha256"]


# the whole command

SMALL = {
    "sentiment": ("data.sample_size=1500", "model.hidden_size=24", "training.epochs=12", "training.batch_size=16"),
    "language_model": (
        "data.sample_size=60000",
        "model.hidden_size=64",
        "training.epochs=20",
        "training.precision=float32",
    ),
}


def whole_run(command: Any, project: str, summary: Path) -> subprocess.Popen[str]:
    """Start ``unroll run`` with small settings."""
    arguments = ["run", project.replace("_", "-"), "--config", "sample", "--summary", str(summary)]
    settings = (*SMALL[project], "training.checkpoint_seconds=0.3", "evaluation.bootstrap_samples=100")
    for setting in (*settings, "model.dropout=0.2", "evaluation.rival=false", "evaluation.sample_length=20"):
        arguments += ["--set", setting]
    return subprocess.Popen(
        [sys.executable, "-c", "from flows.cli import main; main()", *arguments],
        cwd=command.folder,
        env=command.environment() | {"UNROLL_HOME": str(summary.parent)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill_while_training(process: subprocess.Popen[str], chance: random.Random) -> None:
    """SIGKILL the command at a random moment of its training; what it started must end by itself."""
    assert process.stderr is not None
    log = []
    for line in process.stderr:
        log.append(line)
        if "epoch " in line and ", batch " in line:
            break
    else:
        pytest.fail("never trained:\n" + "".join(log))
    time.sleep(chance.uniform(0.0, 1.5))
    children = psutil.Process(process.pid).children(recursive=True)
    assert process.poll() is None, "the training is too short to be killed"
    process.kill()
    process.wait()
    process.stderr.close()
    deadline = time.monotonic() + SECONDS_FOR_CHILDREN
    while (alive := [child for child in children if is_alive(child)]) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not alive, f"{SECONDS_FOR_CHILDREN} s after the kill these run still: {alive}"


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def finish(process: subprocess.Popen[str], summary: Path) -> dict[str, Any]:
    _, log = process.communicate(timeout=300)
    assert process.returncode == 0, log
    read: dict[str, Any] = json.loads(summary.read_text())
    return read


@pytest.mark.parametrize("project", PROJECTS)
def test_the_command_killed_three_times_goes_on_in_one_run_to_the_same_weights(
    project: str, command: Any, tmp_path: Path
) -> None:
    homes = {name: tmp_path / name for name in ("killed", "unstopped")}
    for home in homes.values():
        home.mkdir()
    chance = random.Random(4)
    for _ in range(KILLS):
        kill_while_training(whole_run(command, project, homes["killed"] / "summary.json"), chance)
    killed, unstopped = (
        finish(whole_run(command, project, home / "summary.json"), home / "summary.json") for home in homes.values()
    )
    assert killed["training"]["resumed_from_step"] > 0
    assert unstopped["training"]["resumed_from_step"] is None
    assert killed["model"]["weights_sha256"] == unstopped["model"]["weights_sha256"]
    assert killed["metrics"] == unstopped["metrics"]
    with sqlite3.connect(homes["killed"] / "mlflow.db") as database:
        runs = database.execute("SELECT run_uuid, status FROM runs WHERE lifecycle_stage = 'active'").fetchall()
        sent = database.execute("SELECT key, step FROM metrics WHERE key LIKE 'train/%' OR key LIKE 'validation/%'")
        points = sorted(sent.fetchall())
    assert runs == [(killed["mlflow_run_id"], "FINISHED")]
    (history,) = homes["killed"].glob("store/*/train/*/history.jsonl")
    lines = [json.loads(line) for line in history.read_text().splitlines()]
    assert points == sorted((name, line["step"]) for line in lines for name in line if name != "step")
    assert not [path for path in homes["killed"].glob("work/*/*") if path.is_dir()]
