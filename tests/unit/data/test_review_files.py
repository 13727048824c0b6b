from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unroll.data import review_files
from unroll.data.review_files import open_table, require_columns
from unroll.errors import DataError

TEXTS = ["plain", 'a "quoted", comma', "two\nlines", "NA", "é — ∞", "007"]
LABELS = ["1", "0", "1", "0", "1", "0"]


def write(path: Path, texts: list[str], labels: list[Any]) -> Path:
    rows = [
        {"id": number, "text": text, "label": label}
        for number, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    if path.suffix in (".csv", ".tsv"):
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["id", "text", "label"], delimiter="," if path.suffix == ".csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1))
    else:
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    return path


def read(path: Path) -> tuple[list[str | None], list[str]]:
    table = open_table(path)
    batches = list(table.iter_reviews("text", "label"))
    return [text for texts, _ in batches for text in texts], [name for _, names in batches for name in names]


@pytest.mark.parametrize("suffix", review_files.SUFFIXES)
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review_files, "CHUNK_ROWS", 4)
    path = write(tmp_path / f"reviews{suffix}", TEXTS, LABELS)
    assert open_table(path).columns == ("id", "text", "label")
    assert read(path) == (TEXTS, LABELS)


@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), min_size=1)
)
def test_any_text_survives_csv(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("csv") / "reviews.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([["text", "label"], *([text, "1"] for text in texts)])
    assert read(path) == (texts, ["1"] * len(texts))


@pytest.mark.parametrize("labels", [[1, 0], [True, False], [1.0, 0.0], ["1", "0"]])
def test_labels_of_any_type_have_names(tmp_path: Path, labels: list[Any]) -> None:
    _, names = read(write(tmp_path / "reviews.parquet", ["a", "b"], labels))
    assert names in (["1", "0"], ["true", "false"])


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_missing_labels_are_named_by_row(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review_files, "CHUNK_ROWS", 2)
    path = write(tmp_path / f"reviews{suffix}", TEXTS, ["1", None, "0", "1", None, "0"])
    with pytest.raises(DataError, match=r"2 of 6 rows have no 'label' \(row 2, 5\)"):
        read(path)


def test_a_missing_column_is_answered_with_those_there_are(tmp_path: Path) -> None:
    columns = open_table(write(tmp_path / "reviews.csv", TEXTS, LABELS)).columns
    with pytest.raises(
        DataError, match=r"no column 'texts'.*'id', 'text', 'label'; did you mean --set data.text_column=text"
    ):
        require_columns("reviews.csv", columns, "texts", "label")
    with pytest.raises(DataError, match=r"data.label_column=NAME"):
        require_columns("reviews.csv", columns, "text", "zzz")
    with pytest.raises(DataError, match="both name"):
        require_columns("reviews.csv", columns, "text", "text")
    with pytest.raises(DataError, match="2 columns named 'text'"):
        require_columns("reviews.csv", ["text", "text", "label"], "text", "label")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "empty"),
        ("a.csv", b"text,label\n", "no rows"),
        ("a.csv", b"text,label", "cannot be read"),
        ("a.csv", b"text,label\nit was good, really,1\n", "Expected 2 columns, got 3"),
        ("a.csv", b"text,label\nno label\n", "Expected 2 columns, got 1"),
        ("a.csv", b'text,label\n"never closed,1\n', "cannot be read"),
        ("a.csv", b"text,label\na\0b,1\n", "binary"),
        ("a.csv", "text,label\né,1\n".encode("latin-1"), "not UTF-8"),
        ("a.parquet", b"text,label\na,1\n", "cannot be read"),
        ("a.jsonl", b"\n\n", "no rows"),
        ("a.jsonl", b'{"text": "a", "label": 1}\n{"text": "b"\n', "line 2 is not JSON"),
        ("a.jsonl", b'{"text": "a", "label": 1}\n7\n', "line 2 is a int"),
        ("a.jsonl", b'{"text": "a", "label": 1}\n{"text": 7, "label": 1}\n', "row 2: column 'text' holds 7"),
        ("a.jsonl", b'{"text": "a", "label": [1]}\n', "rows 1 to 1: a label is"),
        ("a.json", b"[]", "no rows"),
        ("a.xlsx", b"PK", "ends in '.xlsx'; expected one of .csv"),
    ],
)
def test_what_cannot_be_read_is_refused_with_a_reason(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path / name)


def test_a_cut_parquet_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "reviews.parquet", TEXTS, LABELS)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="a file that is whole"):
        read(path)


def test_a_text_column_of_numbers_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "reviews.parquet", TEXTS, LABELS)
    with pytest.raises(DataError, match=r"column 'id' holds 0 \(int\); expected text"):
        list(open_table(path).iter_reviews("id", "label"))
