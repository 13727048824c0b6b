"""``unroll predict`` and ``unroll generate``: the champion, or another version, at work."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flows.embedded import prepare_environment, workplace
from unroll.config import make_config, registered_name
from unroll.errors import ConfigError, DataError
from unroll.files import writing

logger = logging.getLogger("unroll.use")

OUTPUT_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")


def predict_texts(texts: Sequence[str], model: str | None) -> None:
    """Print label, probability and text, separated by tabs, a line for each text."""
    from unroll.prediction import SentimentPredictor
    from unroll.training.device import resolve_device

    with _model_folder("sentiment", model) as folder:
        predictor = SentimentPredictor.load(folder, resolve_device("auto"))
    probs = predictor.predict(texts)
    for text, row in zip(texts, probs, strict=True):
        line = " ".join(text.split())
        print(f"{predictor.class_names[row.argmax()]}\t{row.max():.4f}\t{line}")


def predict_file(input_path: Path, output_path: Path, text_column: str, model: str | None) -> None:
    """Write the input's columns with ``label`` and ``probability_<class>`` beside them, whole or not at all."""
    from unroll.data.progress import Progress
    from unroll.data.review_files import open_table
    from unroll.prediction import SentimentPredictor
    from unroll.training.device import resolve_device

    if output_path.suffix.lower() not in OUTPUT_SUFFIXES:
        raise ConfigError(f"--output {output_path}: expected a name that ends in one of {', '.join(OUTPUT_SUFFIXES)}.")
    table = open_table(input_path)
    if text_column not in table.columns:
        raise DataError(
            f"{input_path} has no column {text_column!r}; its columns are {', '.join(table.columns)}. Choose with "
            "--text-column NAME."
        )
    with _model_folder("sentiment", model) as folder:
        predictor = SentimentPredictor.load(folder, resolve_device("auto"))
    progress = Progress(f"predicting {input_path.name}", sum(map(_rows, table.read([text_column]))), "texts")
    with _writing_table(output_path) as write:
        for batch in table.read(table.columns):
            texts = [text if isinstance(text, str) else "" for text in batch[text_column]]
            predictions = predictor.predict_table(texts)
            clash = {name: f"predicted_{name}" for name in predictions.columns if name in batch}
            write({**batch, **predictions.rename(columns=clash).to_dict(orient="list")})
            progress.advance(len(texts))


def generate_texts(prompt: str, count: int, model: str | None, options: dict[str, Any]) -> None:
    """Print the prompt and what follows it, character by character; several texts with a line between them."""
    from unroll.generation import SamplingSettings, TextGenerator
    from unroll.training.device import resolve_device

    settings = SamplingSettings(**options)
    with _model_folder("language_model", model) as folder:
        generator = TextGenerator.load(folder, resolve_device("auto"))
    for sample in range(count):
        if sample:
            print("---")
        sys.stdout.write(prompt)
        for character in generator.stream(prompt, settings, sample=sample):
            sys.stdout.write(character)
            sys.stdout.flush()
        sys.stdout.write("\n")


@contextmanager
def _model_folder(project: str, model: str | None) -> Iterator[Path]:
    prepare_environment(workplace())
    import mlflow

    from tasks.registry import ModelRegistry

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    registry = ModelRegistry(mlflow.get_tracking_uri())
    version = registry.resolve(registered_name(make_config(project, {})), model)
    logger.info("using %s version %s", version.name, version.number)
    with registry.model_folder(version) as folder:
        yield folder


def _rows(batch: dict[str, list[Any]]) -> int:
    return len(next(iter(batch.values())))


@contextmanager
def _writing_table(path: Path) -> Iterator[Any]:
    """A function that appends a batch of columns; the file takes its name when all is written."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    suffix = path.suffix.lower()
    writer: pq.ParquetWriter | None = None
    with writing(path):
        file = partial.open("w", encoding="utf-8", newline="") if suffix != ".parquet" else None

    def write(batch: dict[str, list[Any]]) -> None:
        nonlocal writer
        if file is None:
            arrow = pa.table(batch) if writer is None else pa.table(batch, schema=writer.schema)
            writer = writer or pq.ParquetWriter(partial, arrow.schema)
            writer.write_table(arrow)
            return
        frame = pd.DataFrame(batch)
        if suffix in (".jsonl", ".ndjson"):
            frame.to_json(file, orient="records", lines=True, force_ascii=False)
        else:
            frame.to_csv(file, index=False, header=file.tell() == 0, sep="\t" if suffix == ".tsv" else ",")

    try:
        with writing(path):
            yield write
            if file is not None:
                file.close()
            if writer is not None:
                writer.close()
            os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
