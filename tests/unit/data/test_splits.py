from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unroll.config import SentimentDataConfig, TextDataConfig
from unroll.data.corpora import ReviewCorpus, ReviewWriter, TextCorpus
from unroll.data.splits import ReviewSplits, cut_text, split_reviews, split_text
from unroll.errors import DataError

CONFIG = SentimentDataConfig(validation_fraction=0.2, test_fraction=0.25)
Rows = list[tuple[str | None, int]]


def make_corpus(folder: Path, train: Rows, test: Rows | None = None) -> ReviewCorpus:
    for split, rows in (("train", train), ("test", test)):
        if rows is not None:
            with ReviewWriter(folder / f"{split}.parquet") as writer:
                writer.write([text for text, _ in rows], [label for _, label in rows])
    num_classes = 1 + max(label for _, label in train)
    info = {"kind": "reviews", "class_names": [f"class {index}" for index in range(num_classes)]}
    (folder / "corpus.json").write_text(json.dumps(info))
    return ReviewCorpus.open(folder)


def distinct(count: int, prefix: str = "text") -> Rows:
    return [(f"{prefix} {row}", int(row % 4 == 0)) for row in range(count)]


def same(first: ReviewSplits, second: ReviewSplits) -> bool:
    return all(np.array_equal(first.place(name)[1], second.place(name)[1]) for name in ("train", "validation", "test"))


def test_every_row_stands_in_one_split_and_classes_keep_their_shares(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, distinct(400))
    splits = split_reviews(corpus, CONFIG, seed=3)
    together = np.concatenate([splits.train, splits.validation, splits.test])
    assert np.array_equal(np.sort(together), np.arange(400))
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [240, 60, 100]
    labels = corpus.labels("train")
    assert [labels[part].mean() for part in (splits.train, splits.validation, splits.test)] == [0.25] * 3
    assert (splits.test_in, splits.dropped, splits.blank_rows) == ("train", 0, 0)
    assert all(np.all(np.diff(part) > 0) for part in (splits.train, splits.validation, splits.test))


def test_the_seed_alone_decides(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, distinct(200))
    assert same(split_reviews(corpus, CONFIG, 1), split_reviews(corpus, CONFIG, 1))
    assert not same(split_reviews(corpus, CONFIG, 1), split_reviews(corpus, CONFIG, 2))


def test_the_hash_seed_of_the_process_changes_nothing(tmp_path: Path) -> None:
    corpus = make_corpus(tmp_path, distinct(100) + distinct(20))
    code = (
        "import sys; from pathlib import Path; from unroll.config import SentimentDataConfig as C;"
        "from unroll.data.corpora import ReviewCorpus as R; from unroll.data.splits import split_reviews as s;"
        "print([list(map(int, p)) for p in s(R.open(Path(sys.argv[1])), C(), 1)[:3]])"
    )
    environment = {"PYTHONHASHSEED": "12345", "PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", code, str(tmp_path)]
    other = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    splits = split_reviews(corpus, SentimentDataConfig(), 1)
    assert json.loads(other) == [list(map(int, part)) for part in splits[:3]]


def test_training_rows_with_a_test_text_are_dropped_and_counted(tmp_path: Path) -> None:
    train = distinct(100)
    corpus = make_corpus(tmp_path, [*train, train[7], ("only here", 1)], [train[7], train[8], ("new", 0)])
    splits = split_reviews(corpus, CONFIG, 1)
    assert splits.test_in == "test"
    assert splits.dropped == 3
    assert splits.dropped_rows.tolist() == [7, 8, 100]
    assert not set(splits.dropped_rows) & {*splits.train, *splits.validation}
    assert len(splits.train) + len(splits.validation) == 102 - 3
    assert splits.place("test")[0] == "test"
    assert splits.place("validation")[0] == "train"


@given(
    copies=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 1)), min_size=20, max_size=120),
    seed=st.integers(0, 99),
)
def test_no_text_stands_on_two_sides(
    tmp_path_factory: pytest.TempPathFactory, copies: list[tuple[int, int]], seed: int
) -> None:
    rows: Rows = [*((f"text {number}", label) for number, label in copies), *distinct(40, "other")]
    corpus = make_corpus(tmp_path_factory.mktemp("corpus"), rows)
    splits = split_reviews(corpus, CONFIG, seed)
    texts = [{rows[row][0] for row in part} for part in (splits.train, splits.validation, splits.test)]
    assert not texts[0] & texts[1]
    assert not texts[0] & texts[2]
    assert not texts[1] & texts[2]
    assert {rows[row][0] for row in splits.dropped_rows} <= texts[2]
    sizes = [len(splits.train), len(splits.validation), len(splits.test), splits.dropped]
    assert sum(sizes) == len(rows)


def test_rows_without_text_are_in_no_split(tmp_path: Path) -> None:
    blanks: Rows = [(None, 0), ("", 1), (" \n", 0)]
    splits = split_reviews(
        make_corpus(tmp_path, [*blanks, *distinct(100)], [("  ", 0), *distinct(8, "new")]), CONFIG, 1
    )
    assert splits.blank_rows == 4
    assert splits.dropped == 0
    assert min(splits.train.min(), splits.validation.min()) >= 3
    assert splits.test.tolist() == list(range(1, 9))


def test_a_rare_class_gets_a_row_in_every_split(tmp_path: Path) -> None:
    rare: Rows = [(f"rare {row}", 2) for row in range(3)]
    corpus = make_corpus(tmp_path, [*distinct(300), *rare])
    splits = split_reviews(corpus, CONFIG, 1)
    labels = corpus.labels("train")
    assert [np.sum(labels[part] == 2) for part in (splits.train, splits.validation, splits.test)] == [1, 1, 1]


def test_a_class_too_small_to_divide_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no row of class 'class 2'"):
        split_reviews(make_corpus(tmp_path, [*distinct(300), ("rare", 2)]), CONFIG, 1)


def test_a_training_file_inside_the_test_file_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="100 training rows were dropped"):
        split_reviews(make_corpus(tmp_path, distinct(100), distinct(100)), CONFIG, 1)


@given(size=st.integers(100, 10**7), given_test=st.booleans())
def test_parts_of_a_text_are_contiguous_and_whole(size: int, given_test: bool) -> None:
    config = TextDataConfig(validation_fraction=0.05, test_fraction=0.1)
    train, validation, test = split_text(size, config, given_test)
    assert train.start == 0
    assert train.stop == validation.start
    assert abs(len(validation) - size * 0.05) <= 0.5
    if given_test:
        assert test is None
        assert validation.stop == size
    else:
        assert test is not None
        assert (validation.stop, test.stop) == (test.start, size)
        assert abs(len(test) - size * 0.1) <= 0.5


def test_a_long_text_holds_out_no_more_than_the_bounds() -> None:
    config = TextDataConfig(max_validation_characters=2_000, max_test_characters=1_000)
    assert split_text(10**9, config, False) == (
        range(10**9 - 3_000),
        range(10**9 - 3_000, 10**9 - 1_000),
        range(10**9 - 1_000, 10**9),
    )
    unbounded = TextDataConfig(max_validation_characters=None, max_test_characters=None)
    assert [len(part or "") for part in split_text(10**9, unbounded, False)] == [850_000_000, 50_000_000, 100_000_000]


def test_the_parts_of_a_corpus_are_cut_from_its_files(tmp_path: Path) -> None:
    text = "".join(f"line {row} of a story\n" for row in range(200))
    (tmp_path / "corpus.json").write_text('{"kind": "text"}')
    (tmp_path / "text.txt").write_text(text)
    parts = cut_text(TextCorpus.open(tmp_path), TextDataConfig())
    assert list(parts) == ["train", "validation", "test"]
    assert "".join(part[:] for part in parts.values()) == text
    (tmp_path / "test.txt").write_text("another text " * 100)
    parts = cut_text(TextCorpus.open(tmp_path), TextDataConfig(max_test_characters=1_000))
    assert parts["train"][:] + parts["validation"][:] == text
    assert parts["test"][:] == ("another text " * 100)[:1_000]


def test_a_text_too_short_to_cut_is_an_error() -> None:
    with pytest.raises(DataError, match="too few to cut: validation 1"):
        split_text(20, TextDataConfig(), test_given=False)
