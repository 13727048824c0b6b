from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unroll.config import CharEncodingConfig, WordEncodingConfig
from unroll.data import book_encoding, stored_text, threads
from unroll.data.encoded import EncodedCorpus, encode_reviews, encode_text
from unroll.data.token_files import token_dtype
from unroll.errors import DataError, StoreError

REVIEWS = {
    "train": ["A good movie.", "", "It wasn't good at all", "bad bad bad :("],
    "validation": ["A validationword movie"],
    "test": ["A testword movie", "good"],
}


def encode(texts: dict[str, list[str]], folder: Path, **settings_: object) -> EncodedCorpus:
    def chunks(split: str) -> Iterator[list[str]]:
        for start in range(0, len(texts[split]), 3):
            yield texts[split][start : start + 3]

    labels = {split: np.arange(len(of_split)) % 2 for split, of_split in texts.items()}
    rows = {split: np.arange(len(of_split)) + 10 for split, of_split in texts.items()}
    config = WordEncodingConfig.model_validate(settings_)
    encode_reviews(chunks, labels, rows, ["neg", "pos"], config, folder)
    return EncodedCorpus.open(folder)


@pytest.mark.parametrize("kind", ["book", "word", "subword"])
def test_the_arrays_equal_each_text_encoded_by_itself(tmp_path: Path, kind: str) -> None:
    corpus = encode(REVIEWS, tmp_path, tokenizer=kind, max_length=4)
    assert corpus.kind == "reviews"
    assert corpus.class_names == ("neg", "pos")
    assert corpus.vocab_size == len(corpus.encoder.vocabulary)
    for split, texts in REVIEWS.items():
        opened = corpus.split(split)
        singly = [corpus.encoder.encode(text) for text in texts]
        assert len(opened) == len(texts)
        assert [opened.item(index).tolist() for index in range(len(texts))] == singly
        assert opened.lengths.tolist() == [len(ids) for ids in singly]
        assert opened.lengths.max() <= 4
        assert opened.labels is not None
        assert opened.rows is not None
        assert opened.labels.tolist() == [index % 2 for index in range(len(texts))]
        assert opened.rows.tolist() == [index + 10 for index in range(len(texts))]
        unknown = sum(ids.count(1) for ids in singly) / sum(map(len, singly))
        expected = {"items": len(texts), "tokens": sum(map(len, singly)), "unk_fraction": unknown}
        assert corpus.statistics[split] == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["book", "word"])
def test_the_vocabulary_never_sees_validation_or_test(tmp_path: Path, kind: str) -> None:
    corpus = encode(REVIEWS, tmp_path, tokenizer=kind)
    assert not {"validationword", "testword"} & set(corpus.encoder.vocabulary.tokens)
    assert corpus.split("test").item(0).tolist()[1] == 1


def test_the_same_bytes_whether_one_thread_encodes_or_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {"train": [f"word{number % 7} common {number}" for number in range(50)], "test": ["common"] * 9}
    monkeypatch.setattr(book_encoding, "CHARACTERS_OF_FIRST_CHUNK", 30)
    monkeypatch.setattr(book_encoding, "CHARACTERS_PER_CHUNK", 30)
    for num_threads in (1, 4):
        monkeypatch.setattr(threads, "usable_cores", lambda num_threads=num_threads: num_threads)
        encode(texts, tmp_path / str(num_threads), tokenizer="book")
    names = sorted(path.name for path in (tmp_path / "1").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "4").iterdir())
    for name in names:
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "4" / name).read_bytes(), name


@settings(deadline=None)
@given(text=st.text(min_size=1, max_size=60))
def test_running_text_comes_back_from_its_ids(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("text")
    encode_text({"train": text, "test": text[::-1] + "\U0010ffff"}, CharEncodingConfig(), folder)
    corpus = EncodedCorpus.open(folder)
    train, test = corpus.split("train"), corpus.split("test")
    assert (corpus.kind, len(train), train.labels, train.rows) == ("text", 1, None, None)
    assert corpus.encoder.decode(train.item(0)) == text
    assert test.item(0).tolist() == corpus.encoder.encode(text[::-1] + "\U0010ffff")


def test_a_text_longer_than_a_piece_is_still_one_item(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_text, "CHARACTERS_PER_PIECE", 4)
    encode_text({"train": "hello world"}, CharEncodingConfig(), tmp_path)
    corpus = EncodedCorpus.open(tmp_path)
    assert corpus.split("train").offsets.tolist() == [0, 11]
    assert corpus.encoder.decode(corpus.split("train").item(0)) == "hello world"


@pytest.mark.parametrize(
    ("vocab_size", "dtype"), [(3, "u1"), (256, "u1"), (257, "<u2"), (65_536, "<u2"), (65_537, "<i4")]
)
def test_the_smallest_dtype_that_holds_every_id_is_taken(vocab_size: int, dtype: str) -> None:
    assert token_dtype(vocab_size) == np.dtype(dtype)
    assert vocab_size - 1 <= np.iinfo(dtype).max


def test_ids_beyond_a_byte_survive_the_disk(tmp_path: Path) -> None:
    words = [f"w{number}" for number in range(300)]
    corpus = encode({"train": [" ".join(words)]}, tmp_path, tokenizer="book", max_length=None)
    assert corpus.split("train").tokens.dtype == np.dtype("<u2")
    assert corpus.encoder.decode(corpus.split("train").item(0)) == " ".join(words)


def test_mapped_tokens_cannot_be_written_to(tmp_path: Path) -> None:
    tokens = encode(REVIEWS, tmp_path).split("train").tokens
    with pytest.raises(ValueError, match="read-only"):
        tokens[0] = 5


def test_released_tokens_are_read_again(tmp_path: Path) -> None:
    split = encode(REVIEWS, tmp_path).split("train")
    before = split.tokens.tolist()
    split.release()
    assert split.tokens.tolist() == before


@pytest.mark.parametrize("texts", [{"train": ["a"], "test": []}, {"train": [], "test": ["a"]}, {"test": ["a"]}, {}])
def test_an_empty_or_missing_split_is_a_data_error(tmp_path: Path, texts: dict[str, list[str]]) -> None:
    with pytest.raises(DataError):
        encode(texts, tmp_path)
    with pytest.raises(DataError):
        encode_text({split: "".join(of_split) for split, of_split in texts.items()}, CharEncodingConfig(), tmp_path)


@pytest.mark.parametrize(("num_labels", "num_rows"), [(3, 2), (1, 2), (2, 3)])
def test_other_numbers_of_texts_labels_and_rows_are_a_data_error(
    tmp_path: Path, num_labels: int, num_rows: int
) -> None:
    labels, rows = {"train": np.zeros(num_labels, int)}, {"train": np.zeros(num_rows, int)}
    with pytest.raises(DataError, match=f"2 texts, {num_labels} labels and {num_rows} rows"):
        encode_reviews(lambda split: iter([["a", "b"]]), labels, rows, ["x"], WordEncodingConfig(), tmp_path)


@pytest.mark.parametrize(
    "name", ["encoding.json", "train.tokens.bin", "test.offsets.npy", "train.labels.npy", "test.rows.npy"]
)
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "longer"])
def test_a_damaged_file_is_a_store_error(tmp_path: Path, name: str, damage: str) -> None:
    encode(REVIEWS, tmp_path)
    path = tmp_path / name
    content = path.read_bytes()
    path.unlink()
    if damage == "longer" and name.endswith(".npy"):
        np.save(path, np.arange(99))
    elif damage != "missing":
        path.write_bytes({"empty": b"", "cut": content[:-1], "longer": content + b"}"}[damage])
    if name == "encoding.json" and damage == "cut":
        path.write_bytes(content[:-2])
    with pytest.raises(StoreError):
        EncodedCorpus.open(tmp_path)


def test_descriptions_of_other_formats_or_without_a_field_are_store_errors(tmp_path: Path) -> None:
    encode(REVIEWS, tmp_path)
    path = tmp_path / "encoding.json"
    fields = json.loads(path.read_text())
    for change in ({"format": 99}, {"dtype": "nonsense"}, {"splits": None}, {"kind": None, "dtype": None}):
        path.write_text(json.dumps(fields | change))
        with pytest.raises(StoreError):
            EncodedCorpus.open(tmp_path)


def test_asking_for_a_split_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    corpus = encode(REVIEWS, tmp_path)
    with pytest.raises(StoreError, match="train, validation, test"):
        corpus.split("validate")
    with pytest.raises(IndexError):
        corpus.split("train").item(4)


def test_progress_is_told_from_nothing_to_everything(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    labels = {"train": np.zeros(2, int)}
    encode_reviews(
        lambda split: iter([["a"], ["b"]]), labels, labels, ["x"], WordEncodingConfig(), tmp_path,
        lambda *said: told.append(said),
    )  # fmt: skip
    assert told[0] == ("learning the vocabulary", 0, 2)
    assert ("encoding train", 0, 2) in told
    assert told[-1] == ("encoding train", 2, 2)


def test_opening_imports_nothing_heavy(tmp_path: Path) -> None:
    encode(REVIEWS, tmp_path)
    script = (
        "import sys; from pathlib import Path; from unroll.data.encoded import EncodedCorpus;"
        f"EncodedCorpus.open(Path({str(tmp_path)!r})).split('train').item(0);"
        "print(*{'torch', 'pandas', 'pydantic', 'tokenizers', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ""
