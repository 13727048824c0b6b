from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unroll.config import WordEncodingConfig
from unroll.data import book_encoding as module
from unroll.data.book_encoding import encode_book
from unroll.data.encoders import load_encoder, train_encoder
from unroll.data.token_files import token_dtype
from unroll.errors import DataError

WORDS = st.sampled_from(["good", "bad", "Good", "İ", "<br />", ":)", "", "a", "b", "c", "<pad>", "\ud800"])
TEXTS = st.lists(st.lists(WORDS, max_size=12).map(" ".join), min_size=1, max_size=8)


def encode(texts: dict[str, list[str]], folder: Path, config: WordEncodingConfig) -> dict[str, dict[str, float]]:
    def chunks(split: str) -> Iterator[list[str]]:
        for start in range(0, len(texts[split]), 3):
            yield texts[split][start : start + 3]

    _, statistics = encode_book(chunks, {split: len(of_split) for split, of_split in texts.items()}, config, folder)
    return statistics


@settings(deadline=None)
@given(
    train=TEXTS,
    test=TEXTS,
    vocab_size=st.none() | st.integers(3, 8),
    min_count=st.integers(1, 2),
    max_length=st.none() | st.integers(2, 6),
    prefer_again=st.sampled_from([1, 2, 50_000]),
)
def test_files_are_those_of_the_encoder_trained_and_asked_text_by_text(
    tmp_path_factory: pytest.TempPathFactory,
    train: list[str],
    test: list[str],
    vocab_size: int | None,
    min_count: int,
    max_length: int | None,
    prefer_again: int,
) -> None:
    config = WordEncodingConfig(tokenizer="book", vocab_size=vocab_size, min_count=min_count, max_length=max_length)
    folder, texts = tmp_path_factory.mktemp("encoded"), {"test": test, "train": train}
    try:
        expected = train_encoder(config, [train])
    except DataError:
        with pytest.raises(DataError, match="no token"):
            encode(texts, folder, config)
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHARACTERS_PER_CHUNK", 20)
        patch.setattr(module, "NUMBERS_PER_BLOCK", 3)
        patch.setattr(module, "CHARACTERS_OF_FIRST_CHUNK", 10)
        patch.setattr(module, "PREFER_AGAIN", prefer_again)
        statistics = encode(texts, folder, config)
    assert load_encoder(folder).vocabulary == expected.vocabulary
    for split, of_split in texts.items():
        singly = [expected.encode(text) for text in of_split]
        tokens = np.fromfile(folder / f"{split}.tokens.bin", token_dtype(len(expected.vocabulary)))
        flat = list(chain.from_iterable(singly))
        assert tokens.tolist() == flat
        assert np.diff(np.load(folder / f"{split}.offsets.npy")).tolist() == [len(ids) for ids in singly]
        unknown = flat.count(1) / len(flat)
        assert statistics[split] == {"items": len(of_split), "tokens": len(flat), "unk_fraction": unknown}


def test_each_text_is_read_once_and_nothing_but_the_corpus_is_left(tmp_path: Path) -> None:
    asked = []

    def chunks(split: str) -> Iterator[list[str]]:
        asked.append(split)
        yield ["good movie", "bad"]

    encode_book(chunks, {"validation": 2, "train": 2}, WordEncodingConfig(tokenizer="book"), tmp_path)
    assert asked == ["train", "validation"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "encoder.json",
        "train.offsets.npy",
        "train.tokens.bin",
        "validation.offsets.npy",
        "validation.tokens.bin",
        "vocabulary.json",
    ]


def test_an_error_of_the_reader_comes_through_and_leaves_nothing(tmp_path: Path) -> None:
    def chunks(_: str) -> Iterator[list[str]]:
        yield ["good movie"] * 50
        raise DataError("damaged")

    with pytest.raises(DataError, match="damaged"):
        encode_book(chunks, {"train": 100}, WordEncodingConfig(tokenizer="book"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_progress_is_told_from_nothing_to_everything(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    config = WordEncodingConfig(tokenizer="book")
    encode_book(lambda _: iter([["a b"], ["b"]]), {"train": 2}, config, tmp_path, lambda *said: told.append(said))
    assert told[0] == ("tokenising train", 0, 2)
    assert ("tokenising train", 2, 2) in told
    assert told[-1] == ("encoding train", 3, 3)
