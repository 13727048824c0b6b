"""The row on preparation compares tokens that are the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.plan import Plan
from benchmarks.rows import preparation
from benchmarks.rows.preparation import compare_tokens, read_texts
from unroll.data.corpora import ReviewCorpus, ReviewWriter

TEXTS = ["A good movie :)", "", "good<br />bad :-(", "Ünïcode ΟΔΟΣ", "<br />"] * 3


def test_the_chapters_tokens_ours_and_those_of_our_ids_are_the_same(tmp_path: Path) -> None:
    checked = compare_tokens(TEXTS, tmp_path / "encoded")
    assert checked["identical_tokens"] == {"reviews": 15, "tokens": 24, "same": True}


def test_the_row_takes_both_splits_and_of_imdb_unlabelled_reviews_up_to_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrored = tmp_path / "mirror" / "imdb" / "plain_text"
    mirrored.mkdir(parents=True)
    for path, text in [
        (tmp_path / "train.parquet", "train"),
        (tmp_path / "test.parquet", "test"),
        (mirrored / "unsupervised-00000-of-00001.parquet", "unlabelled"),
    ]:
        with ReviewWriter(path) as writer:
            writer.write([text] * 2, [0, 1])
    monkeypatch.setenv("UNROLL_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setattr(preparation, "MOST_REVIEWS", 5)
    corpus = ReviewCorpus(tmp_path, ("neg", "pos"), {})
    labelled = ["train", "train", "test", "test"]
    assert read_texts(corpus, Plan(str(tmp_path), real_corpora=True)) == [*labelled, "unlabelled"]
    assert read_texts(corpus, Plan(str(tmp_path))) == labelled
