"""A text scored in passages: every character once, the same bytes however often it was stopped."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unroll import bulk_output, bulk_text
from unroll.bulk import DriftCheck
from unroll.bulk_output import ScoringFolder, ScoringJob
from unroll.bulk_text import RunningText, score_passages
from unroll.config import AnyConfig, DriftConfig
from unroll.data.encoded import EncodedCorpus
from unroll.data.sample import make_prose
from unroll.errors import DataError, PredictionError
from unroll.evaluation.drift import DriftReport
from unroll.models.saved import SavedModel, load_model
from unroll.reference import read_reference
from unroll.scoring import score_text
from unroll.training.fit import train
from unroll.training.metrics import SilentLogger

CPU = torch.device("cpu")


class Killed(BaseException):
    """Stands for the end of the process."""


def trained(config: AnyConfig, corpus: EncodedCorpus, folder: Path) -> Path:
    (folder / "model").mkdir()
    train(config, corpus.folder, folder / "work", folder / "model", SilentLogger())
    return folder / "model"


@pytest.fixture(scope="module")
def model_folder(
    small_config: Callable[..., AnyConfig], encoded_text: EncodedCorpus, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return trained(small_config("language_model"), encoded_text, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def saved(model_folder: Path) -> SavedModel:
    return load_model(model_folder, CPU)


@pytest.fixture(scope="module")
def prose(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prose") / "novel.txt"
    path.write_bytes(b"\xef\xbb\xbf" + make_prose(9_000, seed=8).text.replace("\n", "\r\n").encode() + "é".encode())
    return path


def run(path: Path, output: Path, saved: SavedModel, drift: DriftCheck | None = None, **changed: Any) -> Any:
    text, folder = RunningText.open(path), ScoringFolder(output)
    job = replace(ScoringJob(text.sha256, "", 4, "float32", "text", "3", "w" * 64, "v" * 64), **changed)
    with folder.lock():
        return score_passages(text, saved, job, folder, drift or DriftCheck(None), overwrite=False)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "_manifest.json"}


def test_every_character_is_scored_once_after_what_stands_before_it(
    saved: SavedModel, prose: Path, tmp_path: Path
) -> None:
    manifest = run(prose, tmp_path / "out", saved)
    found = pd.read_parquet(tmp_path / "out")
    text = prose.read_text(encoding="utf-8-sig")  # reading in text mode makes \r\n \n
    assert "".join(found["text"]) == text
    assert found["row"].tolist() == list(range(1, 20))
    assert found["start"].tolist() == list(range(0, 9_001, 500))
    assert found["characters"].tolist() == [500] * 18 + [1]
    ids = np.array(saved.encoder.encode(text))
    assert found["unknown_characters"].sum() == (ids == 1).sum() == manifest["unknown_characters"]
    whole = score_text(saved.model, ids, ids[:0], CPU, "float32", len(saved.encoder.vocabulary))  # type: ignore[arg-type]
    bits = float((found["bits_per_char"] * found["characters"]).sum())
    # each block warms up again; on a model that reads few characters back the difference is small
    assert bits == pytest.approx(whole.sum() / np.log(2), rel=0.01)
    assert manifest["bits_per_char"] == pytest.approx(bits / 9_001)
    assert set(found["model_digest"]) == {"w" * 64}


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000), part_rows=st.integers(1, 9), kills=st.integers(1, 3), block=st.integers(1, 5))
def test_stopped_anywhere_it_goes_on_to_the_same_bytes(
    saved: SavedModel,
    prose: Path,
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    part_rows: int,
    kills: int,
    block: int,
) -> None:
    place, chance = tmp_path_factory.mktemp("place"), random.Random(seed)
    with pytest.MonkeyPatch.context() as always:
        always.setattr(bulk_text, "BLOCK_PASSAGES", block)
        run(prose, place / "straight", saved, part_rows=part_rows)
        for _ in range(kills):
            left = chance.randint(0, 30)

            def die(*_: Any) -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    raise Killed

            with pytest.MonkeyPatch.context() as patch:
                for name in ("replace", "fsync"):
                    real = getattr(bulk_output.os, name)
                    patch.setattr(bulk_output.os, name, lambda *values, real=real: (die(), real(*values))[1])
                with suppress(Killed):
                    run(prose, place / "out", saved, part_rows=part_rows)
        run(prose, place / "out", saved, part_rows=part_rows)
    assert contents(place / "out") == contents(place / "straight")


def test_memory_is_that_of_a_block_not_of_the_file(
    saved: SavedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "long.txt"
    path.write_text("It is so. " * 5_000)
    sizes: list[int] = []
    real = score_text

    def watch(model: Any, token_ids: Any, context: Any, *rest: Any) -> Any:
        sizes.append(len(token_ids) + len(context))
        return real(model, token_ids, context, *rest)

    monkeypatch.setattr(bulk_text, "score_text", watch)
    monkeypatch.setattr(bulk_text, "BLOCK_PASSAGES", 8)
    manifest = run(path, tmp_path / "out", saved, part_rows=20)
    assert manifest["rows"] == 100
    assert max(sizes) <= 8 * 500 + 501
    assert len(sizes) == 15  # blocks of 8, 8 and 4 passages in each of five parts


def test_another_kind_of_text_is_drift_and_the_same_kind_is_not(
    saved: SavedModel, model_folder: Path, prose: Path, tmp_path: Path
) -> None:
    reference = read_reference(model_folder)
    assert reference is not None
    heard: list[DriftReport] = []
    # the small corpus' validation text is 200 characters; as many passages of it as are needed stand for a longer one
    reference = replace(reference, count=60, ratios={k: replace(v, count=60) for k, v in reference.ratios.items()})
    check = DriftCheck(reference, DriftConfig(least_count=10), heard.append)
    assert run(prose, tmp_path / "same", saved, check)["drift"]["verdict"] == "none"
    assert heard == []
    other = tmp_path / "other.txt"
    other.write_text("ΑΒΓΔ 0123 " * 1_000, encoding="utf-8")
    drift = run(other, tmp_path / "other", saved, check)["drift"]
    assert drift["verdict"] == "drifted"
    assert "bits per character" in drift["reason"]
    assert "unknown characters" in drift["reason"]
    assert [report.verdict for report in heard] == ["drifted"]


def test_what_is_no_text_or_no_language_model_is_refused_in_words(
    saved: SavedModel,
    prose: Path,
    tmp_path: Path,
    small_config: Callable[..., AnyConfig],
    encoded_reviews: EncodedCorpus,
) -> None:
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(DataError, match="is empty; expected a text"):
        RunningText.open(tmp_path / "empty.txt")
    (tmp_path / "binary.txt").write_bytes(b"a\0b")
    with pytest.raises(DataError, match="is binary"):
        RunningText.open(tmp_path / "binary.txt")
    config = small_config("sentiment", training={"max_steps": 2})
    classifier = load_model(trained(config, encoded_reviews, tmp_path), CPU)
    with pytest.raises(PredictionError, match="needs a language model"):
        run(prose, tmp_path / "out", classifier)
    assert not (tmp_path / "out").exists()
