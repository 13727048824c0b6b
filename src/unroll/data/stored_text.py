"""A text on disk that is sliced as a str is, without ever standing in memory as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from unroll.errors import DataError

CHARACTERS_PER_PIECE = 1_000_000
BLOCK_BYTES = 1 << 20
"""Bytes between two entries of the table that finds a character's place in the file."""


class SlicedText(Protocol):
    """What a str and a `StoredText` have in common."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> str: ...


@dataclass(frozen=True, eq=False)
class StoredText:
    """A stretch of a UTF-8 file: ``len(text)`` is its characters, ``text[start:stop]`` reads some of them.

    Memory is that of the slice, and of 8 bytes for each MiB of the file.
    """

    path: Path
    positions: range
    """Which characters of the file these are."""
    characters_before: NDArray[np.int64]
    """(blocks + 1,): characters that begin before each block of BLOCK_BYTES, and those of the whole file."""

    @classmethod
    def open(cls, path: Path) -> StoredText:
        """Count the characters, in one pass over the file. Raises DataError where it cannot be read."""
        counts = [0]
        try:
            with path.open("rb") as file:
                while block := file.read(BLOCK_BYTES):
                    counts.append(int(np.count_nonzero(_begins_character(block))))
        except OSError as error:
            raise _damaged(path, error) from error
        characters_before = np.cumsum(counts, dtype=np.int64)
        return cls(path, range(int(characters_before[-1])), characters_before)

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, part: slice, /) -> str:
        """Characters of the stretch, as a str's slice gives them. Raises DataError where the file is damaged."""
        chosen = self.positions[part]
        if chosen.step != 1:
            raise ValueError(f"A stored text is read forward, without gaps; got a step of {chosen.step}.")
        if not chosen:
            return ""
        try:
            with self.path.open("rb") as file:
                start, stop = (self._byte_of(position) for position in (chosen.start, chosen.stop))
                file.seek(start)
                return file.read(stop - start).decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise _damaged(self.path, error) from error

    def part(self, positions: range) -> StoredText:
        """A stretch of this stretch; nothing is read."""
        return StoredText(self.path, self.positions[positions.start : positions.stop], self.characters_before)

    @cached_property
    def _is_ascii(self) -> bool:
        return self.path.stat().st_size == int(self.characters_before[-1])

    def _byte_of(self, position: int) -> int:
        if self._is_ascii:
            return position
        block = int(np.searchsorted(self.characters_before, position, side="right")) - 1
        if block == len(self.characters_before) - 1:
            return self.path.stat().st_size
        with self.path.open("rb") as file:
            file.seek(block * BLOCK_BYTES)
            begins = np.flatnonzero(_begins_character(file.read(BLOCK_BYTES)))
        return block * BLOCK_BYTES + int(begins[position - self.characters_before[block]])


def iter_pieces(text: SlicedText) -> Iterator[str]:
    """The whole text in pieces of CHARACTERS_PER_PIECE."""
    for start in range(0, len(text), CHARACTERS_PER_PIECE):
        yield text[start : start + CHARACTERS_PER_PIECE]


def iter_lines(text: SlicedText) -> Iterator[list[str]]:
    r"""The lines of ``text.split("\n")``, a list for each piece; a line longer than a piece comes as several."""
    held = ""
    for piece in iter_pieces(text):
        *lines, held = (held + piece).split("\n")
        if len(held) > CHARACTERS_PER_PIECE:
            lines.append(held)
            held = ""
        yield lines
    yield [held]


def _begins_character(block: bytes) -> NDArray[np.bool_]:
    # all bytes of a UTF-8 character but its first are 10xxxxxx
    begins: NDArray[np.bool_] = np.frombuffer(block, np.int8) >= -64
    return begins


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} is missing or damaged ({error}); fetch the corpus again with --from download.")
