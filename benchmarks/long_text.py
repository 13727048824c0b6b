"""Texts of any length: a few megabytes repeated, each time from another place on and with other letters changed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PROSE_CHARACTERS = 4_000_000
CHANGED_SHARE = 0.02
"""Of the places of a copy; those that hold a small letter get another one."""
_LETTERS = np.arange(ord("a"), ord("z") + 1, dtype=np.uint8)


def write_long_text(path: Path, num_bytes: int, seed: int, base: str | None = None) -> None:
    """Write ``num_bytes`` of UTF-8, or up to three fewer, where the last character would be cut.

    base: what is repeated; None takes the sample's prose.
    """
    source = np.frombuffer((base or _prose(min(PROSE_CHARACTERS, num_bytes), seed)).encode(), np.uint8)
    generator = np.random.default_rng(seed)
    left = num_bytes
    with path.open("wb") as file:
        while left > 0:
            block = np.roll(source, -_start_of_a_character(source, int(generator.integers(len(source)))))
            change_letters(block, generator)
            file.write(block.tobytes() if left >= len(block) else _whole_characters(block[:left]))
            left -= len(block)


def change_letters(block: NDArray[np.uint8], generator: np.random.Generator) -> None:
    """Give some of a text's small letters, its UTF-8 in an array, another value in place."""
    places = generator.integers(0, len(block), int(len(block) * CHANGED_SHARE))
    places = places[(block[places] >= _LETTERS[0]) & (block[places] <= _LETTERS[-1])]
    block[places] = generator.choice(_LETTERS, len(places))


def _prose(num_characters: int, seed: int) -> str:
    from unroll.data.sample import make_prose

    return make_prose(num_characters, seed).text


def _start_of_a_character(source: NDArray[np.uint8], place: int) -> int:
    """The place, or the next one that is no continuation byte; the first byte of all is none."""
    while place < len(source) and source[place] & 0xC0 == 0x80:
        place += 1
    return place


def _whole_characters(block: NDArray[np.uint8]) -> bytes:
    return block.tobytes().decode(errors="ignore").encode()
