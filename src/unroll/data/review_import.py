"""Rows of a source, written as one split of a corpus: labels numbered, sizes and contents summed up."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from unroll.data.corpora import ReviewWriter
from unroll.data.labels import MAX_CLASSES, LabelMap
from unroll.data.review_files import ReviewTable
from unroll.errors import DataError


@dataclass(frozen=True)
class SplitFacts:
    """What a written split holds. The digest is over every row's label and text, whatever file they came in."""

    rows: int
    text_bytes: int
    sha256: str


def scan_labels(table: ReviewTable, text_column: str, label_column: str) -> LabelMap:
    """Classes of the training rows, in one pass. Raises DataError: fewer than two, or more than MAX_CLASSES."""
    found = set[str]()
    for _, names in table.iter_reviews(text_column, label_column):
        found.update(names)
        if len(found) > MAX_CLASSES:
            raise DataError(
                f"{table.where}: column {label_column!r} holds more than {MAX_CLASSES:,} different labels; expected a "
                "few classes. Name another column with --set data.label_column=NAME."
            )
    return LabelMap.from_labels(found, table.class_names.get(label_column), f"{table.where}, column {label_column!r},")


def write_table(table: ReviewTable, text_column: str, label_column: str, labels: LabelMap, path: Path) -> SplitFacts:
    """Write a table's rows. Raises DataError where a label is none of the training rows' classes."""
    return write_reviews(table.iter_reviews(text_column, label_column), labels, path, table.where)


def write_reviews(
    batches: Iterable[tuple[Sequence[str | None], Sequence[str]]], labels: LabelMap, path: Path, where: str
) -> SplitFacts:
    """Write batches of texts and label names as Parquet, in constant memory."""
    digest, text_bytes = hashlib.sha256(), 0
    with ReviewWriter(path) as writer:
        for texts, names in batches:
            ids = [labels.find(name) for name in names]
            if None in ids:
                raise _unknown(names[ids.index(None)], writer.num_rows + ids.index(None) + 1, labels, where)
            known = [index for index in ids if index is not None]
            writer.write(texts, known)
            for text, label in zip(texts, known, strict=True):
                encoded = (text or "").encode()
                digest.update(b"%d %d\n" % (label, len(encoded)))
                digest.update(encoded)
                text_bytes += len(encoded)
    return SplitFacts(writer.num_rows, text_bytes, digest.hexdigest())


def _unknown(name: str, row: int, labels: LabelMap, where: str) -> DataError:
    classes = ", ".join(repr(known) for known in labels.names[:20])
    return DataError(
        f"{where}, row {row:,}: label {name!r} is none of the training rows' classes ({classes}); a class that was "
        "never seen cannot be learned. Correct the label, or leave the row out."
    )
