"""A table written batch by batch as CSV, TSV, JSON lines or Parquet, which appears under its name only when whole."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

from unroll.errors import ConfigError, DataError
from unroll.files import writing

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")

Batch = Mapping[str, Sequence[Any]]


class TableWriter(Protocol):
    """Appends batches of columns; every batch has the first one's columns."""

    def write(self, batch: Batch) -> None:
        """Append a batch."""

    def close(self) -> None:
        """Finish the file."""


def check_suffix(path: Path) -> None:
    """Raise ConfigError where the ending names no kind of table."""
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--output {path}: expected a name that ends in one of {', '.join(SUFFIXES)}.")


@contextmanager
def writing_table(path: Path) -> Iterator[TableWriter]:
    """Write beside ``path`` and take its name at the end of the block; after an error nothing is left.

    Raises StoreError where the disk refuses, DataError where a column changes its type between batches.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with writing(path):
            table = _open(partial, path.suffix.lower())
            try:
                yield table
            finally:
                table.close()
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _open(path: Path, suffix: str) -> TableWriter:
    if suffix == ".parquet":
        return _ParquetTable(path)
    return _TextTable(path.open("w", encoding="utf-8", newline=""), suffix)


class _TextTable:
    def __init__(self, file: IO[str], suffix: str) -> None:
        self._file = file
        self._suffix = suffix
        self._is_new = True

    def write(self, batch: Batch) -> None:
        import pandas as pd

        frame = pd.DataFrame(batch)
        if self._suffix in (".jsonl", ".ndjson"):
            frame.to_json(self._file, orient="records", lines=True, force_ascii=False)
        else:
            frame.to_csv(self._file, index=False, header=self._is_new, sep="\t" if self._suffix == ".tsv" else ",")
        self._is_new = False

    def close(self) -> None:
        self._file.close()


class _ParquetTable:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None

    def write(self, batch: Batch) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            if self._writer is None:
                table = pa.table(dict(batch))
                # a column that begins with nothing but missing values may go on with text
                fields = [
                    field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in table.schema
                ]
                self._writer = pq.ParquetWriter(self._path, pa.schema(fields))
            self._writer.write_table(pa.table(dict(batch), schema=self._writer.schema))
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise DataError(
                f"The columns do not fit into one Parquet table: {str(error)[:300]}. Write CSV or JSON lines instead."
            ) from error

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
