"""A corpus on disk: a folder of reviews or of running text, in one layout whatever its source.

reviews   train.parquet  [test.parquet]   text (string), label (int64)   corpus.json
text      text.txt       [test.txt]       [bits.npy]                     corpus.json
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from unroll.data.stored_text import StoredText
from unroll.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

CHUNK_ROWS = 5_000
"""Rows of a Parquet row group, and of every pass over a corpus."""

BLANK = b"blank"
"""Stands for the digest of a missing text, or of one that holds nothing but white space."""

RowArray = npt.NDArray[np.int64]
SCHEMA = pa.schema([("text", pa.string()), ("label", pa.int64())])


@dataclass(frozen=True)
class ReviewCorpus:
    """Labelled texts. ``class_names[label]`` is the name of a label; a text may be None or blank in a user's file."""

    folder: Path
    class_names: tuple[str, ...]
    info: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> ReviewCorpus:
        """Read ``corpus.json``; the rows are left on disk. Raises DataError where the folder holds no reviews."""
        info = _read_info(folder, "reviews")
        return cls(folder, tuple(info["class_names"]), info)

    @property
    def has_test(self) -> bool:
        """Whether the source brought its own test split."""
        return self._path("test").is_file()

    def num_rows(self, split: str) -> int:
        """Rows of ``train`` or ``test`` as the source gave them."""
        with self._parquet(split) as parquet:
            return int(parquet.metadata.num_rows)

    def read(self, split: str) -> pd.DataFrame:
        """The whole split in memory: columns text (str) and label (int64)."""
        with self._parquet(split) as parquet:
            frame: pd.DataFrame = parquet.read().to_pandas()
        return frame

    def labels(self, split: str) -> RowArray:
        """Label of every row, (num_rows,) int64; the texts are not read."""
        with self._parquet(split) as parquet:
            return np.asarray(parquet.read(columns=["label"])["label"].to_numpy(), dtype=np.int64)

    def iter_tables(self, split: str, chunk: int = CHUNK_ROWS) -> Iterator[pa.Table]:
        """Tables of up to ``chunk`` rows in the order of the file, in constant memory."""
        with self._parquet(split) as parquet:
            for batch in parquet.iter_batches(batch_size=chunk, use_threads=False):
                yield pa.Table.from_batches([batch])

    def iter_texts(self, split: str, rows: RowArray | None = None, chunk: int = CHUNK_ROWS) -> Iterator[list[str]]:
        """Texts of the rows (ascending; None takes all) in lists of up to ``chunk``, in constant memory.

        Raises ValueError where ``rows`` does not ascend, DataError where a row is not in the split.
        """
        if rows is None:
            for table in self.iter_tables(split, chunk):
                yield table["text"].to_pylist()
            return
        if len(rows) and (np.any(np.diff(rows) <= 0) or rows[0] < 0):
            raise ValueError("rows must ascend, without repeats, from 0")
        if len(rows) and rows[-1] >= self.num_rows(split):
            raise DataError(f"Row {rows[-1]} is not in {self._path(split)}, which has {self.num_rows(split)} rows.")
        start = 0
        for table in self.iter_tables(split, chunk):
            first, last = np.searchsorted(rows, [start, start + table.num_rows])
            if first < last:
                yield table["text"].take(pa.array(rows[first:last] - start)).to_pylist()
            start += table.num_rows

    def digests(self, split: str) -> npt.NDArray[np.bytes_]:
        """128-bit digest of every row's exact text, (num_rows,) bytes; BLANK where there is none but white space."""
        parts = [np.empty(0, dtype="S32")]
        for texts in self.iter_texts(split):
            parts.append(np.array([_digest(text) for text in texts], dtype="S32"))
        return np.concatenate(parts)

    def _path(self, split: str) -> Path:
        return self.folder / f"{split}.parquet"

    def _parquet(self, split: str) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(self._path(split))
        except (FileNotFoundError, pa.ArrowInvalid) as error:
            raise DataError(
                f"{self._path(split)} is missing or damaged ({error}); fetch the corpus again with --from download."
            ) from error


class ReviewWriter:
    """Writes one split as Parquet, a row group per call; a context manager."""

    def __init__(self, path: Path) -> None:
        self.num_rows = 0
        self._writer = pq.ParquetWriter(path, SCHEMA, compression="zstd")

    def write(self, texts: Sequence[str | None], labels: Sequence[int]) -> None:
        """Append rows. Raises DataError where a text is not Unicode (a lone surrogate)."""
        try:
            table = pa.table({"text": list(texts), "label": list(labels)}, schema=SCHEMA)
        except (UnicodeEncodeError, pa.ArrowInvalid, pa.ArrowTypeError) as error:
            first, last = self.num_rows + 1, self.num_rows + len(texts)
            raise DataError(
                f"A text in rows {first:,} to {last:,} cannot be stored as UTF-8 ({error}); mend it in the source."
            ) from error
        if len(texts):
            self._writer.write_table(table, row_group_size=CHUNK_ROWS)
        self.num_rows += len(texts)

    def __enter__(self) -> ReviewWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()


@dataclass(frozen=True)
class TextCorpus:
    """Running text, and, where it was made here, its exact code length."""

    folder: Path
    info: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> TextCorpus:
        """Read ``corpus.json``; the text is left on disk. Raises DataError where the folder holds no text."""
        return cls(folder, _read_info(folder, "text"))

    @property
    def has_test(self) -> bool:
        """Whether the source brought its own test text."""
        return (self.folder / "test.txt").is_file()

    @cached_property
    def text(self) -> StoredText:
        """The whole text (with ``\\n`` line ends), left on disk; asking for it counts its characters."""
        return StoredText.open(self.folder / "text.txt")

    @cached_property
    def test_text(self) -> StoredText | None:
        """The source's own test text, or None where the end of the text is held out instead."""
        return StoredText.open(self.folder / "test.txt") if self.has_test else None

    @property
    def bits(self) -> npt.NDArray[np.float32] | None:
        """Exact bits of each character under the process that made the text, (characters,) float32; None elsewhere."""
        path = self.folder / "bits.npy"
        return np.load(path, mmap_mode="r", allow_pickle=False) if path.is_file() else None


def _digest(text: str | None) -> bytes:
    if not text or text.isspace():
        return BLANK
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest().encode()


def _read_info(folder: Path, kind: Literal["reviews", "text"]) -> dict[str, Any]:
    path = folder / "corpus.json"
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise DataError(f"{folder} is not a corpus: {path.name} cannot be read ({error}).") from error
    if not isinstance(info, dict) or info.get("kind") != kind:
        found = info.get("kind") if isinstance(info, dict) else type(info).__name__
        raise DataError(f"{folder} is a corpus of kind {found!r}; expected {kind!r}.")
    return info
