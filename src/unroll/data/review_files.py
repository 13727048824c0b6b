"""A user's labelled texts: CSV, TSV, Parquet, JSON lines or a JSON array, or a folder that `datasets` loads.

Files are read in batches, so memory stays modest whatever their size; only a JSON array is read whole.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from unroll.data.corpora import CHUNK_ROWS
from unroll.data.labels import label_name
from unroll.data.text_files import iter_utf8, require_file
from unroll.errors import DataError

SUFFIXES = (".csv", ".tsv", ".parquet", ".jsonl", ".ndjson", ".json")
_CSV_BLOCK_BYTES = 4 << 20
"""The longest row, and a 32nd of what is held at most: Arrow reads that many blocks ahead of a slow consumer."""
_SHOWN_ROWS = 10

Batch = dict[str, list[Any]]


@dataclass(frozen=True)
class ReviewTable:
    """Rows of a source. ``read(columns)`` starts over at each call; rows are numbered from 1, a header not counted."""

    where: str
    columns: tuple[str, ...]
    read: Callable[[Sequence[str]], Iterator[Batch]]
    class_names: dict[str, tuple[str, ...]]

    def iter_reviews(self, text_column: str, label_column: str) -> Iterator[tuple[list[str | None], list[str]]]:
        """Batches of texts and label names. Raises DataError: a missing label, a text that is no text, no rows."""
        first, missing = 1, list[int]()
        for batch in self.read([text_column, label_column]):
            names = self._names(batch[label_column], label_column, first)
            missing += [first + index for index, name in enumerate(names) if name is None]
            yield self._texts(batch[text_column], text_column, first), [name for name in names if name is not None]
            first += len(names)
        if missing:
            shown = ", ".join([*(f"{row:,}" for row in missing[:_SHOWN_ROWS]), "…"][: len(missing)])
            raise DataError(
                f"{self.where}: {len(missing):,} of {first - 1:,} rows have no {label_column!r} (row {shown}); "
                "give each row a label, or leave the row out."
            )
        if first == 1:
            raise DataError(f"{self.where} has columns {_listing(self.columns)} and no rows; expected labelled texts.")

    def _names(self, labels: list[Any], column: str, first: int) -> list[str | None]:
        named = self.class_names.get(column)
        try:
            if named is None:
                return [label_name(label) for label in labels]
            # a ClassLabel stores ids; -1 stands for "not labelled"
            return [None if label is None or label < 0 else named[label] for label in labels]
        except DataError as error:
            raise DataError(f"{self.where}, rows {first:,} to {first + len(labels) - 1:,}: {error}") from error

    def _texts(self, texts: list[Any], column: str, first: int) -> list[str | None]:
        for row, text in enumerate(texts, first):
            if text is not None and not isinstance(text, str):
                raise DataError(
                    f"{self.where}, row {row:,}: column {column!r} holds {text!r} ({type(text).__name__}); expected "
                    f"text. Its columns are {_listing(self.columns)}; choose with --set data.text_column=NAME."
                )
        return texts


def require_columns(where: str, columns: Sequence[str], text_column: str, label_column: str) -> None:
    """Raise DataError, with the nearest name, unless both columns are there once, and are two."""
    if text_column == label_column:
        raise DataError(f"data.text_column and data.label_column both name {text_column!r}; expected two columns.")
    for setting, name in (("data.text_column", text_column), ("data.label_column", label_column)):
        if columns.count(name) > 1:
            raise DataError(f"{where} has {columns.count(name)} columns named {name!r}; rename all but one.")
        if name not in columns:
            near = difflib.get_close_matches(name, columns, n=1, cutoff=0.4)
            hint = f"; did you mean --set {setting}={near[0]}?" if near else f"; name one with --set {setting}=NAME."
            raise DataError(f"{where} has no column {name!r}; its columns are {_listing(columns)}{hint}")


def open_table(path: Path) -> ReviewTable:
    """Open a file by its ending. Raises DataError: missing, empty, binary, damaged, or an ending not known."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path} ends in {suffix or 'nothing'!r}; expected one of {', '.join(SUFFIXES)}, or a folder.")
    require_file(path)
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes); expected labelled texts.")
    if suffix == ".parquet":
        return parquet_table(path, path.name)
    return _csv_table(path, "," if suffix == ".csv" else "\t") if suffix in (".csv", ".tsv") else _json_table(path)


def parquet_table(path: Path, where: str, class_names: dict[str, tuple[str, ...]] | None = None) -> ReviewTable:
    """Rows of a Parquet file. Raises DataError where it is not one."""

    def read(columns: Sequence[str]) -> Iterator[Batch]:
        with _telling(where), pq.ParquetFile(path) as parquet:
            for batch in parquet.iter_batches(CHUNK_ROWS, columns=list(columns), use_threads=False):
                yield batch.to_pydict()

    with _telling(where), pq.ParquetFile(path) as parquet:
        return ReviewTable(where, tuple(parquet.schema_arrow.names), read, class_names or {})


def _csv_table(path: Path, delimiter: str) -> ReviewTable:
    def start(columns: Sequence[str] | None) -> pa_csv.CSVStreamingReader:
        # every value as text: an id such as 007 or the word NA must come through as it stands
        text_types = {name: pa.string() for name in columns or ()}
        return pa_csv.open_csv(
            path,
            pa_csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK_BYTES),
            pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            pa_csv.ConvertOptions(column_types=text_types, include_columns=columns, strings_can_be_null=False),
        )

    def read(columns: Sequence[str]) -> Iterator[Batch]:
        with _telling(path.name), start(list(dict.fromkeys(columns))) as reader:
            for block in reader:
                for first in range(0, block.num_rows, CHUNK_ROWS):
                    yield block.slice(first, CHUNK_ROWS).to_pydict()

    for _ in iter_utf8(path):  # refuses binary files and other encodings before a parser guesses at them
        pass
    with _telling(path.name), start(None) as reader:
        return ReviewTable(path.name, tuple(reader.schema.names), read, {})


def _json_table(path: Path) -> ReviewTable:
    first = next(_json_rows(path), None)
    if first is None:
        raise DataError(f"{path} holds no rows; expected JSON objects, one a line, or an array of them.")

    def read(columns: Sequence[str]) -> Iterator[Batch]:
        rows = _json_rows(path)
        while chunk := list(islice(rows, CHUNK_ROWS)):
            yield {name: [row.get(name) for row in chunk] for name in columns}

    return ReviewTable(path.name, tuple(first), read, {})


def _json_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Objects of JSON lines, or of one array."""
    lines = _lines(path)
    opening = next((line for line in lines if line.strip()), "")
    if opening.lstrip().startswith("["):
        yield from _checked(path, enumerate(_parse(path, "".join(iter_utf8(path)), "the file"), 1), "item")
        return
    # numbers are those of the lines that hold something
    numbered = enumerate(_filled(opening, lines), 1)
    parsed = ((number, _parse(path, line, f"line {number:,}")) for number, line in numbered)
    yield from _checked(path, parsed, "line")


def _filled(opening: str, lines: Iterator[str]) -> Iterator[str]:
    if opening:
        yield opening
    yield from (line for line in lines if line.strip())


def _lines(path: Path) -> Iterator[str]:
    held = ""
    for piece in iter_utf8(path):
        *whole, held = (held + piece).split("\n")
        yield from whole
    yield held


def _parse(path: Path, text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: {where} is not JSON ({error}); expected one object a line.") from error


def _checked(path: Path, rows: Iterator[tuple[int, Any]], unit: str) -> Iterator[dict[str, Any]]:
    for number, row in rows:
        if not isinstance(row, dict):
            raise DataError(f"{path}: {unit} {number:,} is a {type(row).__name__}; expected an object with columns.")
        yield row


@contextmanager
def _telling(where: str) -> Iterator[None]:
    """Turn what the Arrow readers raise into a DataError that names the file."""
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        raise DataError(
            f"{where} cannot be read: {str(error)[:300]}. Expected rows that all have the header's columns, texts "
            "with commas or line ends in quotes, and a file that is whole."
        ) from error


def _listing(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names[:20]) + (", …" if len(names) > 20 else "")
