"""Where a corpus comes from: made here, IMDb, Project Gutenberg, or the user's own files; all end in one layout.

The functions write into an empty folder that the caller publishes whole, so they never clean up after a failure.
"""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from unroll.config import SentimentDataConfig, TextDataConfig
from unroll.data import gutenberg, imdb
from unroll.data.corpora import CHUNK_ROWS
from unroll.data.hub import LoadedSplit, load_splits
from unroll.data.labels import LabelMap
from unroll.data.review_files import ReviewTable, open_table, parquet_table, require_columns
from unroll.data.review_import import scan_labels, write_reviews, write_table
from unroll.data.text_files import MIN_CHARACTERS, MIN_TEST_CHARACTERS, copy_text
from unroll.errors import DataError
from unroll.files import sha256_of, write_json

Info = dict[str, Any]


def fetch_reviews(config: SentimentDataConfig, seed: int, folder: Path, mirror: Path | None) -> None:
    """Write a corpus of reviews (see `unroll.data.corpora`) into ``folder``.

    ``mirror`` is a folder laid out as ``imdb/plain_text/*.parquet``, tried before the network. Raises DataError for
    files that are missing or cannot be used, DownloadError where neither the mirror nor the network gave the corpus.
    """
    if config.source == "sample":
        labels, info = _make_reviews(config, seed, folder)
    elif config.source == "imdb":
        labels, info = imdb.LABELS, imdb.fetch_imdb(folder, mirror)
    else:
        labels, info = _import_reviews(config, folder)
    if config.test_source is not None:
        info["files"]["test"] = _import_test(config, labels, folder)
    rows = {split: facts["rows"] for split, facts in info["files"].items()}
    info = {"kind": "reviews", "source": config.source, "class_names": labels.names, "rows": rows} | info
    write_json(folder / "corpus.json", info)


def fetch_text(config: TextDataConfig, seed: int, folder: Path, mirror: Path | None) -> None:
    """Write a corpus of running text (see `unroll.data.corpora`) into ``folder``.

    ``mirror`` is a folder laid out as ``gutenberg/{ebook}-0.txt``, tried before the network. Raises DataError for a
    file that is missing, binary or too short, DownloadError where neither the mirror nor the network gave the book.
    """
    if config.source == "sample":
        info = _make_text(config, seed, folder)
    elif config.source == "gutenberg":
        info = gutenberg.fetch_book(config.ebook, folder, mirror)
    else:
        info = _import_text(Path(config.source), folder / "text.txt", MIN_CHARACTERS)
    if config.test_source is not None:
        facts = _import_text(Path(config.test_source), folder / "test.txt", MIN_TEST_CHARACTERS)
        info["test_characters"] = facts["characters"]
        info["files"] |= facts["files"]
    write_json(folder / "corpus.json", {"kind": "text", "source": config.source} | info)


def source_fingerprint(config: SentimentDataConfig | TextDataConfig, mirror: Path | None) -> dict[str, str]:
    """What a download's key must hold about the world outside: digests of the user's files, the name of the rest.

    A made or public corpus has the same fingerprint with and without a mirror or network, so a copy that was fetched
    once is found again. Raises DataError where a file is missing.
    """
    del mirror  # the checks on what it gives make it the same corpus as the network's
    parts = {"source": _fingerprint(config, config.source)}
    if config.test_source is not None:
        parts["test_source"] = _path_digest(Path(config.test_source))
    return parts


def _fingerprint(config: SentimentDataConfig | TextDataConfig, source: str) -> str:
    if source == "gutenberg" and isinstance(config, TextDataConfig):
        return f"gutenberg {config.ebook}"
    public = ("sample", "imdb") if isinstance(config, SentimentDataConfig) else ("sample",)
    return source if source in public else _path_digest(Path(source))


def _path_digest(path: Path) -> str:
    """SHA-256 of a file, or over the names and digests of the files of a folder; the ending says how it is read."""
    if path.is_file():
        return f"{path.suffix.lower()} {sha256_of(path)}"
    if not path.is_dir():
        raise DataError(
            f"There is no file or folder {path}; data.source takes sample, imdb (reviews), gutenberg (text) or a path."
        )
    files = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    lines = "".join(f"{sha256_of(file)} {file.relative_to(path)}\n" for file in files)
    return f"folder {hashlib.sha256(lines.encode()).hexdigest()}"


def _make_reviews(config: SentimentDataConfig, seed: int, folder: Path) -> tuple[LabelMap, Info]:
    from unroll.data.sample import CLASS_NAMES, iter_reviews

    labels = LabelMap(tuple(CLASS_NAMES), {str(label): label for label in range(len(CLASS_NAMES))})
    batches = (
        ([review.text for review in reviews], [CLASS_NAMES[review.label] for review in reviews])
        for reviews in iter_reviews(config.sample_size, seed, CHUNK_ROWS)
    )
    facts = write_reviews(batches, labels, folder / "train.parquet", "the sample")
    return labels, {"origin": "sample", "files": {"train": asdict(facts)}}


def _import_reviews(config: SentimentDataConfig, folder: Path) -> tuple[LabelMap, Info]:
    columns = (config.text_column, config.label_column)
    source, scratch = Path(config.source), folder / "_source"
    files: Info = {}
    try:
        tables = _open_tables(source, columns, scratch)
        train = tables.get("train") or tables[min(tables)]
        labels = scan_labels(train, *columns)
        wanted = {"train": train}
        if config.test_source is None and train is tables.get("train") and "test" in tables:
            wanted["test"] = tables["test"]
        for split, table in wanted.items():
            files[split] = asdict(write_table(table, *columns, labels, folder / f"{split}.parquet"))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return labels, {"origin": "file", "files": files}


def _import_test(config: SentimentDataConfig, labels: LabelMap, folder: Path) -> Info:
    columns = (config.text_column, config.label_column)
    scratch = folder / "_test_source"
    try:
        tables = _open_tables(Path(str(config.test_source)), columns, scratch)
        test = tables.get("test") or tables[min(tables)]
        return asdict(write_table(test, *columns, labels, folder / "test.parquet"))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _open_tables(path: Path, columns: tuple[str, str], scratch: Path) -> dict[str, ReviewTable]:
    if not path.exists():
        raise DataError(
            f"There is no file or folder {path}; data.source takes sample, imdb, or a path to CSV, TSV, Parquet, JSON "
            "lines or a folder of them."
        )
    if path.is_dir():
        return {
            split: _folder_table(f"{path.name} ({split})", loaded, columns)
            for split, loaded in load_splits(str(path), columns, scratch).items()
        }
    table = open_table(path)
    require_columns(table.where, table.columns, *columns)
    return {"train": table}


def _folder_table(where: str, loaded: LoadedSplit, columns: tuple[str, str]) -> ReviewTable:
    require_columns(where, loaded.columns, *columns)
    return parquet_table(loaded.path, where, loaded.class_names)


def _make_text(config: TextDataConfig, seed: int, folder: Path) -> Info:
    from unroll.data.sample import iter_prose

    size, written, alphabet = config.sample_size, 0, set[str]()
    header = {"descr": np.dtype(np.float32).str, "fortran_order": False, "shape": (size,)}
    with (
        (folder / "text.txt").open("w", encoding="utf-8", newline="") as file,
        (folder / "bits.npy").open("wb") as bits,
    ):
        # written, not mapped: on a full disk, writing to a mapped file kills the process
        np.lib.format.write_array_header_1_0(bits, header)
        for prose in iter_prose(size, seed):
            file.write(prose.text)
            bits.write(np.asarray(prose.bits, dtype=np.float32).tobytes())
            written += len(prose.text)
            alphabet.update(prose.text)
    return {"origin": "sample", "characters": written, "distinct": len(alphabet), "files": {}}


def _import_text(source: Path, target: Path, minimum: int) -> Info:
    facts = copy_text(source, target, minimum)
    files = {target.name: sha256_of(source)}
    return {"origin": "file", "characters": facts.characters, "distinct": facts.distinct, "files": files}
