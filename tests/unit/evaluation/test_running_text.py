"""Evaluating a language model: the passages that it writes are in the report, one for each temperature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from unroll import stages
from unroll.config import AnyConfig
from unroll.evaluation import running_text
from unroll.evaluation.report import EvaluationReport
from unroll.generation import SamplingSettings, TextGenerator
from unroll.presets import load_config
from unroll.store import Artifact
from unroll.training.metrics import SilentLogger

TEMPERATURES = [1.0, 0.5, 2.0, 0.0]
Evaluate = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def made(small_config: Callable[..., AnyConfig], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """The stages up to training, of a model that has hardly learned."""
    config = settings_of(small_config)
    folders = {name: tmp_path_factory.mktemp(name) for name in ("download", "encode", "train")}
    artifacts = {name: Artifact(name, "key", str(folder), "digest") for name, folder in folders.items()}
    stages.download(config, folders["download"])
    stages.encode(config, artifacts["download"], folders["encode"])
    stages.train(config, artifacts["encode"], tmp_path_factory.mktemp("work"), folders["train"], SilentLogger())
    return artifacts


@pytest.fixture
def evaluate(
    small_config: Callable[..., AnyConfig], made: dict[str, Artifact], tmp_path_factory: pytest.TempPathFactory
) -> Evaluate:
    """evaluate(sample_length=…): the report's details, read back from its file."""

    def run(**evaluation: Any) -> dict[str, Any]:
        folder = tmp_path_factory.mktemp("evaluate")
        config = settings_of(small_config, **evaluation)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(running_text, "_draw", lambda *_: None)  # plots take most of the time
            stages.evaluate(config, made["download"], made["encode"], made["train"], folder)
        return dict(EvaluationReport.load(folder).details)

    return run


def settings_of(small_config: Callable[..., AnyConfig], **evaluation: Any) -> AnyConfig:
    quick = {"rival": False, "bootstrap_samples": 100, "sample_prompt": "The ", "sample_length": 60}
    return small_config(
        "language_model",
        data={"sample_size": 20_000, "test_fraction": 0.02, "validation_fraction": 0.02},
        training={"max_steps": 20, "learning_rate": 0.03},
        evaluation={**quick, **evaluation},
    )


def test_there_is_a_passage_for_each_temperature_in_the_order_asked_for(
    evaluate: Evaluate, made: dict[str, Artifact]
) -> None:
    passages = evaluate(sample_temperatures=TEMPERATURES)["passages"]
    assert [set(passage) for passage in passages] == [{"temperature", "text"}] * 4
    assert [passage["temperature"] for passage in passages] == TEMPERATURES
    assert all(passage["text"].startswith("The ") for passage in passages)
    assert all(len(passage["text"]) == len("The ") + 60 for passage in passages)
    assert len({passage["text"] for passage in passages}) == 4
    generator = TextGenerator.load(made["train"].folder, torch.device("cpu"))
    for passage in passages:
        settings = SamplingSettings(length=60, temperature=passage["temperature"], seed=1)
        assert passage["text"] == generator.generate(["The "], settings)[0]


def test_one_temperature_gives_one_passage_the_same_whatever_stands_beside_it(evaluate: Evaluate) -> None:
    (alone,) = evaluate(sample_temperatures=[0.5])["passages"]
    assert alone in evaluate(sample_temperatures=[2.0, 0.5])["passages"]
    (by_default,) = evaluate()["passages"]
    assert by_default["temperature"] == 0.8


def test_other_temperatures_are_evaluated_again_and_not_trained_again() -> None:
    override = "evaluation.sample_temperatures=[1.0, 0.5]"
    before, after = load_config("language_model"), load_config("language_model", "sample", [override])
    artifact = Artifact("stage", "key", "/nowhere", "digest")
    assert stages.train_key(before, artifact).digest == stages.train_key(after, artifact).digest
    inputs = (artifact, artifact, artifact)
    assert stages.evaluate_key(before, *inputs).digest != stages.evaluate_key(after, *inputs).digest
