"""A model folder holds all that reading text takes; a damaged one is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from unroll.config import AnyConfig
from unroll.data.encoded import EncodedCorpus
from unroll.errors import CheckpointError
from unroll.models.saved import load_model
from unroll.scoring import score_reviews, score_text
from unroll.training.fit import train
from unroll.training.metrics import SilentLogger

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folders(
    small_config: Callable[..., AnyConfig],
    encoded_reviews: EncodedCorpus,
    encoded_text: EncodedCorpus,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Path]:
    """A model folder of each project, as the train stage writes it."""
    made = {}
    for project, corpus in (("sentiment", encoded_reviews), ("language_model", encoded_text)):
        made[project] = tmp_path_factory.mktemp(project)
        config = small_config(project, training={"epochs": 1, "max_steps": 3})
        train(config, corpus.folder, tmp_path_factory.mktemp("work"), made[project], SilentLogger())
    return made


def copy_of(folder: Path, target: Path) -> Path:
    target.mkdir()
    for part in folder.iterdir():
        (target / part.name).write_bytes(part.read_bytes())
    return target


def test_a_saved_classifier_scores_as_training_said(folders: dict[str, Path], encoded_reviews: EncodedCorpus) -> None:
    saved = load_model(folders["sentiment"], CPU)
    assert saved.class_names == ("negative", "positive")
    assert not saved.model.training
    split = encoded_reviews.split("validation")
    probs = score_reviews(saved.model, split, CPU, "float32")  # type: ignore[arg-type]
    training = json.loads((folders["sentiment"] / "training.json").read_text())
    assert (probs.argmax(1) == split.labels).mean() == pytest.approx(training["best_validation"]["accuracy"])


def test_a_saved_language_model_scores_as_training_said(folders: dict[str, Path], encoded_text: EncodedCorpus) -> None:
    saved = load_model(folders["language_model"], CPU)
    nats = score_text(
        saved.model,  # type: ignore[arg-type]
        encoded_text.split("validation").tokens,
        encoded_text.split("train").tokens,
        CPU,
        "float32",
        encoded_text.vocab_size,
    )
    training = json.loads((folders["language_model"] / "training.json").read_text())
    bits = nats.mean() / torch.tensor(2.0).log().item()
    assert bits == pytest.approx(training["best_validation"]["bits_per_char"], rel=1e-5)


def test_the_record_of_training_says_what_it_took(folders: dict[str, Path]) -> None:
    training = json.loads((folders["sentiment"] / "training.json").read_text())
    assert training["steps"] == training["best_step"] == 3
    assert training["seconds"] > 0
    assert training["resumed_from_step"] is None
    assert len(training["weights_sha256"]) == 64


@pytest.mark.parametrize("project", ["sentiment", "language_model"])
@pytest.mark.parametrize("name", ["config.json", "weights.safetensors", "vocabulary.json", "encoder.json"])
@pytest.mark.parametrize("content", [None, b"", b"[]", b"\xff\xfe"])
def test_a_missing_or_damaged_part_is_a_checkpoint_error(
    project: str, name: str, content: bytes | None, folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = copy_of(folders[project], tmp_path / "model")
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(CheckpointError):
        load_model(folder, CPU)


@pytest.mark.parametrize("change", [{"project": "other"}, {"project": []}, {"class_names": None}, {"model": {"x": 1}}])
def test_settings_that_make_no_sense_are_a_checkpoint_error(
    change: dict[str, object], folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = copy_of(folders["sentiment"], tmp_path / "model")
    plain = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(plain | change))
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read"):
        load_model(folder, CPU)


def test_a_model_of_another_size_is_a_checkpoint_error(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = copy_of(folders["sentiment"], tmp_path / "model")
    plain = json.loads((folder / "config.json").read_text())
    plain["model"]["hidden_size"] += 1
    (folder / "config.json").write_text(json.dumps(plain))
    with pytest.raises(CheckpointError, match="do not fit"):
        load_model(folder, CPU)


def test_a_sigmoid_model_of_three_classes_is_a_checkpoint_error(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = copy_of(folders["sentiment"], tmp_path / "model")
    plain = json.loads((folder / "config.json").read_text())
    plain["model"]["output"] = "sigmoid"
    plain["class_names"] = ["bad", "fair", "good"]
    (folder / "config.json").write_text(json.dumps(plain))
    with pytest.raises(CheckpointError, match=r"config\.json does not fit: .*needs two classes"):
        load_model(folder, CPU)
