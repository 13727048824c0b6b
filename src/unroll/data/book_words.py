"""The book's tokens of many texts at once, as numbers: what `tokenize_book` finds, found by NumPy and Arrow."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import count, islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unroll.data.book_plain import READ_AHEAD, Bytes, PlainTexts, Positions, join_plain, ranges
from unroll.data.token_files import FlatChunk, Ids

Keys = NDArray[np.uint64]

EMOTICONS = tuple(eyes + mouth for eyes in ":;=" for mouth in "()")

_SLOT_BITS = 17
# Multiplicative hashing (Knuth, The Art of Computer Programming, vol. 3, 6.4): odd numbers far from any pattern.
_HASH_FACTORS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F], np.uint64)
_KEY_BYTES = 8


class _Found(NamedTuple):
    """Where the words and emoticons of some texts stand."""

    edges: Positions
    """(2 * words,); word i is body[edges[2 * i] : edges[2 * i + 1]]."""
    bounds: Positions
    """(texts + 1,); the words of text i are bounds[i] to bounds[i + 1]."""
    emoticons: Positions
    """Of each, its place in EMOTICONS."""
    emoticon_texts: Positions
    """Of each, its text; ascending."""
    ends_in_word: NDArray[np.bool_]
    """(texts,); whether the last character of a text is part of a word."""


class _FrequentWords:
    """Ids of frequent words by their bytes: a hash table that is never changed, so that threads may share it.

    num_keys: numbers of eight bytes each in which a word must fit. body, starts, lengths: the words, the most frequent
    last: of two with one slot, the later stays. ids: of each.
    """

    def __init__(self, num_keys: int, body: Bytes, starts: Positions, lengths: Positions, ids: Positions) -> None:
        self._masks = _key_masks(num_keys)
        self._keys = np.full((num_keys, 1 << _SLOT_BITS), 2**64 - 1, np.uint64)  # no UTF-8, and no masked key
        self._ids = np.zeros(1 << _SLOT_BITS, np.int32)
        keys = self._keys_of(body, starts, lengths)
        slots = _slots(keys)
        for known, key in zip(self._keys, keys, strict=True):
            known[slots] = key
        self._ids[slots] = ids

    def look_up(self, body: Bytes, starts: Positions, lengths: Positions) -> tuple[Ids, NDArray[np.bool_]]:
        """The id of each word of the body, and whether the word is one of these; (words,) each."""
        keys = self._keys_of(body, starts, lengths)
        slots = _slots(keys)
        found = self._keys[0].take(slots) == keys[0]
        for known, key in zip(self._keys[1:], keys[1:], strict=True):
            found &= known.take(slots) == key
        return self._ids.take(slots), found

    def _keys_of(self, body: Bytes, starts: Positions, lengths: Positions) -> list[Keys]:
        # Eight bytes from every position on: what the word holds there, and what follows it, as one number.
        from_each = np.lib.stride_tricks.as_strided(body[:_KEY_BYTES].view("<u8"), (len(body) - _KEY_BYTES + 1,), (1,))
        return [
            from_each[starts + _KEY_BYTES * part if part else starts] & masks.take(lengths, mode="clip")
            for part, masks in enumerate(self._masks)
        ]


class BookWords:
    """Gives each distinct token of the book a number in the order of first sight; may be called from many threads.

    The number 0 stands for a text without a token. Which thread sees a token first is chance, so the numbers are too.
    """

    def __init__(self) -> None:
        self._ids: defaultdict[str, int] = defaultdict(count(1).__next__, {"": 0})
        self._lock = threading.Lock()
        self.prefer(np.zeros(0, np.int64))

    def __call__(self, texts: Sequence[str]) -> FlatChunk:
        """Numbers of the tokens of each text, at least one for each, and how many they are."""
        plain = join_plain(texts)
        found = _find(plain)
        ids = self._ids_of_words(plain.data[1:], found.edges)
        lengths = np.diff(found.bounds)
        texts_of_more, more = found.emoticon_texts, self.ids(EMOTICONS)[found.emoticons]
        if len(more):
            stick = self._stick_emoticons(plain.data[1:], found, ids)
            texts_of_more, more = np.delete(texts_of_more, stick), np.delete(more, stick)
        lengths += np.bincount(texts_of_more, minlength=len(texts))
        empty = np.flatnonzero(lengths == 0)
        lengths[empty] = 1
        texts_of_more = np.concatenate([texts_of_more, empty])
        more = np.concatenate([more, np.zeros(len(empty), np.int32)])
        order = np.argsort(texts_of_more, kind="stable")
        return np.insert(ids, found.bounds[texts_of_more[order] + 1], more[order]), lengths

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def tokens(self) -> list[str]:
        """The tokens in the order of their numbers; the first is empty."""
        return list(self._ids)

    def ids(self, tokens: Iterable[str]) -> Ids:
        """The number of each token; new tokens get new numbers."""
        with self._lock:  # or two threads might each number one token
            return np.fromiter(map(self._ids.__getitem__, tokens), np.int32)

    def prefer(self, counts: NDArray[np.int64]) -> None:
        """Find the most frequent words faster from now on. counts: occurrences of the tokens so far, by number."""
        import pyarrow as pa

        with self._lock:
            tokens = list(islice(self._ids, len(counts)))
        _, offsets, body = pa.array(tokens, pa.large_string()).buffers()
        padded = np.frombuffer(bytes(body or b"") + bytes(READ_AHEAD), np.uint8)
        edges = np.frombuffer(offsets, np.int64, len(tokens) + 1) if tokens else np.zeros(1, np.int64)
        ranked = np.argsort(counts, kind="stable")
        starts, lengths = edges[ranked], np.diff(edges)[ranked]
        num_keys = (lengths + _KEY_BYTES - 1) // _KEY_BYTES
        self._short, self._long = (
            _FrequentWords(size, padded, starts[num_keys == size], lengths[num_keys == size], ranked[num_keys == size])
            for size in (1, 2)
        )

    def _ids_of_words(self, body: Bytes, edges: Positions) -> Ids:
        starts = edges[::2]
        lengths = edges[1::2] - starts
        ids, found = self._short.look_up(body, starts, lengths)
        others = np.flatnonzero(~found)
        ids[others], found = self._long.look_up(body, starts[others], lengths[others])
        others = others[~found]
        if len(others):
            ids[others] = self._ids_of_others(body, edges, others)
        return ids

    def _ids_of_others(self, body: Bytes, edges: Positions, others: Positions) -> Ids:
        import pyarrow as pa

        # Words, and what stands between two of them, in turn.
        pieces = pa.LargeStringArray.from_buffers(len(edges) - 1, pa.py_buffer(edges), pa.py_buffer(body))
        words = pieces.take(pa.array(2 * others)).dictionary_encode()
        places: Positions = words.indices.to_numpy()
        return self.ids(words.dictionary.to_pylist())[places]

    def _stick_emoticons(self, body: Bytes, found: _Found, ids: Ids) -> Positions:
        """Put the tokens that are a text's last word and first emoticon into ids; returns these emoticons' places."""
        texts, first = np.unique(found.emoticon_texts, return_index=True)
        stick = first[found.ends_in_word[texts]]
        last_words = found.bounds[found.emoticon_texts[stick] + 1] - 1
        starts, ends = found.edges[2 * last_words].tolist(), found.edges[2 * last_words + 1].tolist()
        words = [body[start:end].tobytes().decode() for start, end in zip(starts, ends, strict=True)]
        emoticons = [EMOTICONS[place] for place in found.emoticons[stick].tolist()]
        ids[last_words] = self.ids(word + emoticon for word, emoticon in zip(words, emoticons, strict=True))
        return stick


def truncate_flat(chunk: FlatChunk, max_length: int | None) -> FlatChunk:
    """Of each item the first ceil(max_length / 2) and the last floor(max_length / 2) ids, see `truncate`."""
    ids, lengths = chunk
    if max_length is None or not np.any(lengths > max_length):
        return chunk
    long = np.flatnonzero(lengths > max_length)
    ends = np.cumsum(lengths)[long]
    num_dropped = lengths[long] - max_length
    return np.delete(ids, ranges(ends - max_length // 2 - num_dropped, num_dropped)), np.minimum(lengths, max_length)


def _slots(keys: Sequence[Keys]) -> Positions:
    mixed: Keys = keys[0] * _HASH_FACTORS[0]
    for key, factor in zip(keys[1:], _HASH_FACTORS[1:], strict=False):
        mixed += key * factor
    mixed >>= np.uint64(64 - _SLOT_BITS)
    return mixed.view(np.int64)


def _key_masks(num_keys: int) -> list[Keys]:
    """For each key, the bits that belong to a word of so many bytes; none where the word is too long for the keys."""
    fitting = range(num_keys * _KEY_BYTES + 1)
    bits = ([8 * min(max(size - _KEY_BYTES * part, 0), _KEY_BYTES) for size in fitting] for part in range(num_keys))
    return [np.array([(1 << count) - 1 for count in counts] + [0], np.uint64) for counts in bits]


def _find(plain: PlainTexts) -> _Found:
    data, separators, in_word = plain
    edges = np.flatnonzero(in_word[1:] != in_word[:-1])
    mouths = np.flatnonzero((data | 1) == ord(")"))
    eyes = data[mouths - 1 - (data[mouths - 1] == ord("-"))]
    is_emoticon = (eyes == ord(":")) | (eyes == ord(";")) | (eyes == ord("="))
    mouths, eyes = mouths[is_emoticon], eyes[is_emoticon]
    return _Found(
        edges,
        np.searchsorted(edges, separators) // 2,
        np.minimum(eyes - ord(":"), 2) * np.int64(2) + (data[mouths] - ord("(")),
        np.searchsorted(separators, mouths) - 1,
        in_word[separators[1:] - 1],
    )
