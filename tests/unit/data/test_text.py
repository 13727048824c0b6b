from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unroll.data.encoders import count_book_tokens
from unroll.data.text import code_points, replace_surrogates, tokenize_book

# Worked out by hand from the chapter's steps: tags out, emoticons found, runs of other than word characters to a space.
WORKED_OUT = [
    ("", []),
    ("<br />", []),
    ("A Great movie!", ["a", "great", "movie"]),
    ("good.<br /><br />Bad", ["good", "bad"]),
    ("good<br />bad", ["goodbad"]),
    ("don't stop", ["don", "t", "stop"]),
    ("snake_case 9.5/10", ["snake_case", "9", "5", "10"]),
    ("I like it :)", ["i", "like", "it", ":)"]),
    (":-( no ;) yes.", ["no", "yes", ":(", ";)"]),
    (":) it ended here", ["it", "ended", "here:)"]),
    (":-) =( one two", ["one", "two:)", "=("]),
    ("grin :D :P tongue", ["grin", "d", "p", "tongue"]),
    (":)", [":)"]),
    ("a < b > c", ["a", "c"]),
    ("a < b", ["a", "b"]),
    ("a <b <c> d", ["a", "d"]),
    ("a > b < c", ["a", "b", "c"]),
    ("Ünïcode ÉTÉ", ["ünïcode", "été"]),
]


@pytest.mark.parametrize(("text", "tokens"), WORKED_OUT)
def test_the_books_tokens_are_those_worked_out_by_hand(text: str, tokens: list[str]) -> None:
    assert tokenize_book(text) == tokens


@settings(deadline=None)
@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("ab :;=-()<>\ud800\0"))))
def test_book_tokens_are_words_with_at_most_one_emoticon_at_their_end(text: str) -> None:
    for token in tokenize_book(text):
        assert re.fullmatch(r"\w+|\w*[:;=][()]", token)


@settings(deadline=None)
@given(st.lists(st.from_regex(r"[a-z]+", fullmatch=True)))
def test_plain_words_come_back_in_order(words: list[str]) -> None:
    assert tokenize_book(" ".join(words).upper()) == words


def test_a_megabyte_of_open_brackets_takes_no_quadratic_time() -> None:
    started = time.monotonic()
    assert tokenize_book("<" * 1_000_000 + "end") == ["end"]
    assert time.monotonic() - started < 2


@settings(deadline=None)
@given(st.text(alphabet=st.characters()))
def test_code_points_are_those_of_the_characters(text: str) -> None:
    assert code_points(text).tolist() == [ord(character) for character in text]


@settings(deadline=None)
@given(st.text(alphabet=st.one_of(st.characters(), st.sampled_from("\ud800\udfff"))))
def test_without_surrogates_a_text_is_utf8_of_the_same_length(text: str) -> None:
    clean = replace_surrogates(text)
    clean.encode()
    assert len(clean) == len(text)
    assert all(new == old or "\ud800" <= old <= "\udfff" for new, old in zip(clean, text, strict=True))


@pytest.mark.corpus
@pytest.mark.skipif("UNROLL_MIRROR" not in os.environ, reason="needs UNROLL_MIRROR, a folder with the IMDb reviews")
def test_twenty_thousand_imdb_reviews_hold_about_as_many_words_as_the_book_counts() -> None:
    import pyarrow.parquet as pq

    path = Path(os.environ["UNROLL_MIRROR"]) / "imdb" / "plain_text" / "train-00000-of-00001.parquet"
    texts = pq.read_table(path, columns=["text"]).column(0).to_pylist()
    # Four in five of each class; the book draws its 20,000 at random and counts 69,023 with the two special tokens.
    counts = count_book_tokens(text for row, text in enumerate(texts) if row % 5)
    assert 68_000 < len(counts) < 70_500
