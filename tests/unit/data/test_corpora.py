from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from unroll.data.corpora import BLANK, ReviewCorpus, ReviewWriter, TextCorpus
from unroll.errors import DataError


def write_corpus(folder: Path, texts: list[str | None], labels: list[int]) -> ReviewCorpus:
    with ReviewWriter(folder / "train.parquet") as writer:
        for first in range(0, len(texts), 3):
            writer.write(texts[first : first + 3], labels[first : first + 3])
    (folder / "corpus.json").write_text(json.dumps({"kind": "reviews", "class_names": ["no", "yes"]}))
    return ReviewCorpus.open(folder)


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    texts: list[str | None] = ["a", "b\nc", "é", "", "x"]
    corpus = write_corpus(tmp_path, texts, [0, 1, 0, 1, 1])
    frame = corpus.read("train")
    assert list(frame["text"]) == texts
    assert list(frame["label"]) == [0, 1, 0, 1, 1] == list(corpus.labels("train"))
    assert corpus.class_names == ("no", "yes")
    assert not corpus.has_test


@pytest.mark.parametrize("chunk", [1, 2, 7])
def test_chosen_texts_come_in_order_whatever_the_chunk(tmp_path: Path, chunk: int) -> None:
    corpus = write_corpus(tmp_path, [f"t{row}" for row in range(11)], [0] * 11)
    chunks = list(corpus.iter_texts("train", np.array([0, 3, 4, 10]), chunk))
    assert [text for texts in chunks for text in texts] == ["t0", "t3", "t4", "t10"]
    assert max(map(len, chunks)) <= chunk
    assert [text for texts in corpus.iter_texts("train", None, chunk) for text in texts][-1] == "t10"
    assert list(corpus.iter_texts("train", np.array([], dtype=np.int64))) == []


@pytest.mark.parametrize(("rows", "error"), [([1, 0], ValueError), ([0, 0], ValueError), ([0, 5], DataError)])
def test_rows_that_do_not_ascend_or_do_not_exist_are_refused(
    tmp_path: Path, rows: list[int], error: type[Exception]
) -> None:
    corpus = write_corpus(tmp_path, ["a", "b", "c"], [0, 0, 0])
    with pytest.raises(error):
        list(corpus.iter_texts("train", np.array(rows)))


def test_digests_are_equal_where_texts_are_and_mark_blanks(tmp_path: Path) -> None:
    digests = write_corpus(tmp_path, ["a", "b", "a", None, " \n", "a "], [0] * 6).digests("train")
    assert digests[0] == digests[2]
    assert digests[3] == digests[4] == BLANK
    assert len(set(digests.tolist())) == 4


def test_a_text_that_is_not_unicode_is_refused(tmp_path: Path) -> None:
    with ReviewWriter(tmp_path / "train.parquet") as writer, pytest.raises(DataError, match="rows 1 to 2 cannot"):
        writer.write(["fine", "\ud800"], [0, 1])


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"kind": "text"}'])
def test_a_folder_that_is_no_corpus_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "corpus.json").write_text(content)
    with pytest.raises(DataError):
        ReviewCorpus.open(tmp_path)


def test_a_missing_or_damaged_split_says_what_to_do(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, ["a"], [0])
    with pytest.raises(DataError, match="--from download"):
        corpus.read("test")
    (tmp_path / "train.parquet").write_bytes(b"PAR1 no longer")
    with pytest.raises(DataError, match="--from download"):
        corpus.read("train")


def test_running_text_keeps_its_line_ends(tmp_path: Path) -> None:
    (tmp_path / "corpus.json").write_text('{"kind": "text"}')
    (tmp_path / "text.txt").write_text("one\rtwo\nthree", newline="")
    corpus = TextCorpus.open(tmp_path)
    assert corpus.text[:] == "one\rtwo\nthree"
    assert corpus.test_text is None
    assert corpus.bits is None
    np.save(tmp_path / "bits.npy", np.ones(13, np.float32))
    assert corpus.bits is not None
    assert corpus.bits.sum() == 13
