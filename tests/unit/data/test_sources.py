from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unroll.config import SentimentDataConfig, TextDataConfig
from unroll.data.corpora import ReviewCorpus, TextCorpus
from unroll.data.sources import fetch_reviews, fetch_text, source_fingerprint
from unroll.errors import DataError

ROWS = [("fine", "good"), ("awful", "bad"), ("nice", "good"), ("poor", "bad")]


def write_csv(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.write_text("\n".join(["text,label", *(f"{text},{label}" for text, label in rows)]) + "\n")
    return path


def fetch(folder: Path, source: Path, **settings: object) -> ReviewCorpus:
    out = folder / "out"
    out.mkdir()
    fetch_reviews(SentimentDataConfig.model_validate({"source": str(source), **settings}), 1, out, None)
    assert {path.name for path in out.iterdir()} <= {"train.parquet", "test.parquet", "corpus.json"}
    return ReviewCorpus.open(out)


def test_a_users_file_becomes_a_corpus(tmp_path: Path) -> None:
    corpus = fetch(tmp_path, write_csv(tmp_path / "a.csv", ROWS))
    assert corpus.class_names == ("bad", "good")
    assert list(corpus.read("train")["text"]) == [text for text, _ in ROWS]
    assert list(corpus.labels("train")) == [1, 0, 1, 0]
    assert not corpus.has_test
    assert corpus.info["origin"] == "file"
    assert corpus.info["rows"] == {"train": 4}


def test_a_test_file_may_have_another_format_and_keeps_trainings_classes(tmp_path: Path) -> None:
    test = tmp_path / "test.jsonl"
    test.write_text(json.dumps({"text": "grand", "label": "good"}) + "\n")
    corpus = fetch(tmp_path, write_csv(tmp_path / "a.csv", ROWS), test_source=str(test))
    assert list(corpus.labels("test")) == [1]


def test_a_test_label_that_training_never_saw_is_named(tmp_path: Path) -> None:
    test = write_csv(tmp_path / "test.csv", [("grand", "good"), ("so so", "mixed")])
    with pytest.raises(DataError, match=r"test\.csv, row 2: label 'mixed' is none .*'bad', 'good'"):
        fetch(tmp_path, write_csv(tmp_path / "a.csv", ROWS), test_source=str(test))


def test_one_class_is_too_few_and_thousands_are_a_wrong_column(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one class, 'good'"):
        fetch(tmp_path, write_csv(tmp_path / "one.csv", [("a", "good"), ("b", "good")]))
    (tmp_path / "out").rmdir()
    with pytest.raises(DataError, match="more than 1,000 different labels"):
        fetch(tmp_path, write_csv(tmp_path / "many.csv", [(f"t{row}", f"id-{row}") for row in range(1_200)]))


def test_a_source_that_is_nothing_is_answered_with_what_can_be_given(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file or folder imbd; data\.source takes sample, imdb"):
        fetch(tmp_path, Path("imbd"))
    with pytest.raises(DataError, match="no file or folder"):
        source_fingerprint(SentimentDataConfig(source="imbd"), None)


def test_a_folder_is_loaded_with_its_splits_and_class_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("HF_HOME", raising=False)
    (tmp_path / "set").mkdir()
    features = {
        "info": {
            "features": {
                "text": {"dtype": "string", "_type": "Value"},
                "label": {"names": ["up", "down"], "_type": "ClassLabel"},
            }
        }
    }
    table = pa.table({"text": ["a", "b", "c"], "label": [0, 1, 0], "extra": [1, 2, 3]})
    features["info"]["features"]["extra"] = {"dtype": "int64", "_type": "Value"}
    table = table.replace_schema_metadata({"huggingface": json.dumps(features)})
    pq.write_table(table, tmp_path / "set" / "train.parquet")
    pq.write_table(table.slice(1), tmp_path / "set" / "test.parquet")
    corpus = fetch(tmp_path, tmp_path / "set")
    assert corpus.class_names == ("up", "down")
    assert list(corpus.labels("train")) == [0, 1, 0]
    assert list(corpus.read("test")["text"]) == ["b", "c"]
    assert list(home.rglob("*")) == []


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(DataError, match="cannot be loaded through datasets"):
        fetch(tmp_path, tmp_path / "set")


def test_the_sample_reviews_have_two_classes_and_a_seed(tmp_path: Path) -> None:
    texts = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        fetch_reviews(SentimentDataConfig(sample_size=300), seed, tmp_path / name, None)
        corpus = ReviewCorpus.open(tmp_path / name)
        assert corpus.class_names == ("negative", "positive")
        assert set(corpus.labels("train").tolist()) == {0, 1}
        texts.append(list(corpus.read("train")["text"]))
    assert len(texts[0]) == 300
    assert texts[0] == texts[1] != texts[2]


def test_the_sample_text_has_the_bits_of_each_character(tmp_path: Path) -> None:
    fetch_text(TextDataConfig(sample_size=20_000), 1, tmp_path, None)
    corpus = TextCorpus.open(tmp_path)
    text, bits = corpus.text[:], corpus.bits
    assert len(text) == 20_000 == corpus.info["characters"]
    assert bits is not None
    assert bits.shape == (20_000,)
    assert bits.dtype == np.float32
    assert bits.min() >= 0
    assert 0.2 < bits.mean() < 4


def test_a_users_text_and_test_text_become_a_corpus(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\r\n" * 1_000)
    (tmp_path / "b.txt").write_bytes(b"two\n" * 100)
    out = tmp_path / "out"
    out.mkdir()
    fetch_text(TextDataConfig(source=str(tmp_path / "a.txt"), test_source=str(tmp_path / "b.txt")), 1, out, None)
    corpus = TextCorpus.open(out)
    assert corpus.text[:] == "one\n" * 1_000
    assert corpus.test_text is not None
    assert corpus.test_text[:] == "two\n" * 100
    assert corpus.info["test_characters"] == 400
    assert set(corpus.info["files"]) == {"text.txt", "test.txt"}


def test_public_and_made_sources_have_a_fingerprint_without_network_or_mirror(tmp_path: Path) -> None:
    assert source_fingerprint(SentimentDataConfig(source="imdb"), None) == {"source": "imdb"}
    assert source_fingerprint(SentimentDataConfig(source="imdb"), tmp_path) == {"source": "imdb"}
    book, other = TextDataConfig(source="gutenberg"), TextDataConfig(source="gutenberg", ebook=2)
    assert source_fingerprint(book, None) != source_fingerprint(other, None)


def test_the_fingerprint_of_files_follows_their_contents_not_their_place(tmp_path: Path) -> None:
    def of(path: Path) -> dict[str, str]:
        return source_fingerprint(SentimentDataConfig(source=str(path), test_source=str(path)), None)

    first, moved = write_csv(tmp_path / "a.csv", ROWS), write_csv(tmp_path / "b.csv", ROWS)
    before = of(first)
    assert before == of(moved)
    assert set(before) == {"source", "test_source"}
    write_csv(first, ROWS[:3])
    assert of(first) != before
    folder = of(tmp_path)
    moved.rename(tmp_path / "c.csv")
    assert of(tmp_path) != folder
