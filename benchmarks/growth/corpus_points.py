"""Encoding, and an epoch of training, over the size of the corpus: a book or IMDb, repeated and changed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.growth.curves import Point
from benchmarks.growth.settings import CLOCK_GRAIN, ENDLESS
from benchmarks.long_text import change_letters, write_long_text
from benchmarks.measure import Stopwatch
from unroll.config import AnyConfig
from unroll.data.corpora import ReviewCorpus, ReviewWriter, TextCorpus
from unroll.data.encoded import EncodedCorpus
from unroll.files import sync_folder
from unroll.presets import load_config
from unroll.stages import download, encode
from unroll.store import Artifact

BOOK_CHARACTERS, QUICK_CHARACTERS = 1_112_350, 40_000
SAMPLE_REVIEWS, QUICK_REVIEWS = 25_000, 600
BETWEEN_TEXTS = "\0"


def measure(point: Point) -> dict[str, Any]:
    """Encode the point's corpus, or train on it for some steps of an epoch; the corpus is made first, untimed."""
    config, corpus = _text(point) if point.curve.startswith("text") else _reviews(point)
    encoded = corpus.with_name(f"{corpus.name}-encoded")
    size = {"size": _size_of(corpus)}
    if point.curve.endswith("encoding"):
        return {**size, **_time_encoding(config, corpus, encoded)}
    if not encoded.exists():
        _encode(config, corpus, encoded)
    return {**size, **_measure_epoch(point, config, encoded)}


def _measure_epoch(point: Point, config: AnyConfig, encoded: Path) -> dict[str, Any]:
    # late, for PyTorch is no part of the memory that encoding takes
    from benchmarks.growth.training import measure_steps
    from unroll.training.fit import make_problem
    from unroll.training.seed import seed_torch

    seed_torch(point.seed)
    found = measure_steps(point, make_problem(config, EncodedCorpus.open(encoded)), config.training)
    of_epoch = {name: found[name] * found["steps_per_epoch"] for name in ("seconds", "cpu_seconds")}
    return {**found, "step_seconds": found["seconds"], **of_epoch}


def _time_encoding(config: AnyConfig, corpus: Path, encoded: Path) -> dict[str, Any]:
    import unroll.data.corpus_encoding  # noqa: F401 - its imports are no part of the work

    sync_folder(corpus)  # writing the ids would wait for the disk to take the corpus
    watch = Stopwatch()
    _encode(config, corpus, encoded)
    lap = watch.lap()
    elsewhere = None if lap.elsewhere_seconds is None else lap.elsewhere_seconds / lap.seconds
    return {"seconds": lap.seconds, "cpu_seconds": max(lap.cpu_seconds, CLOCK_GRAIN), "elsewhere_cores": elsewhere}


def _encode(config: AnyConfig, corpus: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    encode(config, Artifact("download", "", str(corpus), ""), target)


def _size_of(corpus: Path) -> int:
    if (corpus / "text.txt").exists():
        return len(TextCorpus.open(corpus).text)
    return ReviewCorpus.open(corpus).num_rows("train")


def _text(point: Point) -> tuple[AnyConfig, Path]:
    settings = ["model.hidden_size=128", "training.precision=float32", f"seed={point.seed}", *ENDLESS]
    config = load_config("language_model", "sample", settings)
    folder = Path(point.work_folder) / f"text-{point.size}"
    if not folder.exists():
        once = Path(point.work_folder) / "book"
        source = ["data.source=gutenberg"] if point.real_corpora else [f"data.sample_size={_characters(point)}"]
        _download(load_config("language_model", "sample", source), once)
        book = TextCorpus.open(once).text[:]
        folder.mkdir()
        write_long_text(folder / "text.txt", point.size * len(book.encode()), point.seed, book)
        (folder / "corpus.json").write_text(json.dumps({"kind": "text"}))
    return config, folder


def _characters(point: Point) -> int:
    return QUICK_CHARACTERS if point.quick else BOOK_CHARACTERS


def _reviews(point: Point) -> tuple[AnyConfig, Path]:
    settings = ["training.precision=float32", "training.max_minutes=null", f"seed={point.seed}", *ENDLESS]
    config = load_config("sentiment", "fast", settings)
    folder = Path(point.work_folder) / f"reviews-{point.size}"
    if not folder.exists():
        once = Path(point.work_folder) / "reviews"
        count = QUICK_REVIEWS if point.quick else SAMPLE_REVIEWS
        source = ["data.source=imdb"] if point.real_corpora else ["data.source=sample", f"data.sample_size={count}"]
        _download(load_config("sentiment", "fast", source), once)
        _repeat_reviews(ReviewCorpus.open(once), point, folder)
    return config, folder


def _download(config: AnyConfig, folder: Path) -> None:
    if not folder.exists():
        folder.mkdir()
        download(config, folder)


def _repeat_reviews(corpus: ReviewCorpus, point: Point, folder: Path) -> None:
    """Copies of the training file's reviews, each with letters of its own, as a corpus."""
    folder.mkdir()
    generator = np.random.default_rng(point.seed)
    with ReviewWriter(folder / "train.parquet") as writer:
        for _ in range(point.size):
            for texts, labels in _chunks(corpus):
                joined = np.frombuffer(BETWEEN_TEXTS.join(texts).encode(), np.uint8).copy()
                change_letters(joined, generator)
                writer.write(joined.tobytes().decode().split(BETWEEN_TEXTS), labels)
    info = {"kind": "reviews", "class_names": list(corpus.class_names)}
    (folder / "corpus.json").write_text(json.dumps(info))


def _chunks(corpus: ReviewCorpus) -> Iterator[tuple[list[str], list[int]]]:
    for table in corpus.iter_tables("train"):
        yield table["text"].to_pylist(), table["label"].to_pylist()
