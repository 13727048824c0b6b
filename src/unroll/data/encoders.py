"""Text to token ids and back: the book's words, words and punctuation, byte-pair pieces, characters."""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from unroll.data import word_tokenizer
from unroll.data.text import code_points, find_book_tokens, replace_surrogates, tokenize_book
from unroll.data.token_files import FlatChunk, Ids
from unroll.data.vocabulary import Vocabulary, read_json
from unroll.errors import CheckpointError, DataError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from unroll.config import CharEncodingConfig, WordEncodingConfig

FORMAT = 1
FILE_NAME = "encoder.json"

Span = tuple[int, int]
"""Where a token stands in its text: first code point, and the one after its last."""


class TextEncoder(ABC):
    """Turns a text into at least one token id; `<unk>` is 1, and no text yields 0, which is `<pad>`.

    max_length: most ids of one text, its first and last half; None keeps all.
    """

    tokenizer: ClassVar[str]

    def __init__(self, vocabulary: Vocabulary, max_length: int | None = None) -> None:
        self.vocabulary = vocabulary
        self.max_length = max_length

    def encode(self, text: str) -> list[int]:
        """Ids of one text; a text with no token gives [1]."""
        ids: list[int] = self.encode_batch([text])[0].tolist()
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each text, each (length,) int32 with length >= 1."""
        unknown = np.array([Vocabulary.UNK_ID], np.int32)
        return [truncate(ids, self.max_length) if len(ids) else unknown for ids in self._look_up(texts)]

    def encode_flat(self, texts: Sequence[str]) -> FlatChunk:
        """Ids of all texts one after the other, (sum of lengths,), and the length of each, (len(texts),)."""
        arrays = self.encode_batch(texts)
        return np.concatenate([np.empty(0, np.int32), *arrays]), np.array([len(ids) for ids in arrays], np.int64)

    def spans(self, text: str) -> list[Span]:
        """Where each id of `encode` comes from, in the same order; a text with no token gives the whole text."""
        return truncate_spans(self._find(text), self.max_length) or [(0, len(text))]

    def decode(self, ids: Iterable[int]) -> str:
        """Tokens joined by spaces, `<pad>` left out."""
        return " ".join(self.vocabulary.tokens[token_id] for token_id in ids if token_id != Vocabulary.PAD_ID)

    def save(self, folder: Path) -> None:
        """Write the files from which `load_encoder` makes the same encoder."""
        self.vocabulary.save(folder)
        fields = {
            "format": FORMAT,
            "tokenizer": self.tokenizer,
            "max_length": self.max_length,
            "vocabulary": self.vocabulary.digest,
            **self._save_more(folder),
        }
        (folder / FILE_NAME).write_text(json.dumps(fields, indent=2) + "\n", encoding="utf-8")

    def _save_more(self, folder: Path) -> dict[str, str]:
        return {}

    @abstractmethod
    def _look_up(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of each text, neither cut nor filled up."""

    @abstractmethod
    def _find(self, text: str) -> list[Span]:
        """Where each id that `_look_up` gives comes from."""


class BookEncoder(TextEncoder):
    """The chapter's tokens, see `tokenize_book`."""

    tokenizer = "book"

    def _look_up(self, texts: Sequence[str]) -> list[Ids]:
        return [np.array(self.vocabulary.ids(tokenize_book(text)), np.int32) for text in texts]

    def _find(self, text: str) -> list[Span]:
        return find_book_tokens(text)


class CharEncoder(TextEncoder):
    """One id per character (Unicode code point)."""

    tokenizer = "char"

    def decode(self, ids: Iterable[int]) -> str:
        """The characters; `<unk>` becomes U+FFFD, `<pad>` nothing."""
        characters = ("", "\N{REPLACEMENT CHARACTER}", *self.vocabulary.tokens[2:])
        return "".join(characters[token_id] for token_id in ids)

    def _look_up(self, texts: Sequence[str]) -> list[Ids]:
        return [self._ids_by_code.take(code_points(text), mode="clip") for text in texts]

    def _find(self, text: str) -> list[Span]:
        return [(position, position + 1) for position in range(len(text))]

    @cached_property
    def _ids_by_code(self) -> Ids:
        # One entry for each code point up to the highest known one, and a last one for all beyond.
        codes = [ord(character) for character in self.vocabulary.tokens[2:]]
        table = np.full(max(codes, default=0) + 2, Vocabulary.UNK_ID, np.int32)
        table[codes] = np.arange(2, 2 + len(codes))
        return table


class WordEncoder(TextEncoder):
    """Lower-cased words and punctuation marks, HTML tags dropped; the backend is a Hugging Face tokenizer."""

    tokenizer = "word"

    def __init__(self, vocabulary: Vocabulary, max_length: int | None, backend: Tokenizer) -> None:
        super().__init__(vocabulary, max_length)
        self._backend = backend

    def _look_up(self, texts: Sequence[str]) -> list[Ids]:
        clean = [replace_surrogates(text) for text in texts]
        encodings = self._backend.encode_batch_fast(clean, add_special_tokens=False)
        return [np.array(encoding.ids, np.int32) for encoding in encodings]

    def _find(self, text: str) -> list[Span]:
        encoding = self._backend.encode(replace_surrogates(text), add_special_tokens=False)
        return [(int(start), int(stop)) for start, stop in encoding.offsets]

    def _save_more(self, folder: Path) -> dict[str, str]:
        return {"tokenizer_sha256": word_tokenizer.save_tokenizer(self._backend, folder)}


class SubwordEncoder(WordEncoder):
    """Byte-pair pieces of the same words (Sennrich et al. 2016): frequent words whole, rare ones in pieces."""

    tokenizer = "subword"

    def decode(self, ids: Iterable[int]) -> str:
        """Words, their pieces put together, joined by spaces, `<pad>` left out."""
        pieces = (self.vocabulary.tokens[token_id] for token_id in ids if token_id != Vocabulary.PAD_ID)
        return "".join(pieces).replace(word_tokenizer.WORD_START, " ").strip()


def train_encoder(config: WordEncodingConfig | CharEncodingConfig, chunks: Iterable[list[str]]) -> TextEncoder:
    """Learn the vocabulary from chunks of training texts, read once.

    Raises DataError where the texts hold no token that could be kept, ConfigError where `word` or `subword` is asked
    for and the `tokenizers` package is missing.
    """
    encoder: TextEncoder
    if config.tokenizer == "char":
        encoder = CharEncoder(Vocabulary.build(count_characters(chunks), config.vocab_size, config.min_count))
    elif config.tokenizer == "book":
        counts = count_book_tokens(chain.from_iterable(chunks))
        encoder = BookEncoder(Vocabulary.build(counts, config.vocab_size, config.min_count), config.max_length)
    else:
        backend, vocabulary = word_tokenizer.train_tokenizer(config, chunks)
        encoder_class = WordEncoder if config.tokenizer == "word" else SubwordEncoder
        encoder = encoder_class(vocabulary, config.max_length, backend)
    check_vocabulary(encoder.vocabulary, config.min_count)
    return encoder


def check_vocabulary(vocabulary: Vocabulary, min_count: int) -> None:
    """Raises DataError where the vocabulary holds no token but the special ones."""
    if len(vocabulary) <= 2:
        raise DataError(
            f"The training split holds no token that occurs {min_count} times or more; expected at least one: "
            "check the texts, or lower encoding.min_count."
        )


def load_encoder(folder: Path) -> TextEncoder:
    """The encoder that `save` wrote into the folder. Raises CheckpointError if a file of it is missing or damaged."""
    fields = read_json(folder / FILE_NAME, FORMAT, CheckpointError)
    vocabulary = Vocabulary.load(folder)
    if vocabulary.digest != fields.get("vocabulary"):
        raise CheckpointError(f"The vocabulary in {folder} belongs to another encoder; copy all of an encoder's files.")
    tokenizer, max_length = fields.get("tokenizer"), fields.get("max_length")
    if tokenizer == BookEncoder.tokenizer:
        return BookEncoder(vocabulary, max_length)
    if tokenizer == CharEncoder.tokenizer:
        return CharEncoder(vocabulary, max_length)
    for encoder_class in (WordEncoder, SubwordEncoder):
        if tokenizer == encoder_class.tokenizer:
            backend = word_tokenizer.load_tokenizer(folder, str(fields.get("tokenizer_sha256")))
            return encoder_class(vocabulary, max_length, backend)
    raise CheckpointError(f"{folder / FILE_NAME} names the tokenizer {tokenizer!r}, which this version does not know.")


def copy_encoder(source: Path, folder: Path) -> None:
    """Copy an encoder's files without opening them, so also where `tokenizers` is not installed."""
    for name in (FILE_NAME, Vocabulary.FILE_NAME, word_tokenizer.FILE_NAME):
        if (source / name).exists():
            shutil.copyfile(source / name, folder / name)


def truncate(ids: Ids, max_length: int | None) -> Ids:
    """The first ceil(max_length / 2) and the last floor(max_length / 2) ids, for a verdict stands at either end."""
    if max_length is None or len(ids) <= max_length:
        return ids
    tail = max_length // 2
    return np.concatenate([ids[: max_length - tail], ids[len(ids) - tail :]])


def truncate_spans(items: list[Span], max_length: int | None) -> list[Span]:
    """As `truncate`, for what stands beside the ids."""
    if max_length is None or len(items) <= max_length:
        return items
    tail = max_length // 2
    return items[: max_length - tail] + items[len(items) - tail :]


def count_book_tokens(texts: Iterable[str]) -> Counter[str]:
    """Occurrences of each of the book's tokens."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(tokenize_book(text))
    return counts


def count_characters(chunks: Iterable[Sequence[str]]) -> dict[str, int]:
    """Occurrences of each character."""
    counts = np.zeros(0x110000, np.int64)
    for chunk in chunks:
        chunk_counts = np.bincount(code_points("".join(chunk)))
        counts[: len(chunk_counts)] += chunk_counts
    return {chr(code): int(counts[code]) for code in np.flatnonzero(counts)}
