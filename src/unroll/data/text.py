"""What a text is made of: the book's words, and characters as numbers."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

_TAG = re.compile(r"<[^>]*>")
# The book's pattern also names D and P as mouths, but it is searched in lower-cased text, where they never occur.
_EMOTICON = re.compile(r"[:;=]-?[()]")
_WORD = re.compile(r"\w+")
_SURROGATE = re.compile("[\ud800-\udfff]")


def tokenize_book(text: str) -> list[str]:
    """Lower-cased words in order, then the emoticons `:)`, `;(`, `=)` and their like without their noses.

    The tokens are those of Raschka, Liu and Mirjalili, *Machine Learning with PyTorch and Scikit-Learn* (2022),
    chapter 15, "Project one", its two oddities included: words on both sides of a tag grow together, and the first
    emoticon sticks to the last word of a text that ends in a word character.
    """
    plain = plain_text(text)
    words = _WORD.findall(plain)
    emoticons = [emoticon.replace("-", "") for emoticon in _EMOTICON.findall(plain)]
    if words and emoticons and plain.endswith(words[-1]):
        words[-1] += emoticons.pop(0)
    return words + emoticons


def plain_text(text: str) -> str:
    """The text without tags and in lower case, in which `tokenize_book` looks for words and emoticons."""
    return _drop_tags(text).lower()


def is_word(character: str) -> bool:
    """Whether the character is part of a word, for `tokenize_book`."""
    return _WORD.fullmatch(character) is not None


def find_book_tokens(text: str) -> list[tuple[int, int]]:
    """Where each of `tokenize_book`'s tokens stands in the text: first code point, and the one after its last.

    A token that grew together from both sides of a tag covers the tag too.
    """
    tags = [range(*tag.span()) for tag in _TAG.finditer(text, 0, text.rfind(">") + 1)]
    in_tags = {position for tag in tags for position in tag}
    # lower-casing makes two characters of \u0130: both come from the same place
    origin = [position for position, char in enumerate(text) if position not in in_tags for _ in char.lower()]
    plain = plain_text(text)

    def span(match: re.Match[str]) -> tuple[int, int]:
        return origin[match.start()], origin[match.end() - 1] + 1

    words = list(_WORD.finditer(plain))
    emoticons = list(_EMOTICON.finditer(plain))
    spans = [span(word) for word in words]
    if words and emoticons and words[-1].end() == len(plain):
        emoticons.pop(0)  # it sticks to the last word, whose place stands for both
    return spans + [span(emoticon) for emoticon in emoticons]


def code_points(text: str) -> NDArray[np.uint32]:
    """The text's Unicode code points, (length,), lone surrogates among them."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def replace_surrogates(text: str) -> str:
    """The text with lone surrogates, which UTF-8 cannot carry, replaced by U+FFFD."""
    return text if text.isascii() else _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)


def _drop_tags(text: str) -> str:
    # No tag ends after the last ">"; searching there would take quadratic time in a text full of "<".
    end = text.rfind(">") + 1
    return _TAG.sub("", text[:end]) + text[end:]
