"""The model folder holds the weights that `training.keep` asks for, and says which they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from unroll.config import AnyConfig
from unroll.data.encoded import EncodedCorpus
from unroll.errors import DivergedError
from unroll.models.saved import load_model
from unroll.training import fit
from unroll.training.checkpoint import weights_sha256
from unroll.training.language_model import LanguageModelProblem
from unroll.training.metrics import SilentLogger
from unroll.training.sentiment import SentimentProblem

CPU = torch.device("cpu")
PROBLEMS = {"sentiment": (SentimentProblem, "accuracy"), "language_model": (LanguageModelProblem, "bits_per_char")}
Train = Callable[..., Path]


@pytest.fixture
def train(
    small_config: Callable[..., AnyConfig],
    encoded_reviews: EncodedCorpus,
    encoded_text: EncodedCorpus,
    tmp_path_factory: pytest.TempPathFactory,
) -> Train:
    """train(project, scores, training={…}, model={…}): the model folder of a run with these validation scores."""

    def run(project: str, scores: list[float], **sections: dict[str, Any]) -> Path:
        problem, name = PROBLEMS[project]
        remaining = iter(scores)
        training = {"schedule": "constant", "epochs": len(scores), **sections.pop("training", {})}
        config = small_config(project, training=training, **sections)
        corpus = encoded_reviews if project == "sentiment" else encoded_text
        folder = tmp_path_factory.mktemp("model")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(problem, "validate", lambda self, device, precision: {name: next(remaining)})
            fit.train(config, corpus.folder, tmp_path_factory.mktemp("work"), folder, SilentLogger())
        return folder

    return run


def training_of(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "training.json").read_text())
    return record


def weights_of(folder: Path) -> str:
    """Digest of the weights as whoever loads the folder finds them."""
    return weights_sha256(dict(load_model(folder, CPU).model.state_dict()))


@pytest.mark.parametrize("project", PROBLEMS)
def test_the_folder_holds_the_best_or_the_last_weights_and_says_which(project: str, train: Train) -> None:
    name, good, bad = PROBLEMS[project][1], 0.75, 0.5 if project == "sentiment" else 3.0
    # at a constant rate, one epoch alone ends where the first of two does
    after_one, after_two = (weights_of(train(project, scores)) for scores in ([good], [bad, good]))
    assert after_one != after_two
    for keep, expected in (("best", after_one), ("last", after_two)):
        folder = train(project, [good, bad], training={"keep": keep})
        record = training_of(folder)
        assert weights_of(folder) == record["weights_sha256"] == expected
        assert record["kept"] == keep
        assert record["best_validation"] == {name: good}
        assert record["last_validation"] == {name: bad}
        assert record["steps"] == 2 * record["best_step"]


def test_the_best_weights_are_kept_unless_the_last_are_asked_for(train: Train) -> None:
    assert training_of(train("sentiment", [0.5]))["kept"] == "best"


def test_broken_last_weights_end_the_run_only_where_they_are_kept(train: Train) -> None:
    with pytest.raises(DivergedError, match=r"The last evaluation, after .* steps, gave no finite bits_per_char"):
        train("language_model", [2.0, float("nan")], training={"keep": "last"})
    record = training_of(train("language_model", [2.0, float("nan")], training={"keep": "best"}))
    assert record["best_validation"] == {"bits_per_char": 2.0}


@pytest.mark.parametrize(
    ("project", "training", "model"),
    [
        ("sentiment", {"keep": "last"}, {"output": "sigmoid", "pooling": ["last"], "head_size": 4}),
        ("sentiment", {}, {"cell": "rnn_tanh", "recurrence": "output_to_hidden", "bidirectional": True}),
        ("language_model", {}, {"cell": "rnn_relu", "recurrence": "output_to_output"}),
        ("language_model", {"windows": "random", "loss_reduction": "sum", "keep": "last"}, {}),
    ],
)
def test_a_model_made_with_the_chapters_settings_is_loaded_as_it_was_trained(
    project: str, training: dict[str, Any], model: dict[str, Any], train: Train
) -> None:
    folder = train(project, [1.0], training={**training, "max_steps": 2}, model=model)
    saved = load_model(folder, CPU)
    assert weights_of(folder) == training_of(folder)["weights_sha256"]
    plain = saved.config.model_dump(mode="json")
    assert {name: plain["model"][name] for name in model} == model
    assert {name: plain["training"][name] for name in training} == training
