"""A corpus as token ids on disk: one flat file of ids per split, mapped into memory when read.

encoding.json           format, kind, tokenizer, vocab_size, max_length, dtype, class_names, counts per split
encoder.json            with vocabulary.json, and tokenizer.json for `word` and `subword`: the encoder
{split}.tokens.bin      ids of all items one after the other, in the dtype that encoding.json names
{split}.offsets.npy     (items + 1,) int64; item i is tokens[offsets[i] : offsets[i + 1]]
{split}.labels.npy      (items,) int64, reviews only
{split}.rows.npy        (items,) int64, row of the item in its source, reviews only
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from unroll.data.book_encoding import TextsOfSplit, encode_book
from unroll.data.encoders import TextEncoder, load_encoder, train_encoder
from unroll.data.progress import OnProgress, Progress
from unroll.data.stored_text import SlicedText, iter_pieces
from unroll.data.token_files import FlatChunk, token_dtype, write_tokens
from unroll.data.vocabulary import read_json
from unroll.errors import DataError, StoreError

if TYPE_CHECKING:
    from unroll.config import CharEncodingConfig, WordEncodingConfig

FORMAT = 1
FILE_NAME = "encoding.json"

TEXTS_PER_CHUNK = 1_000

Labels = NDArray[np.int64]
Chunk = TypeVar("Chunk")


@dataclass(frozen=True, eq=False)
class EncodedSplit:
    """The items of one split.

    tokens: (offsets[-1],) unsigned integers or int32, read-only. offsets: (items + 1,) int64.
    labels, rows: (items,) int64, None for running text.
    """

    tokens: NDArray[Any]
    offsets: NDArray[np.int64]
    labels: NDArray[np.int64] | None = None
    rows: NDArray[np.int64] | None = None
    mapping: mmap.mmap | None = None
    """The file behind `tokens`, where they are mapped."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each item, (items,)."""
        return np.diff(self.offsets)

    def item(self, index: int) -> NDArray[Any]:
        """Token ids of one item, (length,), a view."""
        if not 0 <= index < len(self):
            raise IndexError(f"There is no item {index}; the split has {len(self)}.")
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    def release(self) -> None:
        """Take the pages read so far off this process's account, which would grow to the whole file.

        The system still caches them: what is read again costs a fault, not a disk access. Nothing is done where the
        system has no such advice.
        """
        if self.mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
            self.mapping.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True, eq=False)
class EncodedCorpus:
    """An opened folder; `fields` is what encoding.json says."""

    folder: Path
    fields: Mapping[str, Any]
    splits: Mapping[str, EncodedSplit]

    @classmethod
    def open(cls, folder: Path) -> EncodedCorpus:
        """Map every split. Raises StoreError if a file is missing or its size disagrees with the others."""
        fields = read_json(folder / FILE_NAME, FORMAT, StoreError)
        try:
            splits = {split: _open_split(folder, split, fields) for split in fields["splits"]}
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{folder} is no whole encoded corpus ({error}); delete it and encode again.") from error
        return cls(folder, fields, splits)

    @cached_property
    def encoder(self) -> TextEncoder:
        """The encoder, read when first asked for: training needs only the ids."""
        return load_encoder(self.folder)

    @property
    def kind(self) -> str:
        """`reviews` or `text`."""
        return str(self.fields["kind"])

    @property
    def vocab_size(self) -> int:
        """Number of ids, `<pad>` and `<unk>` counted."""
        return int(self.fields["vocab_size"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each label; empty for running text."""
        return tuple(self.fields["class_names"])

    @property
    def statistics(self) -> dict[str, dict[str, float]]:
        """For each split: items, tokens, unk_fraction."""
        return dict(self.fields["splits"])

    def split(self, name: str) -> EncodedSplit:
        """One split. Raises StoreError with the splits there are."""
        if name not in self.splits:
            raise StoreError(f"{self.folder} holds no split {name!r}, only {', '.join(self.splits)}; encode it too.")
        return self.splits[name]


def encode_reviews(
    texts: TextsOfSplit,
    labels: Mapping[str, Labels],
    rows: Mapping[str, NDArray[np.int64]],
    class_names: Sequence[str],
    config: WordEncodingConfig,
    folder: Path,
    on_progress: OnProgress | None = None,
) -> None:
    """Learn the vocabulary from the training split, then write every split's ids into the folder.

    texts: gives a split's texts in order, in chunks; by the tokenizer `book` read once, by the others twice for
    "train". labels, rows: for each split (items,) integers. Memory does not grow with the corpus, but for the distinct
    tokens and 8 bytes per item.
    Raises DataError if a split is empty or has another number of texts, labels and rows, or if "train" is missing.
    """
    counts = {split: len(of_split) for split, of_split in labels.items()}
    _check_splits(counts)
    folder.mkdir(parents=True, exist_ok=True)
    encode = encode_book if config.tokenizer == "book" else _encode_in_two_passes
    encoder, statistics = encode(texts, counts, config, folder, on_progress)
    for split in counts:
        _check_counts(split, int(statistics[split]["items"]), counts[split], len(rows[split]))
        np.save(folder / f"{split}.labels.npy", np.asarray(labels[split], np.int64))
        np.save(folder / f"{split}.rows.npy", np.asarray(rows[split], np.int64))
    _write_description(folder, "reviews", encoder, class_names, statistics)


def encode_text(
    text_by_split: Mapping[str, SlicedText],
    config: CharEncodingConfig,
    folder: Path,
    on_progress: OnProgress | None = None,
) -> None:
    """Learn the characters of the training split, then write every split as one item into the folder.

    A stored text is read piece by piece, the training split's twice. Raises DataError if a split is empty or "train" is
    missing.
    """
    _check_splits({split: len(text) for split, text in text_by_split.items()})
    folder.mkdir(parents=True, exist_ok=True)
    counting = Progress("counting characters", len(text_by_split["train"]), "characters", on_progress)
    encoder = train_encoder(config, ([piece] for piece in _tell(counting, iter_pieces(text_by_split["train"]), len)))
    encoder.save(folder)
    statistics = {}
    for split, text in text_by_split.items():
        progress = Progress(f"encoding {split}", len(text), "characters", on_progress)
        chunks = _tell(progress, _flat_pieces(encoder, text), lambda chunk: len(chunk[0]))
        statistics[split] = write_tokens(folder, split, chunks, len(encoder.vocabulary))
    _write_description(folder, "text", encoder, (), statistics)


def _encode_in_two_passes(
    texts: TextsOfSplit,
    num_texts: Mapping[str, int],
    config: WordEncodingConfig,
    folder: Path,
    on_progress: OnProgress | None,
) -> tuple[TextEncoder, dict[str, dict[str, float]]]:
    # `tokenizers` has threads of its own.
    learning = Progress("learning the vocabulary", num_texts["train"], "reviews", on_progress)
    encoder = train_encoder(config, _tell(learning, _rechunk(texts("train")), len))
    encoder.save(folder)
    statistics = {}
    for split in num_texts:
        progress = Progress(f"encoding {split}", num_texts[split], "reviews", on_progress)
        chunks = _tell(progress, map(encoder.encode_flat, _rechunk(texts(split))), _num_items)
        statistics[split] = write_tokens(folder, split, chunks, len(encoder.vocabulary))
    return encoder, statistics


def _check_splits(counts: Mapping[str, int]) -> None:
    if "train" not in counts:
        raise DataError(f"There are the splits {', '.join(counts) or 'none'}; expected one named train: split again.")
    empty = [split for split, count in counts.items() if count == 0]
    if empty:
        raise DataError(
            f"Nothing to encode in {', '.join(empty)}; give more data, or larger fractions to these splits."
        )


def _check_counts(split: str, num_texts: int, num_labels: int, num_rows: int) -> None:
    if not num_texts == num_labels == num_rows:
        raise DataError(
            f"The {split} split has {num_texts} texts, {num_labels} labels and {num_rows} rows; expected as many of "
            "each: read the corpus again."
        )


def _rechunk(chunks: Iterable[list[str]]) -> Iterator[list[str]]:
    # Ids of a chunk stand in memory as Python objects for a moment, whatever size of chunk the reader likes.
    for chunk in chunks:
        for start in range(0, len(chunk), TEXTS_PER_CHUNK):
            yield chunk[start : start + TEXTS_PER_CHUNK]


def _flat_pieces(encoder: TextEncoder, text: SlicedText) -> Iterator[FlatChunk]:
    # The text is one item, whose ids come in pieces.
    yield np.empty(0, np.int32), np.array([len(text)], np.int64)
    for piece in iter_pieces(text):
        yield encoder.encode_flat([piece])[0], np.empty(0, np.int64)


def _tell(progress: Progress, chunks: Iterable[Chunk], size: Callable[[Chunk], int]) -> Iterator[Chunk]:
    for chunk in chunks:
        yield chunk
        progress.advance(size(chunk))


def _num_items(chunk: FlatChunk) -> int:
    return len(chunk[1])


def _write_description(
    folder: Path, kind: str, encoder: TextEncoder, class_names: Sequence[str], statistics: Mapping[str, Any]
) -> None:
    fields = {
        "format": FORMAT,
        "kind": kind,
        "tokenizer": encoder.tokenizer,
        "vocab_size": len(encoder.vocabulary),
        "max_length": encoder.max_length,
        "dtype": token_dtype(len(encoder.vocabulary)).str,
        "class_names": list(class_names),
        "splits": statistics,
    }
    (folder / FILE_NAME).write_text(json.dumps(fields, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _open_split(folder: Path, split: str, fields: Mapping[str, Any]) -> EncodedSplit:
    path, dtype = folder / f"{split}.tokens.bin", np.dtype(fields["dtype"])
    offsets = np.load(folder / f"{split}.offsets.npy")
    num_items = int(fields["splits"][split]["items"])
    if offsets.shape != (num_items + 1,) or offsets[0] != 0 or np.any(np.diff(offsets) < 1):
        raise StoreError(
            f"The offsets of {split} in {folder} do not mark {num_items} items; delete it and encode again."
        )
    found_bytes, expected_bytes = path.stat().st_size, int(offsets[-1]) * dtype.itemsize
    if found_bytes != expected_bytes:
        raise StoreError(
            f"{path} has {found_bytes} bytes, expected {expected_bytes}; delete the folder and encode again."
        )
    labels, rows = None, None
    if fields["kind"] == "reviews":
        labels, rows = (np.load(folder / f"{split}.{name}.npy") for name in ("labels", "rows"))
        if not labels.shape == rows.shape == (num_items,):
            raise StoreError(
                f"{folder} has other than {num_items} labels and rows for {split}; delete it and encode again."
            )
    with path.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return EncodedSplit(np.frombuffer(mapping, dtype), offsets, labels, rows, mapping)
