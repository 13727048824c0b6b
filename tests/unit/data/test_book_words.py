from __future__ import annotations

import os
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from unroll.data.book_words import BookWords, truncate_flat
from unroll.data.encoders import truncate
from unroll.data.text import tokenize_book
from unroll.data.token_files import FlatChunk

# What could go wrong at a seam: tags, emoticons, NUL, lone surrogates, final sigma, letters whose lower case is longer
# (dotted I) or shorter (Kelvin, sharp S), marks in no word, words on both sides of eight and sixteen bytes.
PIECES = [
    "\N{KELVIN SIGN}", "\N{ANGSTROM SIGN}", "\N{LATIN SMALL LETTER DOTLESS I}",
    *"abIZ_09 <>:;=-()\0\n\t.ΣσςİẞßéÉшШǅ😀𐐀\u0301\u00a0\u2028²½",
    "\ud800", "\udfff", "<br />", "<b", ":)", ";-(", "=-)", ":-", "<:)>", "ΟΔΟΣ", "seven77", "eight888", "nine99999",
    "exactlysixteen16", "seventeenletters1", "éééé", "ééééé",
]  # fmt: skip
TEXT = st.lists(st.one_of(st.sampled_from(PIECES), st.characters())).map("".join)


def tokens_of(words: BookWords, chunk: FlatChunk) -> list[list[str]]:
    ids, lengths = chunk
    assert len(ids) == lengths.sum()
    tokens = words.tokens
    return [[tokens[number] for number in item] for item in np.split(ids, np.cumsum(lengths)[:-1])]


def plainly(texts: list[str]) -> list[list[str]]:
    return [tokenize_book(text) or [""] for text in texts]


@settings(deadline=None, max_examples=500)
@given(st.lists(TEXT, min_size=1))
@example([":)", "end :) ;(", "", ":) end", "<a", "b>", ">", "<", "<br />", "x<y", ":", ")", "\0", "a\0b"])
@example(["ΟΔΟΣ", "ΟΔΟΣ<br>Δ", "ΟΔΟΣ\ud800Δ", "ΟΔΟΣ\0Δ", "<Σ>İ", "a\N{KELVIN SIGN}", ":) \u0301", "x\u0301 :)"])
def test_the_tokens_are_those_of_the_texts_one_by_one(texts: list[str]) -> None:
    words = BookWords()
    assert tokens_of(words, words(texts)) == plainly(texts)


@settings(deadline=None, max_examples=200)
@given(st.lists(TEXT, min_size=1), st.lists(TEXT, min_size=1))
def test_frequent_words_are_found_as_before_and_only_faster(first: list[str], second: list[str]) -> None:
    words = BookWords()
    ids, _ = words(first)
    words.prefer(np.bincount(ids))
    assert tokens_of(words, words(second)) == plainly(second)
    again, _ = words(first)
    assert again.tolist() == ids.tolist()


def test_words_that_begin_alike_are_told_apart_whatever_is_frequent() -> None:
    texts = [" ".join("w" * size for size in range(1, 40)), " ".join("wwwwwwww" + "é" * size for size in range(9))]
    words = BookWords()
    assert tokens_of(words, words(texts)) == plainly(texts)
    words.prefer(np.ones(len(words), np.int64))
    assert tokens_of(words, words([*texts, "wwwwwwwx wwwwwwwwwx"])) == plainly([*texts, "wwwwwwwx wwwwwwwwwx"])


@pytest.mark.parametrize("stride", [1, 0x11000])
def test_every_character_there_is_is_treated_as_in_a_single_text(stride: int) -> None:
    # Sixteen to a text; by the second stride a letter stands among others than its neighbours.
    codes = np.arange(sys.maxunicode + 1).reshape(16, -1).T if stride > 1 else np.arange(sys.maxunicode + 1)
    texts = [
        "".join(f"A{chr(code)}B{chr(code)} <{chr(code)}> " for code in row) for row in codes.reshape(-1, 16).tolist()
    ]
    words = BookWords()
    for start in range(0, len(texts), 10_000):
        part = texts[start : start + 10_000]
        assert tokens_of(words, words(part)) == plainly(part)


def test_no_text_has_no_tokens() -> None:
    ids, lengths = BookWords()([])
    assert (len(ids), len(lengths)) == (0, 0)


def test_threads_agree_on_the_numbers() -> None:
    chunks = [[f"common {number} word{number % 9} :)"] * 3 for number in range(400)]
    words = BookWords()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(words, chunks))
    assert len(set(words.tokens)) == len(words.tokens) == len(words)
    for chunk, result in zip(chunks, results, strict=True):
        assert tokens_of(words, result) == plainly(chunk)
    counts = Counter(chain.from_iterable(ids.tolist() for ids, _ in results))
    assert counts[int(words.ids(["common"])[0])] == 1_200


@pytest.mark.parametrize("unit", ["a", "<", "<a", "<a>", ">", ":)", "!?", "\0", "😀", "Σ", "İ", "\ud800", " ", "a "])
def test_a_megabyte_of_one_thing_takes_no_quadratic_time(unit: str) -> None:
    words = BookWords()
    started = time.monotonic()
    words([unit * (1_000_000 // len(unit)), unit])
    assert time.monotonic() - started < 5


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(1, 99), min_size=1)), st.none() | st.integers(2, 12))
def test_items_are_cut_as_each_by_itself(items: list[list[int]], max_length: int | None) -> None:
    arrays = [np.array(item, np.int32) for item in items]
    flat = np.concatenate([np.empty(0, np.int32), *arrays]), np.array([len(item) for item in items], np.int64)
    ids, lengths = truncate_flat(flat, max_length)
    cut = [truncate(array, max_length) for array in arrays]
    assert ids.tolist() == [number for item in cut for number in item.tolist()]
    assert lengths.tolist() == [len(item) for item in cut]


@pytest.mark.corpus
@pytest.mark.skipif("UNROLL_MIRROR" not in os.environ, reason="needs UNROLL_MIRROR, a folder with the IMDb reviews")
def test_imdb_reviews_have_the_tokens_of_each_by_itself() -> None:
    import pyarrow.parquet as pq

    path = Path(os.environ["UNROLL_MIRROR"]) / "imdb" / "plain_text" / "test-00000-of-00001.parquet"
    texts = pq.read_table(path, columns=["text"]).column(0).to_pylist()
    words = BookWords()
    for start in range(0, len(texts), 5_000):
        part = texts[start : start + 5_000]
        chunk = words(part)
        assert tokens_of(words, chunk) == plainly(part)
        words.prefer(np.bincount(chunk[0]))
