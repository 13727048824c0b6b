"""The reference that travels with a model: that of its validation split, the same from its folder as from memory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from unroll.config import AnyConfig
from unroll.data.encoded import EncodedCorpus
from unroll.models.saved import load_model
from unroll.reference import FILE_NAME, read_reference, reference_of, sum_passages
from unroll.training.fit import train
from unroll.training.metrics import SilentLogger

CPU = torch.device("cpu")


@pytest.mark.parametrize("project", ["sentiment", "language_model"])
def test_a_trained_model_carries_the_statistics_of_its_validation_split(
    project: str,
    small_config: Callable[..., AnyConfig],
    encoded_reviews: EncodedCorpus,
    encoded_text: EncodedCorpus,
    tmp_path: Path,
) -> None:
    corpus = encoded_text if project == "language_model" else encoded_reviews
    (tmp_path / "model").mkdir()
    train(small_config(project), corpus.folder, tmp_path / "work", tmp_path / "model", SilentLogger())
    reference = read_reference(tmp_path / "model")
    assert reference is not None
    assert reference == reference_of(load_model(tmp_path / "model", CPU).model, corpus, CPU)
    split = corpus.split("validation")
    assert reference.ratios["unknown"].bottom == len(split.tokens)
    assert reference.ratios["unknown"].top == (split.tokens == 1).sum()
    if project == "sentiment":
        assert reference.count == len(split)
        assert {name: sum(bins.values()) for name, bins in reference.histograms.items()} == {
            "length": len(split),
            "score/positive": len(split),
        }
    else:
        assert reference.count == 1  # 200 characters are no whole passage
        assert 1 < reference.ratios["bits_per_char"].value < 20


def test_a_model_without_a_reference_or_with_a_damaged_one_has_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_reference(tmp_path) is None
    assert caplog.text == ""
    for damaged in ("{", "[]", '{"format": 7}'):
        (tmp_path / FILE_NAME).write_text(damaged)
        assert read_reference(tmp_path) is None
        assert "drift is not known" in caplog.text


def test_passages_are_summed_and_the_last_is_as_long_as_what_is_left() -> None:
    assert sum_passages(np.ones(1_200)).tolist() == [500, 500, 200]
    assert sum_passages(np.ones(500)).tolist() == [500]
    assert sum_passages(np.ones(0)).tolist() == []
