"""A table written batch by batch as CSV, TSV, JSON lines or Parquet, which appears under its name only when whole."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from unroll.errors import ConfigError, DataError
from unroll.files import writing

if TYPE_CHECKING:
    import pyarrow as pa

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
def writing_table(path: Path, schema: pa.Schema | None = None) -> Iterator[TableWriter]:
    """Write beside ``path`` and take its name at the end of the block; after an error nothing is left.

    schema: in Parquet, the types of columns whose first batch may not show them.

    Raises StoreError where the disk refuses, DataError where a column changes its type between batches.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with writing(path):
            table = _open(partial, path.suffix.lower(), schema)
            try:
                yield table
            finally:
                table.close()
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _open(path: Path, suffix: str, schema: pa.Schema | None) -> TableWriter:
    if suffix == ".parquet":
        return _ParquetTable(path, schema)
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
    def __init__(self, path: Path, schema: pa.Schema | None) -> None:
        self._path = path
        self._known = {} if schema is None else {field.name: field for field in schema}
        self._writer: Any = None

    def write(self, batch: Batch) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            if self._writer is None:
                columns = {name: self._array(name, values) for name, values in batch.items()}
                self._writer = pq.ParquetWriter(self._path, pa.table(columns).schema)
            self._writer.write_table(pa.table(dict(batch), schema=self._writer.schema))
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise DataError(
                f"The columns do not fit into one Parquet table: {str(error)[:300]}. Write CSV or JSON lines instead."
            ) from error

    def _array(self, name: str, values: Sequence[Any]) -> pa.Array:
        import pyarrow as pa

        if name in self._known:
            return pa.array(values, self._known[name].type)
        array = pa.array(values)
        # a column that begins with nothing but missing values may go on with text
        return array.cast(pa.string()) if pa.types.is_null(array.type) else array

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
