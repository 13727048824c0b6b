"""A text on disk answers as the str that it holds."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unroll.data import stored_text
from unroll.data.stored_text import StoredText, iter_lines, iter_pieces
from unroll.errors import DataError

TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("ab\n\r"), max_size=80)


def store(text: str, folder: Path) -> StoredText:
    path = folder / "text.txt"
    path.write_text(text, encoding="utf-8", newline="")
    return StoredText.open(path)


@settings(deadline=None)
@given(TEXTS, st.integers(4, 30), st.integers(-90, 90), st.integers(-90, 90), st.integers(0, 80), st.integers(0, 80))
def test_slices_and_stretches_are_those_of_a_str(
    tmp_path_factory: pytest.TempPathFactory, text: str, block: int, start: int, stop: int, first: int, last: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_text, "BLOCK_BYTES", block)
        stored = store(text, tmp_path_factory.mktemp("text"))
        assert len(stored) == len(text)
        assert stored[:] == text
        assert stored[start:stop] == text[start:stop]
        stretch = stored.part(range(first, last))
        assert stretch[:] == text[first:last]
        assert stretch[start:stop] == text[first:last][start:stop]


@given(TEXTS, st.integers(81, 90) | st.integers(20, 40))
def test_pieces_are_the_text_and_lines_those_of_split(text: str, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored_text, "CHARACTERS_PER_PIECE", size)
        assert "".join(iter_pieces(text)) == text
        lines = list(chain.from_iterable(iter_lines(text)))
        if max(map(len, text.split("\n"))) <= size:
            assert lines == text.split("\n")


def test_a_line_longer_than_a_piece_comes_as_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_text, "CHARACTERS_PER_PIECE", 4)
    assert list(chain.from_iterable(iter_lines("abcdefghij\nkl"))) == ["abcdefgh", "ij", "kl"]


def test_a_missing_or_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--from download"):
        StoredText.open(tmp_path / "text.txt")
    stored = store("soundé", tmp_path)
    (tmp_path / "text.txt").write_bytes("soundé".encode()[:-1])
    with pytest.raises(DataError, match="--from download"):
        stored[:]


def test_a_step_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without gaps"):
        store("abc", tmp_path)[::2]
