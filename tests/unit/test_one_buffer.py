"""A model whose weights are parts of one buffer, as on a GPU, goes every way that a model goes."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import mlflow
import pytest
import torch
from safetensors.torch import load_file, save_file
from safetensors.torch import load_model as load_by_library
from safetensors.torch import save_model as save_by_library
from torch import nn

from tests.one_buffer import in_one_buffer, share_one_buffer_everywhere
from tests.registry_world import Workshop
from unroll import files
from unroll.config import AnyConfig
from unroll.data.encoded import EncodedCorpus
from unroll.errors import CheckpointError
from unroll.generation import SamplingSettings, TextGenerator
from unroll.models.language_model import CharLanguageModel
from unroll.models.saved import check_contents
from unroll.prediction import SentimentPredictor
from unroll.presets import make_config
from unroll.training.checkpoint import WEIGHTS_FILE, load_weights, save_weights, weights_sha256
from unroll.training.fit import train
from unroll.training.metrics import SilentLogger

CPU = torch.device("cpu")
CELLS = ("lstm", "gru", "rnn_tanh", "rnn_relu")
RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"sentiment, {cell}": ("sentiment", {"cell": cell, "bidirectional": True}) for cell in CELLS},
    **{f"language model, {cell}": ("language_model", {"cell": cell}) for cell in CELLS},
    "language model, tied": ("language_model", {"hidden_size": 6, "tie_weights": True}),
}
"""Each of two layers, by the small settings."""
TEXTS = ["a dull film", "the acting is fine, the story is not"]


@pytest.fixture(autouse=True, scope="module")
def no_waiting_for_the_disk() -> Iterator[None]:
    """A kill is only played here, and what fsync guards against is a power cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files.os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    share_one_buffer_everywhere(monkeypatch)


def apart(make: Callable[[], nn.Module]) -> nn.Module:
    """A model whose weights have a memory each, as on a CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.RNNBase, "flatten_parameters", lambda layer: None)
        return make()


def tied(tie_weights: bool = True) -> CharLanguageModel:
    settings = {"embedding_dim": 6, "hidden_size": 6, "num_layers": 2, "tie_weights": tie_weights}
    return CharLanguageModel(make_config("language_model", {"model": settings}).model, 9)


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    return weights_sha256(dict(one.state_dict())) == weights_sha256(dict(other.state_dict()))


MAKERS: dict[str, Callable[[], nn.Module]] = {
    **{
        f"{layer.__name__}, {num_layers} layers, {'both' if bidirectional else 'one'}": (
            lambda layer=layer, n=num_layers, both=bidirectional: layer(3, 4, num_layers=n, bidirectional=both)
        )
        for layer in (nn.LSTM, nn.GRU, nn.RNN)
        for num_layers in (1, 3)
        for bidirectional in (False, True)
    },
    "tied": tied,
    "free": lambda: tied(tie_weights=False),
}


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("name", MAKERS)
def test_weights_are_written_and_read_between_both_kinds_of_memory(name: str, tmp_path: Path) -> None:
    make, path = MAKERS[name], tmp_path / "w.safetensors"
    model = make()
    assert in_one_buffer(model)
    assert not in_one_buffer(apart(make))
    save_weights(model, path)
    for other in (make(), apart(make)):
        assert not same_weights(model, other)
        shared = in_one_buffer(other)
        load_weights(other, path)
        assert same_weights(model, other)
        assert in_one_buffer(other) == shared
        save_weights(other, tmp_path / "again")
        assert (tmp_path / "again").read_bytes() == path.read_bytes()


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("name", MAKERS)
def test_files_go_to_and_from_a_process_that_reads_and_writes_with_the_library(name: str, tmp_path: Path) -> None:
    make, path = MAKERS[name], tmp_path / "w.safetensors"
    model, theirs = make(), apart(make)
    save_weights(model, path)
    load_by_library(theirs, path)
    assert same_weights(model, theirs)
    theirs = apart(make)
    save_by_library(theirs, str(path))
    load_weights(model, path)
    assert same_weights(model, theirs)


Change = Callable[[dict[str, torch.Tensor]], Mapping[str, torch.Tensor]]
MISFITS: dict[str, tuple[Change, str]] = {
    "missing": (lambda own: {name: own[name] for name in own if name != "output.bias"}, r"output\.bias is missing"),
    "surplus": (lambda own: {**own, "head.bias": torch.ones(2)}, r"head\.bias is not expected"),
    "ill-shaped": (
        lambda own: {**own, "output.bias": torch.ones(8)},
        r"output\.bias has the shape \(8,\), expected \(9,\)",
    ),
    "stored twice": (
        lambda own: {**own, "output.weight": own["embedding.weight"].clone()},
        r"output\.weight is not expected",
    ),
    "neither name of a tied one": (
        lambda own: {name: own[name] for name in own if name != "embedding.weight"},
        r"embedding\.weight is missing",
    ),
}


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("kind", MISFITS)
@pytest.mark.parametrize("make", [tied, lambda: apart(tied)], ids=["one buffer", "apart"])
def test_what_does_not_fit_is_refused_by_name_and_changes_nothing(
    make: Callable[[], nn.Module], kind: str, tmp_path: Path
) -> None:
    change, words = MISFITS[kind]
    path = tmp_path / "w.safetensors"
    save_weights(make(), path)
    save_file(dict(change(load_file(path))), path)
    model = make()
    before = weights_sha256(dict(model.state_dict()))
    with pytest.raises(CheckpointError, match=f"do not fit.*{words}.*use the config and vocabulary saved beside them"):
        load_weights(model, path)
    assert weights_sha256(dict(model.state_dict())) == before


def test_a_tied_tensor_may_be_stored_under_either_name(tmp_path: Path) -> None:
    model, other, path = tied(), tied(), tmp_path / "w.safetensors"
    save_weights(model, path)
    stored = load_file(path)
    stored["output.weight"] = stored.pop("embedding.weight")
    save_file(stored, path)
    load_weights(other, path)
    assert same_weights(model, other)
    assert other.output.weight is other.embedding.weight


# training


class Killed(BaseException):
    """A kill, as far as one process can play it on itself: nothing is finished or saved on the way out."""


class KillingLogger:
    """Ends the run at the first point of the curve from some step on."""

    def __init__(self, step: int) -> None:
        self.step = step

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        if step >= self.step:
            raise Killed


class Runs:
    """Trains in folders of its own."""

    def __init__(self, small_config: Callable[..., AnyConfig], corpora: dict[str, EncodedCorpus], root: Path) -> None:
        self._small_config, self._corpora, self._root = small_config, corpora, root
        self._number = 0

    def train(self, recipe: str, *kills: int) -> Path:
        """The model folder of a run that is killed at these steps, and saves its state at each step."""
        project, model = RECIPES[recipe]
        config = self._small_config(
            project, model=model, training={"checkpoint_seconds": 1e-9, "log_every": 1, "epochs": 1}
        )
        self._number += 1
        work, folder = self._root / f"work-{self._number}", self._root / f"model-{self._number}"
        folder.mkdir()
        corpus = self._corpora[project].folder
        for step in kills:
            with pytest.raises(Killed):
                train(config, corpus, work, folder, KillingLogger(step))
        train(config, corpus, work, folder, SilentLogger())
        return folder


@pytest.fixture
def runs(
    small_config: Callable[..., AnyConfig], encoded_reviews: EncodedCorpus, encoded_text: EncodedCorpus, tmp_path: Path
) -> Runs:
    return Runs(small_config, {"sentiment": encoded_reviews, "language_model": encoded_text}, tmp_path)


def record_of(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    return record


def answers_of(folder: Path) -> Any:
    if record_of(folder)["best_validation"].keys() == {"accuracy"}:
        return SentimentPredictor.load(folder, CPU).predict(TEXTS).tolist()
    return TextGenerator.load(folder, CPU).generate(["th", "an"], SamplingSettings(length=20))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_killed_at_random_steps_ends_in_the_bits_and_answers_of_one_with_weights_apart(
    recipe: str, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = runs.train(recipe)
    answers, digest = answers_of(expected), record_of(expected)["weights_sha256"]
    kills = sorted(random.sample(range(2, record_of(expected)["steps"]), 3))
    share_one_buffer_everywhere(monkeypatch)
    folder = runs.train(recipe, *kills)
    assert record_of(folder)["resumed_from_step"] is not None, kills
    assert record_of(folder)["weights_sha256"] == digest, kills
    assert (folder / WEIGHTS_FILE).read_bytes() == (expected / WEIGHTS_FILE).read_bytes(), kills
    check_contents(folder, digest, None)
    assert answers_of(folder) == answers, kills


# the registry


@pytest.mark.usefixtures("as_on_a_gpu")
def test_it_is_registered_promoted_and_answers_from_the_registry(tmp_path: Path) -> None:
    tracking_uri = f"sqlite:///{tmp_path}/mlflow.db"
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tracking_uri)
    try:
        workshop = Workshop(tmp_path)
        made = workshop.make()
        registration = workshop.register(made, tracking_uri)
        assert registration["outcome"] == "promoted"
        loaded = mlflow.pyfunc.load_model(f"models:/{registration['name']}@champion")
        found = loaded.predict(TEXTS)
    finally:
        mlflow.set_tracking_uri(before)
    expected = SentimentPredictor.load(made[1].model.artifact.folder, CPU).predict_table(TEXTS)
    assert found.equals(expected)
