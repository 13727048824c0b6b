"""A stage's key has all that decides what the stage makes, and nothing else."""

from __future__ import annotations

import pytest

from unroll import stages
from unroll.config import AnyConfig
from unroll.presets import load_config
from unroll.store import Artifact, StageKey

ARTIFACT = Artifact("stage", "key", "/nowhere", "digest")
OTHER = Artifact("stage", "key", "/nowhere", "another digest")


def keys(config: AnyConfig) -> dict[str, StageKey]:
    return {
        "download": stages.download_key(config),
        "validate": stages.validate_key(config, ARTIFACT),
        "encode": stages.encode_key(config, ARTIFACT),
        "train": stages.train_key(config, ARTIFACT),
        "evaluate": stages.evaluate_key(config, ARTIFACT, ARTIFACT, ARTIFACT),
    }


def changed_by(override: str, project: str = "sentiment") -> list[str]:
    """Stages whose own key a setting changes; what follows them changes through their artifacts' digests."""
    before, after = keys(load_config(project)), keys(load_config(project, "sample", [override]))
    return [name for name in before if before[name].digest != after[name].digest]


@pytest.mark.parametrize(
    ("override", "stages_changed"),
    [
        ("data.sample_size=300", ["download"]),
        ("data.validation_fraction=0.2", ["validate", "encode", "evaluate"]),
        ("encoding.vocab_size=77", ["encode"]),
        ("model.hidden_size=9", ["train"]),
        ("training.learning_rate=0.1", ["train"]),
        ("training.checkpoint_seconds=3", []),
        ("training.log_every=3", []),
        ("evaluation.bootstrap_samples=200", ["evaluate"]),
        ("registry.name=other", []),
        ("registry.gate.alpha=0.1", []),
        ("seed=7", ["download", "validate", "encode", "train", "evaluate"]),
    ],
)
def test_a_setting_changes_the_stages_that_read_it(override: str, stages_changed: list[str]) -> None:
    assert changed_by(override) == stages_changed


def test_the_passages_of_a_language_model_are_made_while_training() -> None:
    assert changed_by("evaluation.sample_length=9", "language_model") == ["train", "evaluate"]
    assert changed_by("training.window=9", "language_model") == ["train"]


@pytest.mark.parametrize("project", ["sentiment", "language_model"])
def test_a_stage_follows_the_artifacts_it_reads(project: str) -> None:
    config = load_config(project)
    assert stages.encode_key(config, ARTIFACT).digest != stages.encode_key(config, OTHER).digest
    assert stages.train_key(config, ARTIFACT).digest != stages.train_key(config, OTHER).digest
    ours = stages.evaluate_key(config, ARTIFACT, ARTIFACT, ARTIFACT).digest
    for inputs in ((OTHER, ARTIFACT, ARTIFACT), (ARTIFACT, OTHER, ARTIFACT), (ARTIFACT, ARTIFACT, OTHER)):
        assert stages.evaluate_key(config, *inputs).digest != ours


@pytest.mark.parametrize("project", ["sentiment", "language_model"])
def test_keys_are_the_same_in_every_run(project: str) -> None:
    assert {name: key.digest for name, key in keys(load_config(project)).items()} == {
        name: key.digest for name, key in keys(load_config(project)).items()
    }


def test_the_code_of_later_stages_is_not_part_of_an_earlier_key() -> None:
    every = keys(load_config("sentiment"))
    for name in ("download", "validate", "encode"):
        assert not [module for module in every[name].code if ".training" in module or ".models" in module]
    assert not [module for module in every["train"].code if ".evaluation" in module]
    assert "unroll.data.splits" in every["encode"].code
    assert "unroll.training.trainer" in every["train"].code
    assert "unroll.data.word_tokenizer" in every["encode"].code
