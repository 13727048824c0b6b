from __future__ import annotations

import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unroll.config import CharEncodingConfig, WordEncodingConfig
from unroll.data.encoders import (
    CharEncoder,
    TextEncoder,
    copy_encoder,
    count_characters,
    load_encoder,
    train_encoder,
    truncate,
)
from unroll.data.text import tokenize_book
from unroll.data.vocabulary import Vocabulary
from unroll.errors import CheckpointError, DataError

TRAINING_TEXTS = [
    "The movie wasn't good, and I didn't like it!<br /><br />The end.",
    "A good movie; I like it. It's a good, good end :)",
    "Begin the movie again: the beginning is good 😀 שלום",
]
KINDS = ["book", "word", "subword", "char"]
NASTY = st.text(
    alphabet=st.one_of(st.characters(), st.sampled_from("abit 'n\N{RIGHT SINGLE QUOTATION MARK}:)(-<>/.!\0\ud800😀ש▁"))
)


@cache
def encoder_of(kind: str, max_length: int | None = None, vocab_size: int | None = None) -> TextEncoder:
    config = (
        CharEncodingConfig(vocab_size=vocab_size)
        if kind == "char"
        else WordEncodingConfig.model_validate({"tokenizer": kind, "vocab_size": vocab_size, "max_length": max_length})
    )
    return train_encoder(config, iter([TRAINING_TEXTS[:2], TRAINING_TEXTS[2:]]))


def tokens_of(kind: str, text: str) -> list[str]:
    encoder = encoder_of(kind)
    return [encoder.vocabulary.tokens[token_id] for token_id in encoder.encode(text)]


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(NASTY)
def test_any_text_has_ids_within_the_vocabulary_and_never_that_of_padding(kind: str, text: str) -> None:
    encoder = encoder_of(kind)
    ids = encoder.encode(text)
    assert len(ids) >= 1
    assert all(0 < token_id < len(encoder.vocabulary) for token_id in ids)
    assert isinstance(encoder.decode(ids), str)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(st.lists(NASTY, max_size=5))
def test_a_batch_is_encoded_as_its_texts_one_by_one(kind: str, texts: list[str]) -> None:
    encoder = encoder_of(kind)
    singly = [encoder.encode(text) for text in texts]
    assert [ids.tolist() for ids in encoder.encode_batch(texts)] == singly
    flat, lengths = encoder.encode_flat(texts)
    assert flat.tolist() == [token_id for ids in singly for token_id in ids]
    assert lengths.tolist() == [len(ids) for ids in singly]


@pytest.fixture(scope="module")
def reloaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, TextEncoder]:
    encoders = {}
    for kind in KINDS:
        folder, copy = tmp_path_factory.mktemp(kind), tmp_path_factory.mktemp("copy")
        encoder_of(kind, max_length=5).save(folder)
        copy_encoder(folder, copy)
        encoders[kind] = load_encoder(copy)
    return encoders


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(text=NASTY)
def test_a_saved_and_copied_encoder_loads_as_one_that_encodes_the_same(
    reloaded: dict[str, TextEncoder], kind: str, text: str
) -> None:
    assert reloaded[kind].encode(text) == encoder_of(kind, max_length=5).encode(text)


@settings(deadline=None)
@given(st.text(alphabet=sorted(set("".join(TRAINING_TEXTS))), min_size=1))
def test_known_characters_come_back_exactly(text: str) -> None:
    encoder = encoder_of("char")
    assert encoder.decode(encoder.encode(text)) == text


def test_an_unknown_character_is_unk_and_decodes_to_the_replacement_character() -> None:
    encoder = encoder_of("char")
    assert encoder.encode("a\U0010ffff\ud800Q")[1:] == [1, 1, 1]
    assert encoder.decode([*encoder.encode("aQ"), 0]) == "a\N{REPLACEMENT CHARACTER}"


@settings(deadline=None)
@given(NASTY)
def test_book_ids_are_those_of_the_books_tokens(text: str) -> None:
    encoder = encoder_of("book")
    assert encoder.encode(text) == (encoder.vocabulary.ids(tokenize_book(text)) or [1])


def test_words_keep_negation_visible_and_drop_tags() -> None:
    assert tokens_of("word", "I wasn't <br/>LIKE it didn\N{RIGHT SINGLE QUOTATION MARK}t.") == [
        "i",
        "was",
        "n't",
        "like",
        "it",
        "did",
        "n't",
        ".",
    ]
    assert tokens_of("word", "It's GOOD:)") == ["it", "'s", "good", ":", ")"]


def test_a_run_of_one_mark_counts_as_three_at_most() -> None:
    assert tokens_of("word", "good!!!!!!!!") == ["good", "!", "!", "!"]
    assert tokens_of("word", "good!!") == ["good", "!", "!"]


def test_word_ids_go_by_frequency_as_in_a_vocabulary_built_by_hand() -> None:
    config = WordEncodingConfig(tokenizer="word", vocab_size=5)
    encoder = train_encoder(config, iter([["the the b a the b a c"]]))
    assert encoder.vocabulary == Vocabulary(("<pad>", "<unk>", "the", "a", "b"))


def test_subwords_write_frequent_words_whole_and_rare_ones_in_pieces() -> None:
    texts = [["good movie"] * 50 + ["moody"]]
    encoder = train_encoder(WordEncodingConfig(tokenizer="subword", vocab_size=20), iter(texts))
    assert len(encoder.encode("good movie")) == 2
    assert len(encoder.encode("moody")) > 1
    assert encoder.decode(encoder.encode("good moody movie")) == "good moody movie"


@pytest.mark.parametrize("kind", ["book", "word", "subword"])
def test_known_words_come_back_joined_by_spaces(kind: str) -> None:
    encoder = encoder_of(kind)
    assert encoder.decode([*encoder.encode("The  GOOD\nmovie"), 0, 0]) == "the good movie"


@pytest.mark.parametrize("kind", ["book", "word", "subword", "char"])
@pytest.mark.parametrize("text", ["<pad>", "<unk>", "good <pad> movie", "<PAD> <Unk>", "a < pad > b"])
def test_special_tokens_spelled_out_by_a_user_are_text(kind: str, text: str) -> None:
    encoder = encoder_of(kind)
    assert 0 not in encoder.encode(text)
    if kind in ("book", "word", "subword") and text.startswith("good"):
        assert encoder.encode(text) == encoder.encode("good movie")


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_without_tokens_is_one_unk(kind: str) -> None:
    assert encoder_of(kind).encode("") == [1]


@settings(deadline=None)
@given(st.lists(st.integers(2, 9), min_size=1), st.integers(2, 12))
def test_truncation_keeps_the_first_and_the_last_half(ids: list[int], max_length: int) -> None:
    kept = truncate(np.array(ids, np.int32), max_length).tolist()
    if len(ids) <= max_length:
        assert kept == ids
    else:
        head, tail = (max_length + 1) // 2, max_length // 2
        assert kept == ids[:head] + ids[-tail:]
        assert len(kept) == max_length


@pytest.mark.parametrize("kind", ["book", "word", "subword"])
def test_an_encoder_never_gives_more_than_max_length_ids(kind: str) -> None:
    long, short = encoder_of(kind), encoder_of(kind, max_length=5)
    text = "the movie is good and I like the end again"
    everything = long.encode(text)
    assert len(everything) > 5
    assert short.encode(text) == everything[:3] + everything[-2:]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("unit", ["a", "<", "<a", "!?", "wasn't", "\0", "😀", "שלום ", "\ud800", " "])
def test_a_megabyte_of_one_thing_is_encoded_in_seconds(kind: str, unit: str) -> None:
    started = time.monotonic()
    assert len(encoder_of(kind, max_length=400).encode(unit * (300_000 // len(unit)))) >= 1
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("kind", KINDS)
def test_vocab_size_bounds_the_vocabulary(kind: str) -> None:
    assert len(encoder_of(kind, vocab_size=40).vocabulary) <= 40


@pytest.mark.parametrize("kind", ["book", "word", "char"])
@pytest.mark.parametrize("texts", [[], [[]], [["", ""]], [["unique"]]])
def test_training_texts_without_a_kept_token_are_a_data_error(kind: str, texts: list[list[str]]) -> None:
    settings_ = {"tokenizer": kind, "min_count": 3}
    config = (CharEncodingConfig if kind == "char" else WordEncodingConfig).model_validate(settings_)
    with pytest.raises(DataError, match="no token"):
        train_encoder(config, iter(texts))


@settings(deadline=None)
@given(st.lists(st.lists(NASTY, max_size=3), max_size=3))
def test_characters_are_counted_across_chunks(chunks: list[list[str]]) -> None:
    text = "".join(text for chunk in chunks for text in chunk)
    assert count_characters(chunks) == {character: text.count(character) for character in set(text)}


def test_characters_are_encoded_by_the_million_in_a_second() -> None:
    encoder, text = encoder_of("char"), TRAINING_TEXTS[0] * 50_000
    assert isinstance(encoder, CharEncoder)
    started = time.monotonic()
    encoder.encode_batch([text])
    assert len(text) / (time.monotonic() - started) > 2e6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["encoder.json", "vocabulary.json", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "changed"])
def test_a_damaged_file_of_an_encoder_is_a_checkpoint_error(tmp_path: Path, kind: str, name: str, damage: str) -> None:
    encoder_of(kind).save(tmp_path)
    path = tmp_path / name
    if not path.exists():
        assert kind in ("book", "char")
        assert name == "tokenizer.json"
        return
    content = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    if damage == "changed":
        path.write_bytes(content.replace(b"o", b"0"))
    with pytest.raises(CheckpointError):
        load_encoder(tmp_path)


def test_an_encoder_refuses_the_vocabulary_of_another(tmp_path: Path) -> None:
    encoder_of("book").save(tmp_path)
    encoder_of("char").vocabulary.save(tmp_path)
    with pytest.raises(CheckpointError, match="another encoder"):
        load_encoder(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None)
@given(NASTY)
def test_every_id_has_a_place_in_the_text(kind: str, text: str) -> None:
    encoder = encoder_of(kind)
    spans = encoder.spans(text)
    assert len(spans) == len(encoder.encode(text))
    assert all(0 <= start <= stop <= len(text) for start, stop in spans)


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("word", "I didn't<br />like it!", ["I", "did", "n't", "like", "it", "!"]),
        ("subword", "the movie", ["the", "movie"]),
        ("char", "a😀", ["a", "😀"]),
        ("book", "A good :-) movie, İt", ["A", "good", "movie", "İ", "t"]),
        ("book", "good<br />bad. :(", ["good<br />bad", ":("]),
        ("book", "a < b > c", ["a ", "c"]),
        ("word", "", [""]),
    ],
)
def test_places_are_those_of_the_words(kind: str, text: str, words: list[str]) -> None:
    found = [text[start:stop] for start, stop in encoder_of(kind).spans(text)]
    assert [word.strip() for word in found] == [word.strip() for word in words]


def test_places_are_cut_as_the_ids_are() -> None:
    encoder = encoder_of("word", max_length=5)
    text = "the movie is good and I like it"
    assert [text[start:stop] for start, stop in encoder.spans(text)] == ["the", "movie", "is", "like", "it"]
    assert len(encoder.encode(text)) == 5
