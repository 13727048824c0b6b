"""A table of texts to be scored in parts: the same rows in the same parts, wherever one begins."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from unroll.data.review_files import Batch, ReviewTable, open_table
from unroll.errors import DataError
from unroll.files import sha256_of

_ARROW_REFUSALS = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError)


@dataclass(frozen=True)
class TextTable:
    """A CSV, TSV, Parquet or JSON file with a column of texts."""

    path: Path
    table: ReviewTable
    text_column: str
    schema: pa.Schema
    """Every column as it is written out: Parquet's own types, text for CSV, one type that fits all rows for JSON."""
    num_rows: int
    sha256: str
    """Of the file's bytes."""
    stamp: tuple[int, int] | None
    """The file's size and time of change (nanoseconds) before it was read."""

    @classmethod
    def open(cls, path: Path, text_column: str) -> TextTable:
        """Read a file once through, for its digest, rows and types, in constant memory.

        Raises DataError: what `check_texts` refuses; a column of no one type; a text column that holds no text.
        """
        table, stamp = check_texts(path, text_column), file_stamp(path)
        schema, num_rows = schema_and_rows(path, table, text_column)
        kind = schema.field(text_column).type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise DataError(
                f"{path}: column {text_column!r} holds {kind}; expected text. Its columns are "
                f"{', '.join(table.columns)}; choose another with --text-column NAME."
            )
        return cls(path, table, text_column, schema, num_rows, sha256_of(path), stamp)

    def check_unchanged(self) -> None:
        """Raise DataError where the file is not the one any more whose digest was taken."""
        require_unchanged(self.path, self.stamp)

    def parts(self, first: int, size: int) -> Iterator[pa.Table]:
        """The rows from index ``first`` on, ``size`` at a time; the last part may be smaller."""
        held, to_skip = self.schema.empty_table(), first
        for batch in self.table.read(self.schema.names):
            rows = len(batch[self.text_column])
            if to_skip >= rows:
                to_skip -= rows
                continue
            held = pa.concat_tables([held, self._arrow(batch).slice(to_skip)])
            to_skip = 0
            while held.num_rows >= size:
                yield held.slice(0, size).combine_chunks()
                held = held.slice(size)
        if held.num_rows:
            yield held.combine_chunks()

    def _arrow(self, batch: Batch) -> pa.Table:
        try:
            return pa.table({field.name: pa.array(batch[field.name], field.type) for field in self.schema})
        except _ARROW_REFUSALS as error:
            raise _misfit(self.path, error) from error


def check_texts(path: Path, text_column: str) -> ReviewTable:
    """Open a table of texts, looking at no more than its head.

    Raises DataError for a file that cannot be read, without that column, with two of a name, or without rows.
    """
    table = open_table(path)
    _require_text_column(path, table, text_column)
    twice = sorted({name for name in table.columns if table.columns.count(name) > 1})
    if twice:
        raise DataError(f"{path} has more than one column named {twice[0]!r}; rename all but one.")
    if not any(batch[text_column] for batch in table.read([text_column])):
        raise DataError(f"{path} has columns {', '.join(table.columns)} and no rows; expected texts.")
    return table


def _require_text_column(path: Path, table: ReviewTable, text_column: str) -> None:
    """Raise DataError, with the nearest name, where the column is not there."""
    if text_column in table.columns:
        return
    near = difflib.get_close_matches(text_column, table.columns, n=1, cutoff=0.4)
    hint = f"did you mean --text-column {near[0]}?" if near else "choose with --text-column NAME."
    raise DataError(f"{path} has no column {text_column!r}; its columns are {', '.join(table.columns)}; {hint}")


def free_name(name: str, taken: list[str], prefix: str) -> str:
    """The name of a column that is added to a table: with the prefix where the table has one of that name already."""
    while name in taken:
        name = prefix + name
    return name


def schema_and_rows(path: Path, table: ReviewTable, text_column: str) -> tuple[pa.Schema, int]:
    """The columns' types as `TextTable` has them, and the number of rows. Raises DataError: a column of no one type."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        metadata = pq.read_metadata(path)
        return pa.schema([_plain(field) for field in metadata.schema.to_arrow_schema()]), metadata.num_rows
    if suffix in (".csv", ".tsv"):
        rows = sum(len(batch[text_column]) for batch in table.read([text_column]))
        return pa.schema([(name, pa.string()) for name in table.columns]), rows
    return _inferred(path, table)


def file_stamp(path: Path) -> tuple[int, int] | None:
    """A file's size and time of change (nanoseconds); None where it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def require_unchanged(path: Path, stamp: tuple[int, int] | None) -> None:
    """Raise DataError where the file has another stamp than it had before it was read."""
    if file_stamp(path) != stamp:
        raise DataError(
            f"{path} was changed while it was scored. Parts that are written are of the file as it was; to score it as "
            "it is, run again with --overwrite."
        )


def _inferred(path: Path, table: ReviewTable) -> tuple[pa.Schema, int]:
    """The types that fit every row of a JSON file."""
    schema, num_rows = pa.schema([]), 0
    for batch in table.read(table.columns):
        try:
            found = pa.table(batch)
            schema = pa.unify_schemas([schema, found.schema], promote_options="permissive")
        except _ARROW_REFUSALS as error:
            raise _misfit(path, error) from error
        num_rows += found.num_rows
    return pa.schema([_plain(field) for field in schema]), num_rows


def _plain(field: pa.Field) -> pa.Field:
    """The field as it is written: no metadata, no dictionary, and text where every value is missing."""
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    return pa.field(field.name, pa.string() if pa.types.is_null(kind) else kind)


def _misfit(path: Path, error: pa.ArrowException) -> DataError:
    return DataError(
        f"{path}: its columns do not fit into one Parquet table: {str(error)[:300]}. Give every column one type of "
        "value, or leave out those that have several."
    )
