from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unroll.data import text_files
from unroll.data.text_files import copy_text, iter_unix_lines
from unroll.errors import DataError


@given(text=st.text(alphabet="ab\r\né", max_size=40), chunk=st.integers(1, 5))
def test_line_ends_become_unix_wherever_the_file_is_cut(
    tmp_path_factory: pytest.TempPathFactory, text: str, chunk: int
) -> None:
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_text(text, encoding="utf-8", newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_files, "_CHUNK", chunk)
        assert "".join(iter_unix_lines(path)) == text.replace("\r\n", "\n")


def test_a_copy_has_no_byte_order_mark_and_is_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffé".encode() + b"a\r\n" * 500)
    facts = copy_text(tmp_path / "a.txt", tmp_path / "b.txt", 1_000)
    assert (tmp_path / "b.txt").read_bytes() == "é".encode() + b"a\n" * 500
    assert (facts.characters, facts.distinct) == (1_001, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"short", "5 characters; expected at least 1,000"),
        (b"", "0 characters"),
        (b"text\0" * 500, "binary"),
        (b"\x89PNG\r\n\x1a\n" * 500, "not UTF-8"),
    ],
)
def test_what_is_no_text_of_some_length_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        copy_text(tmp_path / "a.txt", tmp_path / "b.txt", 1_000)


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_another_encoding_is_refused_with_a_way_out(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_text("déjà vu " * 500, encoding=encoding)
    with pytest.raises(DataError, match="save it as UTF-8"):
        copy_text(tmp_path / "a.txt", tmp_path / "b.txt", 1_000)


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file"):
        copy_text(tmp_path / "absent.txt", tmp_path / "b.txt", 1)
    with pytest.raises(DataError, match="is a folder"):
        copy_text(tmp_path, tmp_path / "b.txt", 1)
