"""``make gpu`` goes a user's whole way on a device, and fails where it ends; here, on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_model as load_by_library

from benchmarks import gpu
from benchmarks.gpu_journey import Journey, JourneyError
from tests.one_buffer import share_one_buffer_everywhere
from unroll.config import AnyConfig
from unroll.errors import RegistryError
from unroll.evaluation import reloading
from unroll.generation import TextGenerator
from unroll.presets import make_config
from unroll.training import checkpoint, fit
from unroll.training.trainer import Trainer

ROOT = Path(__file__).parents[3]
SMALL: dict[str, dict[str, Any]] = {
    "sentiment": {"data": {"sample_size": 200}, "model": {"embedding_dim": 4, "hidden_size": 4}},
    "language_model": {"data": {"sample_size": 20_000}, "model": {"embedding_dim": 4, "hidden_size": 4}},
}


def small(project: str) -> AnyConfig:
    training = {"epochs": 1, "batch_size": 16, "log_every": 1, "device": "cpu", "precision": "float32"}
    training |= {"window": 60} if project == "language_model" else {}
    evaluation = {"rival": False, "bootstrap_samples": 100}
    return make_config(project, {**SMALL[project], "training": training, "evaluation": evaluation})


@pytest.mark.slow
def test_a_quick_run_goes_the_whole_way_in_every_precision(tmp_path: Path) -> None:
    out = tmp_path / "rows.jsonl"
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--quick", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    expected = [(project, precision) for project in gpu.SETTINGS for precision in ("float32", "bfloat16")]
    assert [(row["project"], row["precision"]) for row in rows] == expected
    assert all(row["resumed_from_step"] > 0 and row["resumed_off_by"] == 0 for row in rows)
    assert all(row["answer"] for row in rows)


@pytest.mark.parametrize("project", SMALL)
def test_a_model_is_trained_killed_resumed_loaded_evaluated_and_asked(
    project: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share_one_buffer_everywhere(monkeypatch)
    seen = Journey(small(project), tmp_path).run()
    assert 0 < seen["resumed_from_step"] <= seen["killed_after_step"] + 2 < seen["steps"]
    assert seen["resumed_off_by"] == 0
    assert {"test/accuracy", "test/bits_per_char"} & seen.keys()


def test_reading_weights_as_the_library_does_is_a_failure_where_a_gpu_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share_one_buffer_everywhere(monkeypatch)
    for module in (checkpoint, fit):
        monkeypatch.setattr(module, "load_weights", load_by_library)
    row = gpu._row(small("language_model"), tmp_path)
    assert "None is covering the entire storage" in row["failed"]


BREAKAGES: dict[str, tuple[Any, str, Any, str]] = {
    "begun anew": (Trainer, "_load", lambda trainer, folder: None, "training went on from step 0"),
    "resumed with other weights": (checkpoint, "load_weights", lambda model, path: None, "Resumed, .* in other bits"),
    "other answers from the folder": (
        reloading,
        "score_test_text",
        lambda saved, start: [9.0] * reloading.SAMPLE_CHARACTERS,
        "does not answer as the evaluated one",
    ),
    "texts too short": (TextGenerator, "generate", lambda generator, prompts, settings: prompts, "60 characters"),
}


@pytest.mark.parametrize("kind", BREAKAGES)
def test_whatever_goes_wrong_on_the_way_is_a_failure(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name, broken, words = BREAKAGES[kind]
    monkeypatch.setattr(owner, name, broken)
    with pytest.raises((JourneyError, RegistryError), match=words):
        Journey(small("language_model"), tmp_path).run()


def test_one_failure_is_told_and_the_rest_still_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    ran = []

    class Failing:
        def __init__(self, config: AnyConfig, scratch: Path) -> None:
            self.config = config

        def run(self) -> dict[str, Any]:
            ran.append((self.config.project, self.config.training.precision))
            raise JourneyError("the losses are off")

    monkeypatch.setattr(gpu, "Journey", Failing)
    monkeypatch.setattr(sys, "argv", ["gpu", "--device", "cpu", "--out", str(tmp_path / "rows")])
    assert gpu.main() == 1
    assert len(ran) == 4
    assert capsys.readouterr().out.count("FAILED: JourneyError: the losses are off") == 4
    assert len((tmp_path / "rows").read_text(encoding="utf-8").splitlines()) == 4
