"""A user's plain text file, read and rewritten in constant memory: UTF-8, no byte-order mark, ``\\n`` line ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unroll.data.text import code_points
from unroll.errors import DataError

MIN_CHARACTERS = 1_000
MIN_TEST_CHARACTERS = 100
_CHUNK = 1 << 20


@dataclass(frozen=True)
class TextFacts:
    """What a copied text holds."""

    characters: int
    distinct: int


def copy_text(source: Path, target: Path, minimum: int) -> TextFacts:
    """Write ``source`` to ``target`` with ``\\n`` line ends and without a byte-order mark.

    Raises DataError: no such file, not UTF-8, binary (NUL characters), or fewer than ``minimum`` characters.
    """
    characters, codes = 0, set[int]()
    with target.open("w", encoding="utf-8", newline="") as file:
        for piece in iter_unix_lines(source):
            file.write(piece)
            characters += len(piece)
            codes.update(np.flatnonzero(np.bincount(code_points(piece))).tolist())
    if characters < minimum:
        raise DataError(
            f"{source} holds {characters:,} characters; expected at least {minimum:,}. Give a longer text, "
            "or try --set data.source=sample."
        )
    return TextFacts(characters, len(codes))


def iter_unix_lines(source: Path) -> Iterator[str]:
    """Pieces of a UTF-8 text file, ``\\r\\n`` made ``\\n``, also where a pair straddles two pieces."""
    held = ""
    for piece in iter_utf8(source):
        piece = held + piece
        held = "\r" if piece.endswith("\r") else ""
        yield piece[: len(piece) - len(held)].replace("\r\n", "\n")
    if held:
        yield held


def iter_utf8(source: Path) -> Iterator[str]:
    """Pieces of a UTF-8 text file as they stand, a byte-order mark left out. Raises DataError: missing, not text."""
    require_file(source)
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            while piece := file.read(_CHUNK):
                if "\0" in piece:
                    raise DataError(f"{source} is binary (it holds NUL characters); expected UTF-8 text.")
                yield piece
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise DataError(
            f"{source} is not UTF-8 text (byte 0x{byte:02x}: {error.reason}); save it as UTF-8, "
            "for example with: iconv -f latin1 -t utf-8"
        ) from error


def require_file(path: Path) -> None:
    """Raise DataError unless ``path`` is a readable file."""
    if path.is_dir():
        raise DataError(f"{path} is a folder; expected a file.")
    if not path.is_file():
        raise DataError(f"There is no file {path}; check data.source and data.test_source.")
    try:
        path.open("rb").close()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check its permissions.") from error
