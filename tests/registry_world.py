"""A real MLflow server that can be stopped and broken, and small trained models to register there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from mlflow import MlflowClient

from tasks.promotion import Promotions
from tasks.register import Candidate, read_registration, register
from tasks.registry import CHAMPION, TEST_TAG, ModelRegistry
from tasks.stage import StageContext, StageResult
from tasks.tracking import open_run
from tests.ports import free_port
from unroll import stages
from unroll.config import AnyConfig
from unroll.evaluation import gate
from unroll.evaluation.comparison import Comparison, compare_classifiers
from unroll.presets import make_config
from unroll.store import StageKey, Store
from unroll.training.metrics import SilentLogger

SECONDS_TO_START = 120.0
SMALL: dict[str, dict[str, Any]] = {
    "sentiment": {
        "data": {"sample_size": 240},
        "model": {"embedding_dim": 6, "hidden_size": 6},
        "training": {"epochs": 1, "device": "cpu"},
        "evaluation": {"rival": False, "bootstrap_samples": 100},
    },
    "language_model": {
        "data": {"sample_size": 20_000},
        "model": {"embedding_dim": 6, "hidden_size": 6},
        "training": {"epochs": 1, "device": "cpu", "window": 50, "batch_size": 8},
        "evaluation": {"rival": False, "bootstrap_samples": 100, "sample_length": 10},
    },
}

BETTER = compare_classifiers([False] * 20, [True] * 20)
WORSE = compare_classifiers([True] * 20, [False] * 20)
REAL = gate.compare_with_champion
EQUAL = compare_classifiers([True, False] * 10, [True, False] * 10)


class MlflowServer:
    """``mlflow server`` on one loopback port, however often it is stopped and started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        if self._process is not None:
            return
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder}/server.db"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")} | quiet
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + SECONDS_TO_START
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < deadline, "the server does not start"
            time.sleep(0.1)

    def kill(self) -> None:
        """As a power cut would: nothing is finished, nobody is told."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=2):
                return True
        except (urllib.error.URLError, OSError):
            return False


@contextmanager
def serving(folder: Path) -> Iterator[MlflowServer]:
    """A server for the length of the block, and its address in this process's environment."""
    with pytest.MonkeyPatch.context() as patch:
        server = MlflowServer(folder)
        patch.setenv("MLFLOW_TRACKING_URI", server.url)
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
        patch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        patch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        import mlflow

        before = mlflow.get_tracking_uri()
        mlflow.set_tracking_uri(server.url)
        try:
            server.start()
            yield server
        finally:
            server.kill()
            mlflow.set_tracking_uri(before)


class Workshop:
    """Trains small models into a store, and takes them through the register stage, without Prefect."""

    def __init__(self, root: Path) -> None:
        self.store = Store(root / "store")

    def make(self, project: str = "sentiment", **sections: dict[str, Any]) -> tuple[AnyConfig, Candidate]:
        """A trained and evaluated candidate; sections change the small settings."""
        settings = {name: dict(section) for name, section in SMALL[project].items()}
        for name, section in sections.items():
            settings[name] = {**settings.get(name, {}), **section}
        config = make_config(project, settings)
        corpus = self._stage(stages.download_key(config), lambda folder: stages.download(config, folder))
        data_report = self._stage(
            stages.validate_key(config, corpus.artifact),
            lambda folder: stages.validate(config, corpus.artifact, folder),
        )
        encoded = self._stage(
            stages.encode_key(config, corpus.artifact), lambda folder: stages.encode(config, corpus.artifact, folder)
        )
        key = stages.train_key(config, encoded.artifact)
        model = self._stage(
            key,
            lambda folder: stages.train(config, encoded.artifact, self.store.work_folder(key), folder, SilentLogger()),
        )
        parts = (corpus.artifact, encoded.artifact, model.artifact)
        evaluation = self._stage(
            stages.evaluate_key(config, *parts), lambda folder: stages.evaluate(config, *parts, folder)
        )
        return config, Candidate(corpus, data_report, encoded, model, evaluation)

    def register(self, made: tuple[AnyConfig, Candidate], tracking_uri: str, *, forced: bool = False) -> dict[str, Any]:
        """What the register stage makes of a candidate; its errors come through."""
        config, candidate = made
        run_key = f"{candidate.model.artifact.digest}-{config.registry.name}"
        with open_run(config, run_key, {}) as run:
            context = StageContext(str(self.store.root), tracking_uri, run.run_id, "register" if forced else None)
            function: Any = register.__wrapped__  # type: ignore[attr-defined]
            return read_registration(function(config, context, candidate))

    def _stage(self, key: StageKey, write: Any) -> StageResult:
        artifact = self.store.find(key) or self.store.publish(key, write)
        return StageResult(key.stage, artifact, False, "", 0.0)


class Place:
    """One registered model on the server."""

    def __init__(self, server: MlflowServer, workshop: Workshop, patch: pytest.MonkeyPatch) -> None:
        self.name = f"model-{uuid4().hex[:8]}"
        self.server, self.workshop, self._patch = server, workshop, patch
        self.client = MlflowClient(server.url)
        self.registry = ModelRegistry(server.url)
        self.promotions = Promotions(self.registry, self.name, workshop.store.root)

    def make(self, seed: int, **sections: Any) -> Any:
        """A candidate of this model; seeds differ in their weights only where the data's seed is not theirs."""
        registry = {"name": self.name, **sections.pop("registry", {})}
        training = {"learning_rate": 0.001 * seed, **sections.pop("training", {})}
        return self.workshop.make(registry=registry, training={**training, "epochs": 1, "device": "cpu"}, **sections)

    def judge(self, made: Any, comparison: Comparison | Callable[..., Comparison] = EQUAL, **options: Any) -> Any:
        """Register a candidate; the comparison with the champion comes out as given, or is the real one."""
        answer = comparison if callable(comparison) else lambda *_: comparison
        self._patch.setattr(gate, "compare_with_champion", answer)
        return self.workshop.register(made, self.server.url, **options)

    def aliases(self) -> dict[str, str]:
        return {alias: str(number) for alias, number in self.client.get_registered_model(self.name).aliases.items()}

    @property
    def champion(self) -> str | None:
        return self.aliases().get(CHAMPION)

    def verdicts(self) -> list[tuple[str, str]]:
        return [(entry.verdict, entry.version) for entry in self.promotions.entries()]

    def three_champions(self) -> None:
        self.judge(self.make(1))
        self.judge(self.make(2), BETTER)
        self.judge(self.make(3), BETTER)
        assert self.champion == "3"

    def add_versions(self, count: int) -> list[str]:
        """More versions of the model that version 1 is."""
        source = f"models:/{self.name}/1"
        tags = {TEST_TAG: self.registry.version(self.name, "1").tags[TEST_TAG]}
        made = [
            self.client.create_model_version(self.name, source, tags=tags, await_creation_for=0) for _ in range(count)
        ]
        return [str(version.version) for version in made]
