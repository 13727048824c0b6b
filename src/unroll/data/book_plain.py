"""Many texts as one run of bytes in which the book's words and emoticons can be seen by NumPy, without the GIL.

    \\0 text \\0 text \\0 ... text \\0        UTF-8, tags gone, lower case, every byte from 128 on part of a word

What `tokenize_book` does to one text is done here to millions of bytes by arithmetic on whole arrays. Python's own
`str.lower` and `re` stay the judges of every character beyond ASCII: each is asked once about each.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unroll.data.text import is_word, plain_text

Bytes = NDArray[np.uint8]
Positions = NDArray[np.int64]

READ_AHEAD = 16
_SPACE, _LESS = ord(" "), ord("<")
_LEAD_BITS = {2: 0xC0, 3: 0xE0, 4: 0xF0}
"""High bits of the first byte of a character of so many bytes in UTF-8."""
_UNSEEN, _ODD = 0, 0xFFFFFFFF


class PlainTexts(NamedTuple):
    """Texts without tags and in lower case, one after the other."""

    data: Bytes
    """Ends in READ_AHEAD separators, so that this many bytes may be read from any place in a text."""
    separators: Positions
    """(texts + 1,); text i is data[separators[i] + 1 : separators[i + 1]]."""
    in_word: NDArray[np.bool_]
    """Of each byte, whether it is part of a word."""


def join_plain(texts: Sequence[str]) -> PlainTexts:
    """The texts as `plain_text` makes them, but with spaces for all signs beyond ASCII that are in no word."""
    data, separators = _without_tags(*_join(texts))
    in_word = (data | 0x20) - ord("a") < 26
    data |= in_word.view(np.uint8) << 5
    odd = _settle_beyond_ascii(data)
    if len(odd):
        settled = list(texts)
        for index in np.unique(np.searchsorted(separators, odd) - 1).tolist():
            settled[index] = plain_text(settled[index])
        return join_plain(settled)  # not odd a second time: what is in lower case stays as it is
    in_word |= data - ord("0") < 10
    in_word |= data == ord("_")
    in_word |= data >= 0x80
    return PlainTexts(data, separators, in_word)


def ranges(starts: Positions, lengths: Positions) -> Positions:
    """The positions start, start + 1, ... of each range one after the other, (sum of lengths,)."""
    shifts: Positions = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    return shifts + np.arange(len(shifts))


def _join(texts: Sequence[str]) -> tuple[Bytes, Positions]:
    # A lone surrogate becomes "?", a NUL a space: neither is part of a word, a tag's end, an emoticon, or a letter.
    encoded = [text.encode("utf-8", "replace") for text in texts]
    padding = bytes(READ_AHEAD - 1)
    joined = b"\0".join([b"", *encoded, padding])
    if joined.count(0) > len(texts) + READ_AHEAD:
        joined = b"\0".join([b"", *(text.replace(b"\0", b" ") for text in encoded), padding])
    separators = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) + 1 for text in encoded], out=separators[1:])
    return np.frombuffer(joined, np.uint8), separators


def _without_tags(data: Bytes, separators: Positions) -> tuple[Bytes, Positions]:
    """A copy without what `<[^>]*>` matches in each text."""
    brackets = np.flatnonzero((data & 0xFD) == _LESS)  # "<" and ">", which differ in one bit
    if len(brackets) == 0:
        return data.copy(), separators
    is_less = data[brackets] == _LESS
    text_of = np.searchsorted(separators, brackets)
    # Of a run of "<" the first opens a tag, where the next bracket of the text is a ">".
    after_less = np.zeros(len(brackets), np.bool_)
    after_less[1:] = is_less[:-1] & (text_of[1:] == text_of[:-1])
    first_of_run = np.flatnonzero(is_less & ~after_less)
    closing = np.flatnonzero(~is_less & after_less)
    opens = brackets[first_of_run[np.searchsorted(first_of_run, closing) - 1]]
    sizes = brackets[closing] + 1 - opens
    dropped = np.concatenate([[0], np.cumsum(sizes)])
    return np.delete(data, ranges(opens, sizes)), separators - dropped[np.searchsorted(opens, separators)]


def _settle_beyond_ascii(data: Bytes) -> Positions:
    """Lower-case the characters beyond ASCII, and make spaces of those in no word, in place.

    Returns the positions of odd ones, left as they are: their lower case has another length or depends on neighbours.
    """
    leads = np.flatnonzero(data >= 0xC0)
    if len(leads) == 0:
        return leads
    lead_bytes = data[leads]
    num_bytes = 2 + (lead_bytes >= 0xE0) + (lead_bytes >= 0xF0)
    odd = [_settle_same_length(data, leads[num_bytes == size], size) for size in _LEAD_BITS]
    return np.sort(np.concatenate(odd))


def _settle_same_length(data: Bytes, leads: Positions, size: int) -> Positions:
    if len(leads) == 0:
        return leads
    codes: NDArray[np.uint32] = data[leads].astype(np.uint32) ^ np.uint32(_LEAD_BITS[size])
    for place in range(1, size):
        codes = np.left_shift(codes, 6, dtype=np.uint32) | (data[leads + place] & 0x3F)
    plain = _plain_codes(codes)
    changed = np.flatnonzero((plain != codes) & (plain != _ODD))
    leads_changed, plain_changed = leads[changed], plain[changed]
    for place in range(size):
        shifted = plain_changed >> 6 * (size - 1 - place)
        byte = shifted | _LEAD_BITS[size] if place == 0 else shifted & 0x3F | 0x80
        data[leads_changed + place] = np.where(plain_changed == _SPACE, _SPACE, byte)
    odd: Positions = leads[plain == _ODD]
    return odd


def _plain_codes(codes: NDArray[np.uint32]) -> NDArray[np.uint32]:
    table = _plain_table()
    plain = table[codes]
    unseen = np.unique(codes[plain == _UNSEEN])
    if len(unseen) == 0:
        return plain
    for code in unseen.tolist():
        table[code] = _plain_code(chr(code))
    return table[codes]


@cache
def _plain_table() -> NDArray[np.uint32]:
    return np.full(0x110000, _UNSEEN, np.uint32)


def _plain_code(character: str) -> int:
    lower = character.lower()
    # A capital sigma at the end of a word has a lower case of its own.
    if character == "\N{GREEK CAPITAL LETTER SIGMA}" or len(lower.encode()) != len(character.encode()):
        return _ODD
    return ord(lower) if is_word(lower) else _SPACE
